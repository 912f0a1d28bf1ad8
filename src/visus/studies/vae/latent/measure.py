"""Dimensions in use, what they carry, what image and code share, and images along them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visus.features.latents import decoded_latents
from visus.measures.objective_scale import EffectiveBeta
from visus.result import key_of
from visus.studies.vae.evaluation import VaeEvaluation
from visus.studies.vae.gallery import ImageRow
from visus.studies.vae.inputs import ImageArrays
from visus.studies.vae.pairing import Comparisons

HELD_UP = "held up by free bits alone"
USED = 0.1  # nats: a dimension above has no doubt about it
TRAVERSED = 8  # dimensions at most
REACH = 2.5  # prior standard deviations to either side
STEPS = 9
BETWEEN = 3  # interpolations
WALKED = 4  # VAEs whose traversals are shown; of a sweep the ends would be the same image many times


@dataclass(frozen=True)
class DimensionRow:
    """One latent dimension over the test images. kl = mean_part + variance_part, nats. spread: variance of the posterior mean. mean, variance:
    of the aggregate posterior."""

    dimension: int
    kl: float
    mean_part: float
    variance_part: float
    spread: float
    mean: float
    variance: float
    sensitivity: float
    active_by_kl: bool
    active_by_variance: bool


@dataclass(frozen=True)
class LatentRow:
    """One VAE over n test images, in nats. carried, floor: KL of the active dimensions, and of those at the floor of the free bits.
    information: of image and code, at most information_bound. kl_of_moments: from the aggregate posterior's moments to the prior.
    sensitivity_active, sensitivity_dead: None where there are none; relative_sensitivity: the second in the first.
    asked: the beta it was trained with (None: not known); expected: the beta that its loss should have. beta: of its gradient.
    steps: optimizer steps of its training; eased: whether warm-up or free bits are in the study; helped: the VAE that they helped."""

    name: str
    latent: int
    active: int
    active_by_variance: int
    at_floor: int
    n: int
    kl: float
    carried: float
    floor: float
    all_used: bool
    information: float
    information_stderr: float
    information_bound: float
    marginal_kl: float
    kl_of_moments: float
    sensitivity_active: float | None
    sensitivity_dead: float | None
    relative_sensitivity: float | None
    asked: float | None
    expected: float | None
    beta: EffectiveBeta | None
    steps: int | None
    eased: bool
    helped: str
    dimensions: tuple[DimensionRow, ...]

    @property
    def dead(self) -> int:
        return self.latent - self.active

    @property
    def verdict(self) -> str:
        """'not collapsed', 'partly', 'mostly' or 'wholly collapsed': by the share of dimensions whose mean KL is at most 0.01 nats; 'held up
        by free bits alone' where every dimension above it has no more than they give away."""
        if self.active and self.at_floor == self.active:
            return HELD_UP
        if not self.dead:
            return "not collapsed"
        if not self.active:
            return "wholly collapsed"
        return "mostly collapsed" if 2 * self.dead >= self.latent else "partly collapsed"

    @property
    def state(self) -> str:
        """The verdict behind a name: 'has partly collapsed'."""
        return f"{'is' if self.verdict == HELD_UP else 'has'} {self.verdict}"

    @property
    def effective_beta(self) -> float | None:
        """The beta of the gradient; None where it cannot be told."""
        return self.beta.beta if self.beta is not None and math.isfinite(self.beta.beta) else None

    def key(self, what: str) -> str:
        """Of a metric of it."""
        return key_of(self.name, what)


@dataclass(frozen=True)
class Walk:
    """Images decoded along lines through the latent space of one VAE. dimensions: one row each, its KL and place; the values of a row are the
    coordinates. between: rows from one test image to another, their values shares of the way."""

    name: str
    dimensions: tuple[ImageRow, ...]
    between: tuple[ImageRow, ...]


@dataclass(frozen=True)
class LatentMeasures:
    """rows: by VAE. threshold: nats above which a dimension is active. walks: of the first VAEs. swept: whether a sweep tells of the rows."""

    rows: tuple[LatentRow, ...]
    threshold: float
    walks: tuple[Walk, ...]
    swept: bool = False


def measure(
    evaluations: Sequence[VaeEvaluation],
    images: ImageArrays,
    comparisons: Comparisons,
    *,
    asked: float | None,
    device: str,
) -> LatentMeasures:
    """Read the latent space off the posteriors, and walk through it. asked: the beta that another's module should have; None for ours."""
    swept = evaluations[0].model.setting is not None
    helped = {} if swept else {e.name: comparisons.helping(e, evaluations) for e in evaluations}
    eased = any(e.model.softened for e in evaluations)
    return LatentMeasures(
        rows=tuple(_row(e, asked=asked, eased=eased, helped=helped) for e in evaluations),
        threshold=evaluations[0].active.kl_threshold,
        walks=tuple(_walk(e, images, device) for e in evaluations[:WALKED]),
        swept=swept,
    )


def _row(e: VaeEvaluation, *, asked: float | None, eased: bool, helped: Mapping[str, str]) -> LatentRow:
    active, per_dimension, schedule = e.active.by_kl, e.kl.per_dimension, e.model.schedule
    loud = float(e.sensitivity[active].mean()) if active.any() else None
    deaf = float(e.sensitivity[~active].mean()) if e.dead else None
    of_rest = (deaf / loud if loud else 1.0) if deaf is not None and loud is not None else None
    return LatentRow(
        name=e.name,
        latent=e.vae.latent,
        active=e.n_active,
        active_by_variance=int(e.active.by_variance.sum()),
        at_floor=int(e.at_floor.sum()),
        n=len(e.posteriors.mu),
        kl=e.kl.total,
        carried=float(per_dimension[active].sum()),
        floor=float(per_dimension[e.at_floor].sum()),
        all_used=bool((per_dimension > USED).all()),
        information=e.information.value,
        information_stderr=e.information.stderr,
        information_bound=e.information.bound,
        marginal_kl=e.information.marginal_kl,
        kl_of_moments=e.moments.kl_to_prior,
        sensitivity_active=loud,
        sensitivity_dead=deaf,
        relative_sensitivity=of_rest,
        asked=None if schedule is None else schedule.beta,
        expected=asked if schedule is None else schedule.beta,
        beta=e.beta,
        steps=e.model.trained[0].fit.steps if e.model.trained else None,
        eased=eased,
        helped=helped.get(e.name, ""),
        dimensions=_dimensions(e),
    )


def _dimensions(e: VaeEvaluation) -> tuple[DimensionRow, ...]:
    """Every dimension, the one of largest KL first."""
    spread = e.posteriors.mu.var(axis=0)
    return tuple(
        DimensionRow(
            dimension=int(j),
            kl=float(e.kl.per_dimension[j]),
            mean_part=float(e.kl.mean_part[j]),
            variance_part=float(e.kl.variance_part[j]),
            spread=float(spread[j]),
            mean=float(e.moments.mean[j]),
            variance=float(e.moments.variance[j]),
            sensitivity=float(e.sensitivity[j]),
            active_by_kl=bool(e.active.by_kl[j]),
            active_by_variance=bool(e.active.by_variance[j]),
        )
        for j in e.order
    )


def _walk(e: VaeEvaluation, images: ImageArrays, device: str) -> Walk:
    """Along each active dimension through the first test image's posterior mean, and on straight lines between two of them."""
    mu = e.posteriors.mu
    steps, share = np.linspace(-REACH, REACH, STEPS), np.linspace(0, 1, STEPS)
    along = []
    for j in [j for j in e.order if e.active.by_kl[j]][:TRAVERSED] or list(e.order[:1]):
        z = np.repeat(mu[:1], STEPS, axis=0)
        z[:, j] = steps
        name = f"dimension {j}: {e.kl.per_dimension[j]:.2f} nats"
        along.append(ImageRow(name, decoded_latents(e.vae, z, device=device), tuple(map(float, steps))))
    between = []
    for k in range(min(BETWEEN, len(mu) // 2)):
        z = (1 - share[:, None]) * mu[2 * k] + share[:, None] * mu[2 * k + 1]
        made = decoded_latents(e.vae, z, device=device)
        between.append(ImageRow(_ends(images, 2 * k), made, tuple(map(float, share))))
    return Walk(e.name, tuple(along), tuple(between))


def _ends(images: ImageArrays, i: int) -> str:
    if images.labels is None:
        return f"{images.ids['test'][i]} to {images.ids['test'][i + 1]}"
    a, b = (images.classes[c] for c in images.labels["test"][i : i + 2])
    return f"{a} to {b}" if a != b else f"{a} to another {b}"
