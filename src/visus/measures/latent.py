"""What a VAE's latent space holds: KL by dimension, active units, the aggregate posterior, mutual information (protocol P11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features, generator_of
from visus.progress import task

# Beyond this a variance or its inverse is no float64 any more.
_LOGVAR_LIMIT = 700.0
# In a dimension where (mu / sigma)^2 exceeds this, |z|^2 - 2 z mu + |mu|^2 would lose more than 1e-8 nats: take differences there.
PRODUCT_LIMIT = 1e7


@dataclass(frozen=True)
class LatentKl:
    """KL of the posterior to N(0, 1) in nats, averaged over images: float64 [d] each, per_dimension = mean_part + variance_part; total: its sum."""

    per_dimension: Floats
    mean_part: Floats
    variance_part: Floats
    total: float


@dataclass(frozen=True)
class ActiveUnits:
    """Which dimensions are used, bool [d], by either criterion, with the thresholds (nats; variance of mu) that each had to exceed."""

    by_kl: npt.NDArray[np.bool_]
    by_variance: npt.NDArray[np.bool_]
    kl_threshold: float
    variance_threshold: float


@dataclass(frozen=True)
class AggregateMoments:
    """The aggregate posterior's mean [d], variance [d] and covariance [d, d]; kl_to_prior: nats. largest_correlation: the one of largest
    size between two dimensions, with its sign; correlated: which two (None, and the correlation 0, where there is one dimension)."""

    mean: Floats
    variance: Floats
    covariance: Floats
    kl_to_prior: float
    largest_correlation: float
    correlated: tuple[int, int] | None


@dataclass(frozen=True)
class MutualInformation:
    """value: I_q(x; z) in nats, with its standard error over images; bound: log n, the most that n images can show. kl: the mean KL to
    the prior; marginal_kl: kl - value, an estimate of KL(q(z) || p(z))."""

    value: float
    stderr: float
    bound: float
    kl: float
    marginal_kl: float


def gaussian_kl(mu: Array, logvar: Array) -> LatentKl:
    """KL(N(mu, sigma^2) || N(0, 1)) by dimension: 1/2 mu^2 (mean part) + 1/2 (sigma^2 - log sigma^2 - 1) (variance part), in nats.

    mu, logvar: float [n, d], logvar = log sigma^2. Averaged over images. Raises DataError: shapes that differ, NaN, |logvar| > 700.
    Source: Kingma and Welling 2014, appendix B.
    """
    mu, logvar = _posteriors(mu, logvar)
    n, d = mu.shape
    mean_part, variance_part = np.zeros(d), np.zeros(d)
    for part in _parts(n, d):
        m, v = mu[part].astype(np.float64), logvar[part].astype(np.float64)
        mean_part += 0.5 * np.einsum("nd,nd->d", m, m)
        variance_part += 0.5 * (np.expm1(v) - v).sum(axis=0)
    mean_part /= n
    variance_part /= n
    both = mean_part + variance_part
    return LatentKl(both, mean_part, variance_part, float(both.sum()))


def active_units(
    mu: Array, logvar: Array, *, kl_threshold: float = 0.01, variance_threshold: float = 0.01
) -> ActiveUnits:
    """Which latent dimensions carry something: mean KL above kl_threshold (nats), and Var_x[mu] above variance_threshold.

    mu, logvar: float [n, d]. The variance is the population's (divided by n). A dimension may pass one and fail the other: a posterior
    that is not the prior but the same for every image has KL and no variance. Raises as `gaussian_kl` does. Source: Burda et al. 2016, 5.2.
    """
    kl = gaussian_kl(mu, logvar)
    spread = np.diagonal(_mean_and_covariance(np.asanyarray(mu))[1])
    return ActiveUnits(
        kl.per_dimension > kl_threshold, spread > variance_threshold, float(kl_threshold), float(variance_threshold)
    )


def aggregate_moments(mu: Array, logvar: Array) -> AggregateMoments:
    """Moments of the aggregate posterior, the mean of the n posteriors, and how far they are from the prior's.

    mu, logvar: float [n, d]. covariance = Cov_x[mu] + diag(E[sigma^2]) (of the mixture itself: divided by n). kl_to_prior is the KL of
    the Gaussian with these moments to N(0, I); KL(q(z) || p(z)) is no smaller. Raises as `gaussian_kl` does. Source: Makhzani et al. 2016
    (the aggregate posterior); Hoffman and Johnson 2016.
    """
    mu, logvar = _posteriors(mu, logvar)
    n, d = mu.shape
    mean, covariance = _mean_and_covariance(mu)
    within = np.zeros(d)
    for part in _parts(n, d):
        within += np.exp(logvar[part].astype(np.float64)).sum(axis=0)
    within /= n
    covariance[np.diag_indices(d)] += within
    variance = np.diagonal(covariance).copy()
    # No eigenvalue lies below the smallest mean posterior variance; rounding may say otherwise.
    spectrum = np.maximum(np.linalg.eigvalsh(covariance), within.min())
    kl = 0.5 * float(np.sum(spectrum - 1 - np.log(spectrum)) + mean @ mean)
    if d == 1:
        return AggregateMoments(mean, variance, covariance, kl, 0.0, None)
    deviation = np.sqrt(variance)
    correlation = covariance / deviation / deviation[:, None]
    np.fill_diagonal(correlation, 0)
    i, j = divmod(int(np.abs(correlation).argmax()), d)
    return AggregateMoments(mean, variance, covariance, kl, float(correlation[i, j]), (min(i, j), max(i, j)))


def mutual_information(mu: Array, logvar: Array, *, samples: int = 1, seed: int = 0) -> MutualInformation:
    """Mutual information of an image (one of these n, all equally likely) and its code: E_x E_q(z|x) [log q(z|x) - log q(z)], nats.

    mu, logvar: float [n, d], n >= 2. q(z) is the mean of all n posteriors, summed exactly, z's own included; z is drawn `samples` times per
    image. Time grows with n^2, memory with n. The value is at most log n: one near it says that n is too small, not what I(x; z) is.
    Raises as `gaussian_kl` does, and DataError for samples < 1. Source: Hoffman and Johnson 2016.
    """
    mu, logvar = _posteriors(mu, logvar, at_least=2)
    if samples < 1:
        raise DataError(f"samples is {samples}; at least one code is drawn per image")
    kl = gaussian_kl(mu, logvar).total
    n = len(mu)
    centre = mu.mean(axis=0, dtype=np.float64)
    m, v = mu.astype(np.float64) - centre, logvar.astype(np.float64)
    density = _Mixture(m, v)
    rng = generator_of(seed)
    gain = np.zeros(n)
    step = block_rows(8 * 3 * n, at_least=1)
    with task("estimating mutual information", samples * n) as progress:
        for _ in range(samples):
            for start in range(0, n, step):
                here = slice(start, start + step)
                noise = rng.standard_normal(m[here].shape)
                own = -0.5 * (np.einsum("nd,nd->n", noise, noise) + v[here].sum(axis=1))
                gain[here] += own - density.log(m[here] + np.exp(0.5 * v[here]) * noise, own, start)
                progress.advance(len(noise))
    gain /= samples
    value = float(gain.mean())
    return MutualInformation(value, float(gain.std(ddof=1) / np.sqrt(n)), float(np.log(n)), kl, kl - value)


class _Mixture:
    """The mean of n diagonal Gaussians; log-densities leave out d/2 log 2 pi, which cancels."""

    def __init__(self, mu: Floats, logvar: Floats) -> None:
        with np.errstate(over="ignore"):
            self.precision = np.exp(-logvar)
            scale = (mu**2).max(axis=0) * self.precision.max(axis=0)
        self.plain, self.hard = np.flatnonzero(scale <= PRODUCT_LIMIT), np.flatnonzero(scale > PRODUCT_LIMIT)
        precision, centre = self.precision[:, self.plain], mu[:, self.plain]
        self.mu = mu
        self.square, self.linear = -0.5 * precision.T, (precision * centre).T
        self.constant = -0.5 * (np.einsum("nd,nd->n", precision, centre**2) + logvar.sum(axis=1))

    def log(self, z: Floats, own: Floats, start: int) -> Floats:
        """log q(z) [b] of codes z [b, d]; own: the log-density under the posterior that each was drawn from, number start, start + 1..."""
        easy = z[:, self.plain]
        terms: Floats = easy**2 @ self.square
        terms += easy @ self.linear
        terms += self.constant
        with np.errstate(over="ignore"):
            for j in self.hard:
                away = z[:, j, None] - self.mu[:, j]
                away *= away
                away *= -0.5 * self.precision[:, j]
                terms += away
        rows = np.arange(len(z))
        terms[rows, start + rows] = own
        peak = terms.max(axis=1)
        terms -= peak[:, None]
        np.exp(terms, out=terms)
        result: Floats = peak + np.log(terms.mean(axis=1))
        return result


def _posteriors(mu: Array, logvar: Array, *, at_least: int = 1) -> tuple[Array, Array]:
    mu, logvar = features(mu, "mu", at_least=at_least), features(logvar, "logvar", at_least=at_least)
    if mu.shape != logvar.shape:
        raise DataError(
            f"mu has shape {list(mu.shape)} and logvar {list(logvar.shape)}; give one mean and one log-variance per image and dimension"
        )
    worst = max(float(logvar.max()), -float(logvar.min()))
    if worst > _LOGVAR_LIMIT:
        raise DataError(
            f"logvar reaches {worst:.3g} in size, which is no variance any more; check that the encoder gives log sigma^2"
        )
    return mu, logvar


def _parts(n: int, d: int) -> list[slice]:
    step = block_rows(8 * 4 * d)
    return [slice(start, start + step) for start in range(0, n, step)]


def _mean_and_covariance(x: Array) -> tuple[Floats, Floats]:
    """The mean [d] and the population covariance [d, d] of rows, in float64."""
    n, d = x.shape
    mean: Floats = x.mean(axis=0, dtype=np.float64)
    covariance: Floats = np.zeros((d, d))
    for part in _parts(n, d):
        centred = x[part].astype(np.float64) - mean
        covariance += centred.T @ centred
    return mean, covariance / n
