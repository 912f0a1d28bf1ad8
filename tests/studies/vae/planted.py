"""VAEs whose measures are made by hand, for sections that only read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visus.features.latents import Bounds, Posteriors
from visus.measures import active_units, aggregate_moments, gaussian_kl, importance_bound, mutual_information
from visus.measures.compare import PairedDifference
from visus.measures.frechet import Frechet
from visus.measures.intervals import MeanInterval
from visus.measures.manifold import Memorisation, PrecisionRecall
from visus.measures.priors import PRIORS
from visus.models.vae import Decoder, VaeSizes, new_vae, wrap
from visus.result import Finding
from visus.studies.common.proportion import Proportion
from visus.studies.vae.evaluation import NamedVae, VaeEvaluation
from visus.studies.vae.feature_space import FeatureSpace, Scores
from visus.studies.vae.gallery import ImageRow
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.latent import DimensionRow, LatentRow
from visus.studies.vae.likelihood import LikelihoodRow
from visus.studies.vae.options import EvaluationOptions
from visus.studies.vae.pairing import VaeComparison
from visus.studies.vae.samples import SampleRow
from visus.studies.vae.sampling import Sampled
from visus.training.loop import Fit
from visus.training.records import Epoch
from visus.training.vae import KLSchedule, TrainedVae, VaePlan

SIDE = 8
SIZES = VaeSizes(SIDE, SIDE, latent=3, first=4, hidden=8)
OPTIONS = EvaluationOptions(samples=12, importance=4, shown=3)


def pixels(n: int, *, seed: int = 0) -> np.ndarray:
    """uint8 [n, 8, 8, 1]."""
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 1), dtype=np.uint8)


def images(*, train: int = 12, test: int = 6, repeated: np.ndarray | None = None, **more: Any) -> ImageArrays:
    """Noise in two classes."""
    sizes = {"train": train, "validation": 4, "test": test}
    made = {
        "labels": {name: np.arange(n) % 2 for name, n in sizes.items()},
        "classes": ("cat", "dog"),
        "ids": {name: tuple(f"{name}/{i}" for i in range(n)) for name, n in sizes.items()},
    }
    arrays = {name: pixels(n, seed=i) for i, (name, n) in enumerate(sizes.items())}
    return ImageArrays(name="noise", content="noise", repeated=repeated, **(arrays | made | more))


def evaluation(
    kl: Sequence[float], schedule: KLSchedule | None = None, *, name: str = "planted", n: int = 200
) -> VaeEvaluation:
    """Dimensions that have this mean KL, by their means alone (0: exactly the prior)."""
    rng = np.random.default_rng(0)
    mu = rng.choice([-1.0, 1.0], size=(n, len(kl))) * np.sqrt(2 * np.array(kl))
    logvar = np.zeros_like(mu)
    vae = wrap(new_vae(replace(SIZES, latent=len(kl)), Decoder(), seed=0), name)
    return VaeEvaluation(
        model=NamedVae(name, vae, schedule),
        posteriors=Posteriors(mu, logvar),
        kl=gaussian_kl(mu, logvar),
        active=active_units(mu, logvar),
        moments=aggregate_moments(mu, logvar),
        information=mutual_information(mu, logvar),
        bounds=Bounds(np.full(n, 10.0), (0.5 * mu**2).sum(1), np.full(n, 9.0)),
        likelihood=importance_bound(np.full((n, 4), -12.0) + rng.normal(size=(n, 4)), dims=SIDE**2),
        sensitivity=np.array(kl) + 0.001,
        samples={prior: sampled(prior, seed=i) for i, prior in enumerate(PRIORS)},
    )


def shifted(e: VaeEvaluation, nats: float, **more: Any) -> VaeEvaluation:
    """The same with other reconstruction terms."""
    return replace(e, bounds=replace(e.bounds, reconstruction=e.bounds.reconstruction + nats), **more)


def named(e: VaeEvaluation, **more: Any) -> VaeEvaluation:
    """The same under another name, setting, ..."""
    return replace(e, model=replace(e.model, **more))


def scores(*, frechet: float = 3.0, inside: float = 0.5, n: int = 8, m: int = 12) -> Scores:
    in_real, in_fake = np.arange(m) < inside * m, np.arange(n) < inside * n
    sharing = PrecisionRecall(in_real.mean(), in_fake.mean(), 0.9, 0.8, 3, in_real, in_fake, in_fake)
    return Scores(Frechet(frechet, frechet, 0.0, n, m), sharing)


def sampled(prior: str, *, seed: int = 0, closer: float = 0.0) -> Sampled:
    """Twelve samples, twice as far from training images 0, 1, 2, ... as unseen images are."""
    copies = Memorisation(np.full(12, 4.0), np.arange(12), 2.0, 2.0, 1.0, closer)
    return Sampled(prior, pixels(12, seed=100 + seed), scores(frechet=10.0 + seed), copies)


def space(*, test: int = 8) -> FeatureSpace:
    return FeatureSpace(
        "tiny", "the last layer of tiny", lambda x: x.reshape(len(x), -1), np.zeros((test, 16)), scores()
    )


def fit(validation: Sequence[float], *, best: int | None = None, stopped: str = "") -> Fit:
    """Epochs whose validation images have these negative ELBOs, 2 nats of them KL; training images have 1 less."""
    epochs = tuple(
        Epoch(
            i + 1, v, 0.0, v, 0.0, 1e-3, 0.5,
            {"reconstruction": v - 3, "kl": 2.0, "val_reconstruction": v - 2, "val_kl": 2.0, "beta": 0.5 * i},
        )
        for i, v in enumerate(validation)
    )  # fmt: skip
    return Fit(epochs, int(np.argmin(validation)) if best is None else best, 100, 1, 30.0, stopped)


def trained(name: str, *fits: Fit, tmp: Any = "/kept") -> NamedVae:
    """A run of these trainings."""
    vae = evaluation([1.0], n=4).vae
    plan = VaePlan(name, SIZES, Decoder(), KLSchedule(), recipe=None)  # type: ignore[arg-type]  # nobody asks for it
    return NamedVae(name, vae, KLSchedule(), tuple(TrainedVae(plan, f, vae, tmp) for f in fits))


def mean(value: float, *, half: float = 1.0, n: int = 200) -> MeanInterval:
    return MeanInterval(value, value - half, value + half, n)


def likelihood_row(name: str = "mine", **more: Any) -> LikelihoodRow:
    fields: dict[str, Any] = {
        "decoder": Decoder(),
        "reconstruction": 30.0,
        "kl": 12.0,
        "negative_elbo": mean(42.0),
        "at_mean": 29.0,
        "log_likelihood": mean(-40.0),
        "stderr": 0.5,
        "bits_per_dimension": 3.0,
        "k": 64,
        "effective_samples": 20.0,
        "active": 7,
        "latent": 10,
        "parameters": 1234,
        "minutes": 1.5,
        "bits": None,
    }
    return LikelihoodRow(name=name, **(fields | more))


def dimension(j: int, kl: float) -> DimensionRow:
    return DimensionRow(j, kl, 0.75 * kl, 0.25 * kl, 2 * kl, 0.1, 1.1, 0.3, kl > 0.01, kl > 0.01)


def latent_row(kl: Sequence[float], name: str = "mine", **more: Any) -> LatentRow:
    """From mean KLs, the largest first."""
    active = [v for v in kl if v > 0.01]
    fields: dict[str, Any] = {
        "latent": len(kl),
        "active": len(active),
        "active_by_variance": len(active),
        "at_floor": 0,
        "n": 200,
        "kl": sum(kl),
        "carried": sum(active),
        "floor": 0.0,
        "all_used": min(kl) > 0.1,
        "information": 2.5,
        "information_stderr": 0.1,
        "information_bound": 5.3,
        "marginal_kl": 0.4,
        "kl_of_moments": 0.2,
        "sensitivity_active": 2.0 if active else None,
        "sensitivity_dead": 0.5 if len(active) < len(kl) else None,
        "relative_sensitivity": 0.25 if active and len(active) < len(kl) else None,
        "asked": 1.0,
        "expected": 1.0,
        "beta": None,
        "steps": None,
        "eased": False,
        "helped": "",
        "dimensions": tuple(dimension(j, v) for j, v in enumerate(kl)),
    }
    return LatentRow(name=name, **(fields | more))


def share(value: float, n: int = 100) -> Proportion:
    return Proportion(value, value - 0.05, value + 0.05, n)


def sample_row(name: str, prior: str, frechet: float, **more: Any) -> SampleRow:
    fields: dict[str, Any] = {
        "precision": share(0.8),
        "recall": share(0.6),
        "density": 0.9,
        "coverage": 0.7,
        "ratio": 1.02,
        "closer": 0.01,
    }
    return SampleRow(name=name, prior=prior, frechet=frechet, **(fields | more))


def difference(value: float, *, half: float = 0.5) -> PairedDifference:
    return PairedDifference(value, value - half, value + half, 0.95, 200, 10_000, 0)


def comparison(a: str, b: str, elbo: float, likelihood: float, **more: Any) -> VaeComparison:
    fields: dict[str, Any] = {"comparable": True, "more_active": 0}
    return VaeComparison(a, b, difference(elbo), difference(likelihood), **(fields | more))


def row(name: str, n: int, *, values: Sequence[float] = (), seed: int = 0) -> ImageRow:
    return ImageRow(name, pixels(n, seed=seed), tuple(values))


def texts(findings: Sequence[Finding], kind: str | None = None) -> list[str]:
    """The sentences (of one kind), each of which a reader can take in at once."""
    assert all(len(f.text.split()) <= 35 for f in findings)
    return [f.text for f in findings if kind in (None, f.kind)]


def by(records: Sequence[Mapping[str, Any]], key: str) -> dict[Any, Mapping[str, Any]]:
    """Records by one of their cells."""
    return {r[key]: r for r in records}
