"""How far a proportion, or a mean, may lie from the truth: Wilson's interval, and the normal one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import overload

import numpy as np
import numpy.typing as npt

from visus.errors import DataError
from visus.measures._arrays import Floats, as_array


@overload
def wilson(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]: ...
@overload
def wilson(successes: npt.ArrayLike, n: npt.ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]: ...


def wilson(
    successes: npt.ArrayLike, n: npt.ArrayLike, *, level: float = 0.95
) -> tuple[float, float] | tuple[Floats, Floats]:
    """Wilson's score interval (no continuity correction) of a proportion.

    successes, n: counts, scalars or arrays that broadcast; level: coverage, strictly between 0 and 1. Returns (low, high)
    as fractions, floats for scalars and float64 arrays otherwise. Where n = 0 nothing is known: (0, 1).
    Raises DataError unless 0 <= successes <= n. Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}; give a coverage between 0 and 1, such as 0.95")
    hits, trials = np.broadcast_arrays(as_array(successes, "successes", real=True), as_array(n, "n", real=True))
    if not (np.isfinite(hits).all() and np.isfinite(trials).all() and (hits >= 0).all() and (hits <= trials).all()):
        raise DataError("successes must lie between 0 and n; check that both count the same images")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    safe = np.maximum(trials, 1.0)
    share = hits / safe
    denominator = 1 + z * z / safe
    centre = (share + z * z / (2 * safe)) / denominator
    half = z / denominator * np.sqrt(share * (1 - share) / safe + z * z / (4 * safe * safe))
    # The ends are exactly 0 and 1 in theory; rounding would leave 1e-17 and 1 - 1e-16.
    low = np.where((hits == 0) | (trials == 0), 0.0, np.maximum(centre - half, 0.0))
    high = np.where((hits == trials) | (trials == 0), 1.0, np.minimum(centre + half, 1.0))
    if hits.ndim == 0:
        return float(low), float(high)
    return low, high


def grouped_wilson(hits: npt.ArrayLike, groups: npt.ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share whose rows stand in groups (captions of one image), which say less than as many rows of their own.

    hits: bool [n]; groups: int64 [n]. The share counts every row; n is divided by the design effect, the variance over groups (linearised,
    G / (G - 1)) by that of independent rows, never under 1. Where all rows agree it is n² / Σ m² of groups of m rows (Kish 1965). With groups of
    one row it is `wilson`. Raises DataError when they differ in number. Source: Korn and Graubard 1998.
    """
    y = np.asarray(hits, np.float64)
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    if len(y) != len(code) or not len(y):
        raise DataError(f"{len(y)} hits and {len(code)} groups were given; give one group for each")
    n, sizes = len(y), np.bincount(code)
    share = float(y.mean())
    independent = share * (1 - share) / n
    effective = n * n / float((sizes.astype(np.float64) ** 2).sum())
    if 1 < len(sizes) < n and independent > 0:
        between = len(sizes) / (len(sizes) - 1) * float((np.bincount(code, y - share) ** 2).sum()) / n**2
        effective = n * min(1.0, independent / between) if between else float(n)
    low, high = wilson(np.array([min(share * effective, effective)]), np.array([effective]), level=level)
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class MeanInterval:
    """A mean over n images with its 95 % normal interval. value: None of nothing; low, high: None of fewer than two."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(values: npt.NDArray[np.floating]) -> MeanInterval:
    """Of one value an image, float [n]: the mean -/+ 1.96 standard deviations (n - 1) / sqrt(n)."""
    n = len(values)
    if n < 2:
        return MeanInterval(float(values[0]) if n else None, None, None, n)
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / float(np.sqrt(n))
    return MeanInterval(mean, mean - half, mean + half, n)
