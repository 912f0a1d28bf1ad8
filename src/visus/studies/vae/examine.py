"""Everything that is measured of one VAE, on pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visus.features.latents import Bounds, Posteriors
    from visus.measures.latent import ActiveUnits, AggregateMoments, LatentKl, MutualInformation
    from visus.measures.likelihood import Likelihood
    from visus.measures.objective_scale import EffectiveBeta
    from visus.models.vae import Vae
    from visus.studies.vae.quality import FeatureSpace, Sampled
    from visus.studies.vae.subject import Subject
    from visus.training.vae import KLSchedule, TrainedVae

POSTERIORS = 5000  # test pictures whose posteriors are compared with one another
WEIGHED = 500  # test pictures whose likelihood is estimated
PROBED = 200  # test pictures around which the decoder's sensitivity is measured
FITTED = 20_000  # training pictures that the aggregate posterior is fitted on
BATCH = 256  # training pictures whose gradient tells the effective beta
AT_FLOOR = 1.3  # times free bits: a dimension whose KL lies below that pays nothing, or next to nothing


@dataclass(frozen=True)
class VaeEvaluation:
    """One VAE, measured.

    pressure: what its KL cost (None: not known). trained: the trainings, one a seed (empty: a checkpoint). kl, active, moments, information:
    of the test pictures' posteriors. bounds: the ELBO's two sides. sensitivity: float64 [latent]. samples: by prior. beta: what the
    loss's gradient says (None: no loss to ask). seed: of every draw, and of the resamples when it is compared.
    """

    name: str
    vae: Vae
    posteriors: Posteriors
    kl: LatentKl
    active: ActiveUnits
    moments: AggregateMoments
    information: MutualInformation
    bounds: Bounds
    likelihood: Likelihood
    sensitivity: np.ndarray
    samples: Mapping[str, Sampled]
    pressure: KLSchedule | None = None
    trained: Sequence[TrainedVae] = ()
    beta: EffectiveBeta | None = None
    setting: float | None = None
    seed: int = 0

    @property
    def order(self) -> np.ndarray:
        """Latent dimensions by their KL, the largest first."""
        return np.argsort(-self.kl.per_dimension, kind="stable")

    @property
    def dead(self) -> int:
        """Dimensions whose mean KL is at most the threshold."""
        return int((~self.active.by_kl).sum())

    @property
    def at_floor(self) -> np.ndarray:
        """bool [latent]: active, but with hardly more KL than free bits give away."""
        free = self.pressure.free_bits if self.pressure else 0.0
        low: np.ndarray = self.kl.per_dimension < AT_FLOOR * free
        return low & self.active.by_kl


def examine(
    name: str,
    vae: Vae,
    subject: Subject,
    space: FeatureSpace,
    *,
    samples: int,
    importance: int,
    device: str,
    seed: int,
    pressure: KLSchedule | None = None,
    trained: Sequence[TrainedVae] = (),
    setting: float | None = None,
) -> VaeEvaluation:
    """Measure a VAE on the test pictures; the aggregate posterior is fitted on training pictures."""
    from visus.features.latents import bounds, log_weights, posteriors, sensitivity
    from visus.measures.latent import active_units, aggregate_moments, gaussian_kl, mutual_information
    from visus.measures.likelihood import importance_bound
    from visus.progress import log
    from visus.studies.vae.quality import sample

    log(f"examining {name}")
    test = subject.test[:POSTERIORS]
    with naming(subject.ids["test"]):
        q = posteriors(vae, test, device=device)
        both = bounds(vae, test, seed=seed, device=device)
        weights = log_weights(vae, test[:WEIGHED], importance, seed=seed, device=device)
        heard = sensitivity(vae, q.mu[:PROBED], device=device)
    with naming(subject.ids["train"]):
        fitted = posteriors(vae, subject.train[:FITTED], device=device).sample(seed=seed)
    return VaeEvaluation(
        name,
        vae,
        q,
        gaussian_kl(q.mu, q.logvar),
        active_units(q.mu, q.logvar),
        aggregate_moments(q.mu, q.logvar),
        mutual_information(q.mu, q.logvar, seed=seed),
        both,
        importance_bound(weights, dims=vae.pixels, bits_offset=8.0 if vae.decoder.density else 0.0),
        heard,
        sample(vae, subject, space, fitted, n=samples, device=device, seed=seed),
        pressure,
        trained,
        asked_beta(vae, subject, pressure, seed=seed),
        setting,
        seed,
    )


@contextmanager
def naming(ids: Sequence[str]) -> Iterator[None]:
    """Where numbers stop being numbers, say at which image by its id."""
    from visus.models.vae_faults import NotFiniteError

    try:
        yield
    except NotFiniteError as error:
        raise error.of(ids[error.row]) from error


def asked_beta(vae: Vae, subject: Subject, pressure: KLSchedule | None, *, seed: int) -> EffectiveBeta | None:
    """The beta that the loss's gradient shows: of the objective that trained it, or of another's module's own loss; None without one."""
    from visus.models.vae import ConvVae
    from visus.training.effective_beta import measured_beta
    from visus.training.vae import Elbo

    pictures = subject.train[:BATCH]
    if pressure is not None and isinstance(network := vae.module, ConvVae):
        objective = Elbo(subject.train, subject.validation, pressure, seed=seed)
        return measured_beta(
            vae, pictures, lambda x: objective.terms(network, x, pressure.beta)[0], cost=pressure.cost, seed=seed
        )
    return measured_beta(vae, pictures, vae.loss, seed=seed) if vae.loss is not None else None
