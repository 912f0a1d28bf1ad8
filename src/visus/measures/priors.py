"""Where latents for new images are drawn from: the prior, two Laplace distributions, and the aggregate posterior (protocol P11)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture

from visus.errors import DataError
from visus.measures._arrays import Array, generator_of
from visus.measures._arrays import features as checked

NORMAL, LAPLACE_UNIT, LAPLACE, AGGREGATE = "N(0, 1)", "Laplace, variance 1", "Laplace(0, 1)", "aggregate posterior"
PRIORS = (NORMAL, LAPLACE_UNIT, LAPLACE, AGGREGATE)
COMPONENTS = 10


def draw_latents(prior: str, n: int, posterior_samples: Array, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """n latents, float32 [n, d], from one of PRIORS.

    'N(0, 1)': what the model was trained towards. 'Laplace, variance 1': scale 1 / sqrt(2), so that only the shape differs.
    'Laplace(0, 1)': scale 1, variance 2. 'aggregate posterior': a Gaussian mixture of ten components with full covariances, fitted to
    posterior_samples, float [m, d], one z a training image (Ghosh et al. 2020). Raises DataError for another name, or too few samples.
    """
    samples = checked(posterior_samples, "posterior_samples", at_least=2)
    shape = (n, samples.shape[1])
    rng = generator_of(seed)
    if prior == NORMAL:
        return rng.standard_normal(shape, dtype=np.float32)
    if prior in (LAPLACE_UNIT, LAPLACE):
        return rng.laplace(scale=np.sqrt(0.5) if prior == LAPLACE_UNIT else 1.0, size=shape).astype(np.float32)
    if prior != AGGREGATE:
        raise DataError(f"unknown prior {prior!r}; known: {', '.join(PRIORS)}")

    # Its start needs as many distinct rows as components, its covariances more rows than dimensions.
    components = max(1, min(COMPONENTS, len(samples) // (2 * samples.shape[1] + 2)))
    mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(samples.astype(np.float64))
    mixture.set_params(random_state=seed + 1)
    found, _ = mixture.sample(n)
    return rng.permutation(found).astype(np.float32)
