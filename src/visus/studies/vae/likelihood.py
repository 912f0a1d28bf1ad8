"""How well does a VAE explain images that it was not trained on: both sides of the ELBO, and the likelihood (P11)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.features.latents import decoded_latents
from visus.figures import AnyFigure
from visus.measures.intervals import MeanInterval, mean_interval
from visus.models.vae import Decoder
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.gallery import NAME, ImageRow, gallery, nats
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.options import EvaluationOptions

KEY, QUESTION = "likelihood", "How well are unseen images explained?"
NO_WORSE = 1.1  # times the mean image's error
FEW_ENOUGH = 2000  # training images to know the mean image's error by
UNIFORM = 8.0  # bits a pixel of 256 levels, all alike
FEW_EFFECTIVE = 2.0  # importance samples that count, of K


@dataclass(frozen=True)
class Bits:
    """What a Gaussian's bits per dimension are made of. error: mean squared error; mean_error: that of the mean image; best: bits with the
    variance that fits the errors; code: bits of the KL."""

    error: float
    mean_error: float
    best: float
    code: float


@dataclass(frozen=True)
class LikelihoodRow:
    """One VAE on n test images, in nats per image. reconstruction: of one sample of z; at_mean: from the posterior mean. log_likelihood: the
    importance-weighted bound with k samples, over its own n. effective_samples: of the k. minutes: of all trainings (None: none here). bits:
    None for a decoder other than the fixed Gaussian."""

    name: str
    decoder: Decoder
    reconstruction: float
    kl: float
    negative_elbo: MeanInterval
    at_mean: float
    log_likelihood: MeanInterval
    stderr: float
    bits_per_dimension: float
    k: int
    effective_samples: float
    active: int
    latent: int
    parameters: int
    minutes: float | None
    bits: Bits | None

    def key(self, what: str) -> str:
        """Of a metric of it."""
        return key_of(self.name, what)


@dataclass(frozen=True)
class WithoutRepeats:
    """One figure of a VAE on all test images, and on those that are no training images."""

    name: str
    what: str
    whole: MeanInterval
    without: MeanInterval


@dataclass(frozen=True)
class LikelihoodMeasures:
    """rows: by VAE. repeated: test images that are training images too; without: figures without them (none where there are none).
    originals, reconstructions: image rows; the values of the second are their reconstruction terms; names: classes of the originals.
    swept: whether a sweep tells of the rows."""

    rows: tuple[LikelihoodRow, ...]
    repeated: int
    without: tuple[WithoutRepeats, ...]
    originals: ImageRow
    names: tuple[str, ...]
    reconstructions: tuple[ImageRow, ...]
    swept: bool = False


def measure(
    evaluations: Sequence[VaeEvaluation], images: ImageArrays, options: EvaluationOptions
) -> LikelihoodMeasures:
    """Means, intervals and reconstructions of test images."""
    some = images.train[:FEW_ENOUGH].reshape(min(len(images.train), FEW_ENOUGH), -1).astype(np.float32)
    mean_error = float(some.var(axis=0).mean()) / 255**2
    n, repeated = options.shown, images.repeated
    labels = None if images.labels is None else images.labels["test"][:n]
    return LikelihoodMeasures(
        rows=tuple(_row(e, mean_error) for e in evaluations),
        repeated=0 if repeated is None else int(repeated.sum()),
        without=() if repeated is None else without_repeats(repeated, evaluations),
        originals=ImageRow("test images", images.test[:n]),
        names=() if labels is None else tuple(images.classes[i] for i in labels),
        reconstructions=tuple(
            ImageRow(
                e.name,
                decoded_latents(e.vae, e.posteriors.mu[:n], device=options.device),
                tuple(map(float, e.bounds.at_mean[:n])),
            )
            for e in evaluations
        ),
        swept=evaluations[0].model.setting is not None,
    )


def _row(e: VaeEvaluation, mean_error: float) -> LikelihoodRow:
    b, found, trained = e.bounds, e.likelihood, e.model.trained
    return LikelihoodRow(
        name=e.name,
        decoder=e.vae.decoder,
        reconstruction=float(b.reconstruction.mean()),
        kl=float(b.kl.mean()),
        negative_elbo=mean_interval(b.reconstruction + b.kl),
        at_mean=float(b.at_mean.mean()),
        log_likelihood=mean_interval(found.per_image),
        stderr=found.stderr,
        bits_per_dimension=found.bits_per_dimension,
        k=found.k,
        effective_samples=found.effective_samples,
        active=e.n_active,
        latent=e.vae.latent,
        parameters=e.vae.parameters,
        minutes=sum(t.fit.seconds for t in trained) / 60 if trained else None,
        bits=bits_of(e, mean_error) if e.vae.decoder.kind == "gaussian" else None,
    )


def bits_of(e: VaeEvaluation, mean_error: float) -> Bits:
    """Of a VAE with a Gaussian decoder of a fixed variance. mean_error: squared error of the mean image, a pixel."""
    pixels = e.vae.pixels
    error = float(e.bounds.reconstruction.mean()) * 2 * e.vae.decoder.variance / pixels
    best = UNIFORM + 0.5 * math.log2(2 * math.pi * math.e * max(error, 1e-12))
    return Bits(error, mean_error, best, float(e.bounds.kl.mean()) / (pixels * math.log(2)))


def without_repeats(repeated: np.ndarray, evaluations: Sequence[VaeEvaluation]) -> tuple[WithoutRepeats, ...]:
    """The ELBO and the likelihood of all test images, and of those that are no training images. repeated: bool [n test]."""
    found = []
    for e in evaluations:
        for what, values in (
            ("negative ELBO", e.bounds.reconstruction + e.bounds.kl),
            ("log-likelihood", e.likelihood.per_image),
        ):
            left = values[~repeated[: len(values)]]
            found.append(WithoutRepeats(e.name, what, mean_interval(values), mean_interval(left)))
    return tuple(found)


def metrics(m: LikelihoodMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        elbo, bound = r.negative_elbo, r.log_likelihood
        found += [
            Metric(
                r.key("negative-elbo"), elbo.value, elbo.low, elbo.high, elbo.n, "nats", "lower",
                label=f"negative ELBO, {r.name}",
            ),
            Metric(r.key("reconstruction"), r.reconstruction, n=elbo.n, unit="nats", label=f"reconstruction, {r.name}"),
            Metric(r.key("kl"), r.kl, n=elbo.n, unit="nats", label=f"KL, {r.name}"),
            Metric(
                r.key("log-likelihood"), bound.value, bound.low, bound.high, bound.n, "nats", "higher",
                label=f"log-likelihood, {r.name}",
            ),
            Metric(
                r.key("bits-per-dimension"), r.bits_per_dimension, n=bound.n, unit="bits", better="lower",
                label=f"bits per dimension, {r.name}",
            ),
        ]  # fmt: skip
    return tuple(found)


def tables(m: LikelihoodMeasures) -> tuple[Table, ...]:
    return (_summary(m), _without_repeats(m)) if m.without else (_summary(m),)


def _summary(m: LikelihoodMeasures) -> Table:
    first = m.rows[0]
    return Table(
        key="summary",
        title="On test images, per image",
        columns=(
            NAME,
            nats("reconstruction", "reconstruction"),
            nats("kl", "KL"),
            nats("negative_elbo", "negative ELBO"),
            nats("low", "low"),
            nats("high", "high"),
            nats("reconstruction_from_mean", "reconstruction from the mean"),
            nats("log_likelihood", "log-likelihood"),
            nats("standard_error", "± standard error"),
            Column("bits_per_dimension", "bits per dimension", digits=2),
            Column("active", "active"),
            Column("latent", "of"),
            Column("parameters", "parameters"),
            Column("minutes", "training", "minutes", 2),
        ),
        rows=[
            (
                r.name, r.reconstruction, r.kl, r.negative_elbo.value, r.negative_elbo.low, r.negative_elbo.high, r.at_mean,
                r.log_likelihood.value, r.stderr, r.bits_per_dimension, r.active, r.latent, r.parameters, r.minutes,
            )
            for r in m.rows
        ],
        note=f"n = {first.negative_elbo.n:,}. low, high: 95 % normal interval of the negative ELBO at beta 1. Reconstruction: "
        f"{_term(first.decoder)}, of one sample of z; KL summed over dimensions. Log-likelihood: importance-weighted bound, K = {first.k}, of "
        f"{first.log_likelihood.n:,} test images, all constants in; bits per dimension "
        + ("count 256 levels." if first.decoder.density else "are no density's: pixels are grey, Bernoulli is not.")
        + " Active: mean KL above 0.01 nats.",
    )  # fmt: skip


def _term(decoder: Decoder) -> str:
    if decoder.kind == "gaussian":
        scale = "" if decoder.variance == 0.5 else f" / {2 * decoder.variance:g}"
        return f"squared error summed over pixels{scale}"
    return "negative log-likelihood of the decoder, summed over pixels"


def _without_repeats(m: LikelihoodMeasures) -> Table:
    rows = []
    for w in m.without:
        cells = [c for part in (w.whole, w.without) for c in (part.value, part.low, part.high, part.n)]
        rows.append((w.name, w.what, *cells))
    return Table(
        key="without-repeats",
        title=f"Without the {m.repeated:,} test images that are training images too",
        columns=(
            NAME,
            Column("figure", "per image"),
            nats("all", "all"),
            nats("low", "low"),
            nats("high", "high"),
            Column("n", "n"),
            nats("without", "without repeats"),
            nats("low_without", "low, without repeats"),
            nats("high_without", "high, without repeats"),
            Column("n_without", "n, without repeats"),
        ),
        rows=rows,
        note="The same image: equal pixels as the VAE sees them. low, high: 95 % normal interval. n: the images of each figure.",
    )


def figures(m: LikelihoodMeasures) -> tuple[AnyFigure, ...]:
    rows = [(m.originals, m.names), *((row, [f"{v:.1f} nats" for v in row.values]) for row in m.reconstructions)]
    return (
        gallery(
            "reconstructions",
            "Originals above reconstructions",
            "Test images, not chosen, and what each VAE makes of their posterior means, with the reconstruction term of each.",
            rows,
        ),
    )


def findings(m: LikelihoodMeasures) -> tuple[Finding, ...]:
    said = []
    for r in () if m.swept else m.rows:
        keys = (r.key("reconstruction"), r.key("kl"), r.key("negative-elbo"))
        text = f"{r.name}: reconstruction {r.reconstruction:.1f} + KL {r.kl:.1f} = {r.negative_elbo.value:.1f} nats per test image."
        said.append(Finding(text, keys, ("summary", "reconstructions")))
        text = (
            f"{r.name}: log-likelihood {r.log_likelihood.value:,.1f} ± {r.stderr:.1f} nats (importance-weighted bound)"
        )
        text += f", {r.bits_per_dimension:.2f} bits per dimension." if r.decoder.density else "."
        said.append(Finding(text, (r.key("log-likelihood"), r.key("bits-per-dimension")), ("summary",)))
    for r in m.rows:
        if r.effective_samples < FEW_EFFECTIVE:
            text = (
                f"{r.name}: of {r.k} importance samples {r.effective_samples:.1f} count, so its log-likelihood is a loose bound; "
                "give a larger --importance."
            )
            said.append(Finding(text, (r.key("log-likelihood"),), ("summary",), "caution"))
        said += [Finding(text, (r.key("bits-per-dimension"),), ("summary",), "caution") for text in costly(r)]
    return tuple(said)


def costly(r: LikelihoodRow) -> tuple[str, ...]:
    """That a fixed Gaussian takes more bits than guessing every grey level alike, and why; nothing where it does not.

    Three things can cost: errors as large as a guess's, a variance that does not fit the errors, a code that costs more than it saves. Each is named
    only where the numbers leave no other.
    """
    bits, variance = r.bits, r.decoder.variance
    if bits is None or not r.bits_per_dimension > UNIFORM:
        return ()
    text = f"{r.name}: {r.bits_per_dimension:.1f} bits per dimension, more than the {UNIFORM:g} of guessing every grey level alike."
    if bits.error > NO_WORSE * bits.mean_error:
        return text, (
            f"{r.name}: its reconstructions are further from the images (mean squared error {bits.error:.2g}) than the mean picture is "
            f"({bits.mean_error:.2g})."
        )
    if bits.best + bits.code <= UNIFORM and (variance > 2 * bits.error or variance < bits.error / 2):
        than = "wider" if variance > bits.error else "narrower"
        return (
            text,
            f"{r.name}: the fixed variance {variance:.3g} is {than} than the errors (mean square {bits.error:.2g}), at which it would be "
            f"{bits.best + bits.code:.1f} bits.",
            f"For likelihoods of {r.name} to compare, train with --decoder learned-gaussian.",
        )
    if bits.best <= UNIFORM < bits.best + bits.code:
        return text, f"{r.name}: the code alone takes {bits.code:.1f} bits per dimension (KL {r.kl:.0f} nats)."
    return (
        text,
        f"{r.name}: mean squared error {bits.error:.2g} (of the mean picture {bits.mean_error:.2g}), variance {variance:.3g}.",
        f"{r.name}: KL {r.kl:.0f} nats.",
    )


def answer(m: LikelihoodMeasures, state: str) -> str:
    """The study's one sentence where there is one VAE. state: of its posterior, as 'has partly collapsed'."""
    r = m.rows[0]
    return f"{r.name} {state}; it explains a test image with {r.negative_elbo.value:.1f} nats, {r.reconstruction:.1f} of them reconstruction."
