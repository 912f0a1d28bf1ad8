"""Fréchet distance between two sets of features, each taken for a Gaussian (the number of FID)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features


@dataclass(frozen=True)
class Frechet:
    """distance = mean_part + covariance_part, in squared units of the features, as FID is quoted; n_x, n_y: rows of each set."""

    distance: float
    mean_part: float
    covariance_part: float
    n_x: int
    n_y: int


def frechet_distance(x: Array, y: Array) -> Frechet:
    """|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), with unbiased covariances as in pytorch-fid.

    x: [n, d], y: [m, d] in the same feature space. Taken from triangular factors of the covariances, never squared: exact to rounding for
    any rank, also n <= d, where the covariance cannot have full rank. The estimate is biased upwards by a term that falls like 1 / n and grows
    with d: compare distances at equal n and m only, and read one with n or m below a few times d with care (n_x and n_y are returned for
    that). Memory: O(d min(n, d)) per set. Raises DataError: fewer than 2 rows, widths that differ, NaN.
    Source: Heusel et al. 2017, eq. 6; Chong and Forsyth 2020 (the bias).
    """
    x, y = features(x, "x", at_least=2), features(y, "y", at_least=2)
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"x has {x.shape[1]} features and y {y.shape[1]}; take both from the same tap of the same model"
        )
    (mean_x, factor_x), (mean_y, factor_y) = _moments(x), _moments(y)
    away = mean_x - mean_y
    mean_part = float(away @ away)
    # S_x = A'A and S_y = B'B: the eigenvalues of S_x S_y are the squared singular values of AB'.
    shared = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    covariance_part = max(0.0, float((factor_x**2).sum() + (factor_y**2).sum() - 2 * shared))
    return Frechet(mean_part + covariance_part, mean_part, covariance_part, len(x), len(y))


def _moments(x: Array) -> tuple[Floats, Floats]:
    """The mean [d], and R [min(n, d), d] such that R'R is the unbiased covariance, by a QR decomposition over blocks of rows."""
    n, d = x.shape
    mean: Floats = x.mean(axis=0, dtype=np.float64)
    factor: Floats = np.empty((0, d))
    step = block_rows(8 * d, at_least=min(d, 4096))
    for start in range(0, n, step):
        centred = x[start : start + step].astype(np.float64) - mean
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, centred]), mode="r"))
    return mean, factor / np.sqrt(n - 1)
