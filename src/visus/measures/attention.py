"""What attention matrices say in numbers: entropy, distance, rollout, and whether heads do different things (protocol P9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, generator_of

ROUNDING = 1e-6  # of float32 values of nats or pixels, relative above 1


def entropy(p: Array, axis: int = -1) -> np.ndarray:
    """Entropy in nats along an axis of weights that are not negative, brought to a sum of 1; NaN where all of them are 0."""
    p = _shares(np.asarray(p, np.float64), axis)
    # Adding zero: what one weight has alone is 0, not -0.
    found: np.ndarray = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=axis) + 0.0
    return found


def mean_distance(attention: Array, grid: tuple[int, int], patch: tuple[int, int]) -> np.ndarray:
    """float64 [...]: mean attention distance in pixels of attention [..., n, n] among the n patches of a grid.

    Every row is brought to a sum of 1 and weighs the distances from its patch's centre to the others'; the rows are averaged, but for
    those that are 0 everywhere (NaN where all are; Dosovitskiy et al. 2021, section 4.5). patch: height and width in pixels.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    centres = np.stack([rows * patch[0], columns * patch[1]], axis=1).astype(np.float64)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    found: np.ndarray = mean_known((_shares(np.asarray(attention, np.float64), -1) * apart).sum(axis=-1), axis=-1)
    return found


def mean_known(values: Array, axis: int = 0) -> np.ndarray:
    """float64: the mean along an axis of what is no NaN; NaN where nothing is left."""
    x = np.asarray(values, np.float64)
    known = ~np.isnan(x)
    count = known.sum(axis=axis)
    found: np.ndarray = np.where(count > 0, np.where(known, x, 0).sum(axis=axis) / np.maximum(count, 1), np.nan)
    return found


def _shares(weights: np.ndarray, axis: int) -> np.ndarray:
    """Weights brought to a sum of 1 along an axis; NaN where they are all 0: attention that fell on no patch."""
    total = weights.sum(axis=axis, keepdims=True)
    found: np.ndarray = np.where(total > 0, weights / np.where(total > 0, total, 1), np.nan)
    return found


def rollout(layers: Sequence[Array]) -> np.ndarray:
    """float64 [..., n, n]: attention rolled out over layers [..., heads, n, n], the first one first (Abnar and Zuidema 2020).

    Heads are averaged, the skip connection is half of every layer: A = (mean + I) / 2, rows to a sum of 1, multiplied up.
    """
    if not len(layers):
        raise DataError("rollout needs at least one layer")
    total: np.ndarray | None = None
    for layer in layers:
        a = np.asarray(layer, np.float64).mean(axis=-3)
        a = 0.5 * a + 0.5 * np.eye(a.shape[-1])
        a = a / a.sum(axis=-1, keepdims=True)
        total = a if total is None else a @ total
    assert total is not None
    return total


@dataclass(frozen=True)
class Specialisation:
    """Whether heads differ in the same way over images.

    statistic: the share of the variation within images that the head explains (eta squared of repeated measures), 0..1.
    p: how often it is as large with the heads' labels permuted within every image. between, within: both sums of squares.
    """

    statistic: float
    p: float
    between: float
    within: float


def specialisation(values: Array, *, permutations: int = 9999, seed: int = 0) -> Specialisation:
    """Test a measure of every head, float [images, heads], for differences between heads that all images share.

    A permutation test of repeated measures: under the null the heads of an image are exchangeable. p = (1 + count) / (1 +
    permutations). Raises DataError for fewer than two images. One head, or heads that are all alike up to the rounding of float32:
    statistic 0, p 1. Source: Good 2005, ch. 7.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise DataError(f"specialisation needs finite values [pictures, heads] of at least two pictures, not {x.shape}")
    centred = x - x.mean(axis=1, keepdims=True)
    total = float((centred**2).sum())
    # Saturated attention has the same value in every head but for the last digits, and these would be tested.
    if x.shape[1] < 2 or total <= x.size * (ROUNDING * max(float(np.abs(x).max()), 1)) ** 2:
        return Specialisation(0.0, 1.0, 0.0, total)
    between = float(len(x) * (centred.mean(axis=0) ** 2).sum())
    generator = generator_of(seed)
    count = 0
    for _ in range(permutations):
        shuffled = generator.permuted(centred, axis=1)
        # A hair below, as sums in another order differ in the last digits.
        count += bool(len(x) * (shuffled.mean(axis=0) ** 2).sum() >= between * (1 - 1e-12))
    return Specialisation(between / total, (1 + count) / (1 + permutations), between, total - between)
