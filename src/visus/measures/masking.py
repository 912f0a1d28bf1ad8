"""Which patches stay when patches go, and what a curve over the share kept says (protocol P10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, generator_of

PATTERNS = ("random", "centre", "periphery", "block", "most-attended", "least-attended")
SCORED = ("most-attended", "least-attended")
BLOCK = 1000  # resamples at a time


def patch_order(
    pattern: str, grid: tuple[int, int], n: int, *, seed: int = 0, scores: Array | None = None
) -> np.ndarray:
    """int64 [n, patches]: of each of n images the patches (row-major), those that are kept longest first.

    random: another permutation for every image. centre, periphery: by distance from the centre of the grid, near or far patches
    kept longest. block: what goes is a square around a random patch, cut off at the border, that grows. most-attended, least-attended:
    the patches with the highest, lowest `scores` (float [n, patches]) go first. Ties: the patch with the lower index stays longer; of
    'block' those nearer (Euclid) to the random patch go first. Raises DataError for an unknown pattern, or scores that lack or do not fit.
    """
    if pattern not in PATTERNS:
        raise DataError(f"unknown pattern {pattern!r} of patches; choose one of {', '.join(PATTERNS)}")
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    patches = len(rows)
    if pattern == "random":
        return np.argsort(generator_of(seed).random((n, patches)), axis=1)
    if pattern in SCORED:
        if scores is None or np.shape(scores) != (n, patches) or not np.isfinite(scores).all():
            raise DataError(f"the pattern {pattern} needs a finite score for each of {n} x {patches} patches")
        values = np.asarray(scores, np.float64)
        return np.argsort(values if pattern == "most-attended" else -values, axis=1, kind="stable")
    if pattern == "block":
        middle = generator_of(seed).integers(0, patches, n)
        down, across = rows - rows[middle][:, None], columns - columns[middle][:, None]
        ring = np.maximum(np.abs(down), np.abs(across)).astype(np.float64)
        near = np.hypot(down, across)
        # Rings of a square around the patch; inside a ring the corners go last.
        return np.lexsort((np.broadcast_to(np.arange(patches), ring.shape), -near, -ring), axis=1)
    away = np.hypot(rows - (grid[0] - 1) / 2, columns - (grid[1] - 1) / 2)
    order = np.argsort(away if pattern == "centre" else -away, kind="stable")
    return np.tile(order, (n, 1))


def kept_at(order: np.ndarray, ratio: float) -> np.ndarray:
    """int64 [n, k], ascending: the patches kept at a ratio of `order` [n, patches]; k = round(ratio * patches), at least 1.

    Raises DataError for a ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise DataError(
            f"a keep ratio must be above 0 and at most 1, not {ratio}: a picture without patches shows nothing"
        )
    k = max(round(ratio * order.shape[1]), 1)
    return np.sort(order[:, :k], axis=1)


def blank_mask(kept: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """bool [n, h, w]: the pixels of an image of any size that the kept patches (int64 [n, k]) of a grid cover."""
    cells = np.zeros((len(kept), grid[0] * grid[1]), bool)
    np.put_along_axis(cells, kept, True, axis=1)
    down = np.arange(size[0]) * grid[0] // size[0]
    across = np.arange(size[1]) * grid[1] // size[1]
    return cells.reshape(-1, *grid)[:, down[:, None], across]


def area_under(ratios: Sequence[float] | Array, values: Array) -> float:
    """The area under values [r] over ratios [r] by the trapezoid rule, over the range of ratios: a mean."""
    weights = _weights(np.asarray(ratios, np.float64))
    return float(weights @ np.asarray(values, np.float64))


def area_each(ratios: Sequence[float] | Array, hits: Array) -> np.ndarray:
    """float64 [n]: the area of every image's own curve, of hits [r, n]; their mean is the area of the mean curve."""
    found: np.ndarray = _weights(np.asarray(ratios, np.float64)) @ np.asarray(hits, np.float64)
    return found


def area_intervals(
    ratios: Sequence[float] | Array, hits: Array, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """(area, low, high) of the mean curve of hits [r, n], with a percentile interval by bootstrap over the n images.

    The area is linear in the hits, so an image enters by its own area (`area_each`), and a resample is the mean of n of these.
    """
    return bootstrap_mean(area_each(ratios, hits), resamples=resamples, level=level, seed=seed)


def bootstrap_mean(
    values: Array, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of values [n], one an image, with a percentile interval by bootstrap over the images."""
    own = np.asarray(values, np.float64)
    generator, n = generator_of(seed), len(own)
    if not n:
        raise DataError("an area needs at least one picture")
    means = np.concatenate(
        [
            own[generator.integers(0, n, (min(BLOCK, resamples - start), n))].mean(axis=1)
            for start in range(0, resamples, BLOCK)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(own.mean()), float(low), float(high)


def halving(ratios: Sequence[float] | Array, values: Array) -> float | None:
    """The largest share kept at which values [r] are half of that at the largest ratio, linear between points; None: never."""
    x, y = np.asarray(ratios, np.float64), np.asarray(values, np.float64)
    order = np.argsort(-x)
    x, y = x[order], y[order]
    half = y[0] / 2
    for k in range(1, len(x)):
        if y[k] <= half < y[k - 1]:
            return float(x[k - 1] + (x[k] - x[k - 1]) * (y[k - 1] - half) / (y[k - 1] - y[k]))
    return None


def _weights(x: np.ndarray) -> np.ndarray:
    """The trapezoid rule as weights [r] in the order of x, adding up to 1."""
    if x.ndim != 1 or len(x) < 2 or len(np.unique(x)) < len(x):
        raise DataError("an area needs at least two keep ratios, each once")
    order = np.argsort(x)
    gaps = np.diff(x[order])
    weights = np.zeros(len(x))
    weights[order[:-1]] += gaps / 2
    weights[order[1:]] += gaps / 2
    found: np.ndarray = weights / weights.sum()
    return found
