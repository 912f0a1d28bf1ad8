"""Which VAE explains the same test images better: each against the first, in pairs (P5, P11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from visus.figures import AnyFigure
from visus.measures.compare import PairedDifference
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.gallery import nats
from visus.studies.vae.pairing import Comparisons, VaeComparison

KEY, QUESTION = "comparison", "Which explains unseen images better?"
SHOWS = ("pairs",)


@dataclass(frozen=True)
class ComparisonMeasures:
    """pairs: every further VAE against the first. swept: whether a sweep tells of them."""

    pairs: tuple[VaeComparison, ...]
    swept: bool = False


def measure(evaluations: Sequence[VaeEvaluation], comparisons: Comparisons) -> ComparisonMeasures:
    """Compare every further VAE with the first."""
    first = evaluations[0]
    return ComparisonMeasures(
        tuple(comparisons.of(e, first) for e in evaluations[1:]), swept=first.model.setting is not None
    )


def keys(c: VaeComparison) -> tuple[str, str]:
    """Of the differences in negative ELBO and in log-likelihood."""
    pair = key_of(c.a, "minus", c.b)
    return key_of(pair, "negative-elbo"), key_of(pair, "log-likelihood")


def metrics(m: ComparisonMeasures) -> tuple[Metric, ...]:
    found = []
    for c in m.pairs:
        of_elbo, of_likelihood = keys(c)
        found.append(_metric(c, of_elbo, "negative ELBO", c.negative_elbo, "lower"))
        found.append(_metric(c, of_likelihood, "log-likelihood", c.log_likelihood, "higher"))
    return tuple(found)


def _metric(c: VaeComparison, key: str, what: str, d: PairedDifference, better: Literal["lower", "higher"]) -> Metric:
    direction = better if c.comparable else None
    return Metric(key, d.difference, d.low, d.high, d.n, "nats", direction, label=f"{what}, {c.a} − {c.b}")


def tables(m: ComparisonMeasures) -> tuple[Table, ...]:
    return (
        Table(
            key="pairs",
            title="On the same test images, in pairs",
            columns=(
                Column("a", "A"),
                Column("b", "B"),
                nats("negative_elbo", "negative ELBO, A − B"),
                nats("negative_elbo_low", "low"),
                nats("negative_elbo_high", "high"),
                nats("log_likelihood", "log-likelihood, A − B"),
                nats("log_likelihood_low", "low"),
                nats("log_likelihood_high", "high"),
            ),
            rows=[(c.a, c.b, *_cells(c.negative_elbo), *_cells(c.log_likelihood)) for c in m.pairs],
            note="Nats per image; 95 % paired bootstrap intervals over images, 10,000 resamples. Lower negative ELBO and higher log-likelihood "
            "are better; decoders of different likelihoods are not comparable.",
        ),
    )


def _cells(d: PairedDifference) -> tuple[float, float, float]:
    return d.difference, d.low, d.high


def figures(m: ComparisonMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: ComparisonMeasures) -> tuple[Finding, ...]:
    said: list[Finding] = []
    for c in () if m.swept else m.pairs:
        of_elbo, of_likelihood = keys(c)
        if not c.comparable:
            text = f"{c.a} against {c.b}: their decoders differ, so their likelihoods are not compared."
            said.append(Finding(text, shows=SHOWS))
            continue
        elbo = ("lower, better", "higher, worse")
        said.append(_difference(c, "negative ELBO", c.negative_elbo, elbo, of_elbo))
        said.append(_difference(c, "log-likelihood", c.log_likelihood, ("worse", "better"), of_likelihood))
    return tuple(said)


def _difference(c: VaeComparison, what: str, d: PairedDifference, words: tuple[str, str], key: str) -> Finding:
    """words: what it means where the difference is below 0, and above."""
    word = words[d.difference > 0] if d.clear else "undecided"
    text = f"{c.a} against {c.b}: {what} {d.difference:+.2f} nats per image ({d.low:+.2f} to {d.high:+.2f}): {word}."
    return Finding(text, (key,), SHOWS, "result" if d.clear else "undecided")


def answer(m: ComparisonMeasures) -> str:
    """The study's one sentence: the last VAE (mitigated, fixed) against the first."""
    c = m.pairs[-1]
    if not c.comparable:
        return f"{c.a} and {c.b} have decoders of different likelihoods, so neither explains unseen images better."
    d = c.negative_elbo
    if not d.clear:
        return f"Whether {c.a} or {c.b} explains unseen images better is undecided."
    better, worse = (c.a, c.b) if d.difference < 0 else (c.b, c.a)
    return f"{better} explains unseen images better than {worse}: its negative ELBO is {abs(d.difference):.2f} nats per image lower."
