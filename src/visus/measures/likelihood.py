"""Log-likelihood of a latent-variable model by importance sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features


@dataclass(frozen=True)
class Likelihood:
    """nats: the bound on log p(x), averaged over images, with its standard error over images (NaN for one image) and as bits per
    dimension. per_image: float64 [n]. k: weights per image. effective_samples: (sum w)^2 / sum w^2 averaged over images, from 1 to k;
    near 1 the posterior is a poor proposal and the bound is loose."""

    nats: float
    stderr: float
    bits_per_dimension: float
    per_image: Floats
    k: int
    effective_samples: float


def importance_bound(log_weights: Array, *, dims: int, bits_offset: float = 8.0) -> Likelihood:
    """The importance-weighted bound log 1/k sum_i w_i on log p(x), with log w_i = log p(x, z_i) - log q(z_i | x), z_i from q(z | x).

    log_weights: float [n, k], nats. dims: dimensions of x (pixels times channels). Bits per dimension are -nats / (dims ln 2) + bits_offset:
    8 for a density over pixels scaled from 256 levels to [0, 1], 0 for a likelihood of discrete values. The bound is below log p(x) in
    expectation and rises with k. Raises DataError: NaN or infinite weights, dims < 1. Source: Burda et al. 2016, eq. 8.
    """
    log_weights = features(log_weights, "log_weights")
    if dims < 1:
        raise DataError(f"dims is {dims}; give the number of pixels times channels of an image")
    n, k = log_weights.shape
    per_image, effective = np.empty(n), np.empty(n)
    step = block_rows(8 * 2 * k)
    for start in range(0, n, step):
        here = slice(start, start + step)
        w = log_weights[here].astype(np.float64)
        peak = w.max(axis=1)
        w -= peak[:, None]
        np.exp(w, out=w)
        total = w.sum(axis=1)
        per_image[here] = peak + np.log(total / k)
        effective[here] = total**2 / np.einsum("nk,nk->n", w, w)
    nats = float(per_image.mean())
    return Likelihood(
        nats=nats,
        stderr=float(per_image.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
        bits_per_dimension=-nats / (dims * float(np.log(2))) + bits_offset,
        per_image=per_image,
        k=k,
        effective_samples=float(effective.mean()),
    )
