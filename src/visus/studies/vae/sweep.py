"""What a setting trades: rate against distortion, dimensions in use, and what validation prefers (P11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure, Lines, Series
from visus.result import Finding, Metric, Table
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.latent import LatentMeasures
from visus.studies.vae.likelihood import LikelihoodMeasures, LikelihoodRow
from visus.studies.vae.pairing import Comparisons, VaeComparison

KEY, QUESTION = "sweep", "What does the setting trade?"
SHOWS = ("summary", "rate-distortion", "used")


@dataclass(frozen=True)
class SettingRow:
    """One setting of the sweep (None: a rerun that fixes), how well images are explained, and dimensions active by their variance."""

    setting: float | None
    likelihood: LikelihoodRow
    active_by_variance: int


@dataclass(frozen=True)
class SweepMeasures:
    """kind: what is swept. rows: in the order of the settings. best, next_best: numbers of the rows that validation puts first and second, with
    their comparison on test images (None where they are not comparable)."""

    kind: str
    rows: tuple[SettingRow, ...]
    best: int = 0
    next_best: int = 1
    comparison: VaeComparison | None = None

    @property
    def best_name(self) -> str:
        return self.rows[self.best].likelihood.name


def measure(
    evaluations: Sequence[VaeEvaluation],
    likelihood: LikelihoodMeasures,
    latent: LatentMeasures,
    comparisons: Comparisons,
) -> SweepMeasures:
    """Put the settings side by side; the best is validation's, and test images are asked once."""
    rows = tuple(
        SettingRow(e.model.setting, row, units.active_by_variance)
        for e, row, units in zip(evaluations, likelihood.rows, latent.rows, strict=True)
    )
    kind = evaluations[0].name.partition(" ")[0]
    if (
        len({e.vae.decoder for e in evaluations}) > 1
        or len(evaluations) < 2
        or not all(e.model.trained for e in evaluations)
    ):
        return SweepMeasures(kind, rows)
    best, following = sorted(range(len(evaluations)), key=lambda i: _validation(evaluations[i]))[:2]
    return SweepMeasures(kind, rows, best, following, comparisons.of(evaluations[best], evaluations[following]))


def _validation(e: VaeEvaluation) -> float:
    """Negative ELBO of the validation images in nats per image, mean over trainings."""
    chosen = [t.fit.epochs[t.fit.best].parts for t in e.model.trained]
    return float(np.mean([p["val_reconstruction"] + p["val_kl"] for p in chosen]))


def metrics(m: SweepMeasures) -> tuple[Metric, ...]:
    return ()


def tables(m: SweepMeasures) -> tuple[Table, ...]:
    return ()


def figures(m: SweepMeasures) -> tuple[AnyFigure, ...]:
    return _rate_distortion(m), _used(m)


def _rate_distortion(m: SweepMeasures) -> Lines:
    points = sorted((r.likelihood.kl, r.likelihood.reconstruction, r.likelihood.name) for r in m.rows)
    sweep = Series(name="sweep", x=[x for x, _, _ in points], y=[y for _, y, _ in points])
    return Lines(
        key="rate-distortion",
        title="Rate and distortion",
        caption="What the code costs against what it leaves wrong, on test images; low and left is better (Alemi et al. 2018).",
        x_label="rate: KL",
        y_label="distortion: reconstruction",
        x_unit="nats per image",
        unit="nats per image",
        series=(sweep, *(Series(name=name, x=[x], y=[y]) for x, y, name in points)),
    )


def _used(m: SweepMeasures) -> Lines:
    rows = [r for r in m.rows if r.setting is not None]  # a rerun that fixes has none
    x = [r.setting for r in rows if r.setting is not None]
    return Lines(
        key="used",
        title="How many dimensions are used",
        caption=f"Active latent dimensions by {m.kind}, on test images.",
        x_label=m.kind,
        y_label="active dimensions",
        x_log=m.kind == "beta" and min(x) > 0,
        series=(
            Series(name="active by KL", x=x, y=[r.likelihood.active for r in rows]),
            Series(name="active by variance", x=x, y=[r.active_by_variance for r in rows]),
        ),
    )


def findings(m: SweepMeasures) -> tuple[Finding, ...]:
    said = []
    for row in m.rows:
        r = row.likelihood
        text = f"{r.name}: KL {r.kl:.1f} and reconstruction {r.reconstruction:.1f} nats per test image, {r.active} of {r.latent} dimensions active."
        said.append(Finding(text, (r.key("kl"), r.key("reconstruction"), r.key("active-dimensions")), SHOWS))
    if (c := m.comparison) is None:
        return tuple(said)
    best, bound = m.rows[m.best].likelihood, m.rows[m.best].likelihood.log_likelihood
    d = c.log_likelihood
    text = f"Validation prefers {c.a}, by its negative ELBO, and puts {c.b} next."
    said.append(Finding(text, (best.key("negative-elbo"),), ("summary",)))
    text = f"On test images the log-likelihood of {c.a} is {bound.value:,.1f} ± {best.stderr:.1f} nats."
    said.append(Finding(text, (best.key("log-likelihood"),), ("summary",)))
    text = f"{c.a} against {c.b}: log-likelihood {d.difference:+.2f} nats per image ({d.low:+.2f} to {d.high:+.2f})"
    told = Finding(
        f"{text}." if d.clear else f"{text}: undecided.", shows=("pairs",), kind="result" if d.clear else "undecided"
    )
    return (*said, told)


def answer(m: SweepMeasures) -> str:
    """The study's one sentence."""
    rows = [r.likelihood for r in m.rows]
    if m.comparison is None:
        return f"From {rows[0].name} to {rows[-1].name} the KL goes from {rows[0].kl:.1f} to {rows[-1].kl:.1f} nats per image."
    best = rows[m.best]
    bound = best.log_likelihood
    return f"Validation prefers {best.name}: its log-likelihood on test images is {bound.value:,.1f} ± {best.stderr:.1f} nats."
