"""Everything that is measured of one VAE, on images that it was not trained on: what the sections tell of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from visus.features.latents import Bounds, Posteriors, bounds, log_weights, posteriors, sensitivity
from visus.measures.latent import (
    ActiveUnits,
    AggregateMoments,
    LatentKl,
    MutualInformation,
    active_units,
    aggregate_moments,
    gaussian_kl,
    mutual_information,
)
from visus.measures.likelihood import Likelihood, importance_bound
from visus.measures.objective_scale import EffectiveBeta
from visus.models.vae import ConvVae, Vae
from visus.models.vae_faults import NotFiniteError
from visus.progress import log
from visus.studies.vae.feature_space import FeatureSpace
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.options import EvaluationOptions
from visus.studies.vae.sampling import Sampled, sample
from visus.training.effective_beta import measured_beta
from visus.training.vae import Elbo, KLSchedule, TrainedVae

POSTERIORS = 5000  # test images whose posteriors are compared with one another
WEIGHED = 500  # test images whose likelihood is estimated
PROBED = 200  # test images around which the decoder's sensitivity is measured
FITTED = 20_000  # training images that the aggregate posterior is fitted on
BATCH = 256  # training images whose gradient tells the effective beta
AT_FLOOR = 1.3  # times free bits: a dimension whose KL lies below that pays nothing, or next to nothing


@dataclass(frozen=True)
class NamedVae:
    """A VAE under the name that people read. schedule: what its KL cost (None: not known). trained: the trainings, one a seed (empty: a
    checkpoint). setting: the value that a sweep gave it."""

    name: str
    vae: Vae
    schedule: KLSchedule | None = None
    trained: Sequence[TrainedVae] = ()
    setting: float | None = None

    @property
    def softened(self) -> bool:
        """Whether it was trained with warm-up or free bits."""
        return self.schedule is not None and bool(self.schedule.warmup or self.schedule.free_bits)


@dataclass(frozen=True)
class VaeEvaluation:
    """One VAE, measured.

    kl, active, moments, information: of the test images' posteriors. bounds: the ELBO's two sides. sensitivity: float64 [latent].
    samples: by prior. beta: what the loss's gradient says (None: no loss to ask). seed: of every draw, and of the resamples when it is
    compared.
    """

    model: NamedVae
    posteriors: Posteriors
    kl: LatentKl
    active: ActiveUnits
    moments: AggregateMoments
    information: MutualInformation
    bounds: Bounds
    likelihood: Likelihood
    sensitivity: np.ndarray
    samples: Mapping[str, Sampled]
    beta: EffectiveBeta | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def vae(self) -> Vae:
        return self.model.vae

    @property
    def order(self) -> np.ndarray:
        """Latent dimensions by their KL, the largest first."""
        return np.argsort(-self.kl.per_dimension, kind="stable")

    @property
    def n_active(self) -> int:
        """Dimensions whose mean KL exceeds the threshold."""
        return int(self.active.by_kl.sum())

    @property
    def dead(self) -> int:
        """Dimensions whose mean KL is at most the threshold."""
        return int((~self.active.by_kl).sum())

    @property
    def at_floor(self) -> np.ndarray:
        """bool [latent]: active, but with hardly more KL than free bits give away."""
        free = self.model.schedule.free_bits if self.model.schedule else 0.0
        low: np.ndarray = self.kl.per_dimension < AT_FLOOR * free
        return low & self.active.by_kl


def evaluate(model: NamedVae, images: ImageArrays, space: FeatureSpace, options: EvaluationOptions) -> VaeEvaluation:
    """Measure a VAE on the test images; the aggregate posterior is fitted on training images."""
    log(f"examining {model.name}")
    vae, seed, device = model.vae, options.seed, options.device
    test = images.test[:POSTERIORS]
    with naming(images.ids["test"]):
        q = posteriors(vae, test, device=device)
        both = bounds(vae, test, seed=seed, device=device)
        weights = log_weights(vae, test[:WEIGHED], options.importance, seed=seed, device=device)
        heard = sensitivity(vae, q.mu[:PROBED], device=device)
    with naming(images.ids["train"]):
        fitted = posteriors(vae, images.train[:FITTED], device=device).sample(seed=seed)
    return VaeEvaluation(
        model=model,
        posteriors=q,
        kl=gaussian_kl(q.mu, q.logvar),
        active=active_units(q.mu, q.logvar),
        moments=aggregate_moments(q.mu, q.logvar),
        information=mutual_information(q.mu, q.logvar, seed=seed),
        bounds=both,
        likelihood=importance_bound(weights, dims=vae.pixels, bits_offset=8.0 if vae.decoder.density else 0.0),
        sensitivity=heard,
        samples=sample(vae, images, space, fitted, options),
        beta=_beta_of(model, images, seed=seed),
        seed=seed,
    )


@contextmanager
def naming(ids: Sequence[str]) -> Iterator[None]:
    """Where numbers stop being numbers, say at which image by its id."""
    try:
        yield
    except NotFiniteError as error:
        raise error.of(ids[error.row]) from error


def _beta_of(model: NamedVae, images: ImageArrays, *, seed: int) -> EffectiveBeta | None:
    """The beta that the loss's gradient shows: of the objective that trained it, or of another's module's own loss; None without one."""
    vae, schedule, batch = model.vae, model.schedule, images.train[:BATCH]
    if schedule is not None and isinstance(network := vae.module, ConvVae):
        objective = Elbo(images.train, images.validation, schedule, seed=seed)
        return measured_beta(
            vae, batch, lambda x: objective.terms(network, x, schedule.beta)[0], cost=schedule.cost, seed=seed
        )
    return measured_beta(vae, batch, vae.loss, seed=seed) if vae.loss is not None else None
