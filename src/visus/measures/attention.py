"""What attention matrices say in numbers: entropy, distance, rollout, and whether heads do different things (protocol P9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array


def entropy(p: Array, axis: int = -1) -> np.ndarray:
    """Entropy in nats along an axis of weights that are not negative, brought to a sum of 1."""
    p = np.asarray(p, np.float64)
    p = p / np.maximum(p.sum(axis=axis, keepdims=True), 1e-30)
    found: np.ndarray = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=axis)
    return found


def mean_distance(attention: Array, grid: tuple[int, int], patch: tuple[int, int]) -> np.ndarray:
    """float64 [...]: mean attention distance in pixels of attention [..., n, n] among the n patches of a grid.

    Every row is brought to a sum of 1 and weighs the distances from its patch's centre to the others'; the rows are averaged
    (Dosovitskiy et al. 2021, section 4.5). patch: height and width in pixels.
    """
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    centres = np.stack([rows * patch[0], columns * patch[1]], axis=1).astype(np.float64)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    a = np.asarray(attention, np.float64)
    a = a / np.maximum(a.sum(axis=-1, keepdims=True), 1e-30)
    found: np.ndarray = (a * apart).sum(axis=-1).mean(axis=-1)
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
    """Whether heads differ in the same way over pictures.

    statistic: the share of the variation within pictures that the head explains (eta squared of repeated measures), 0..1.
    p: how often it is as large with the heads' labels permuted within every picture. between, within: both sums of squares.
    """

    statistic: float
    p: float
    between: float
    within: float


def specialisation(values: Array, *, permutations: int = 9999, seed: int = 0) -> Specialisation:
    """Test a measure of every head, float [pictures, heads], for differences between heads that all pictures share.

    A permutation test of repeated measures: under the null the heads of a picture are exchangeable. p = (1 + count) / (1 +
    permutations). Raises DataError for fewer than two pictures. One head: statistic 0, p 1. Source: Good 2005, ch. 7.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise DataError(f"specialisation needs finite values [pictures, heads] of at least two pictures, not {x.shape}")
    centred = x - x.mean(axis=1, keepdims=True)
    total = float((centred**2).sum())
    if x.shape[1] < 2 or total <= 1e-24:
        return Specialisation(0.0, 1.0, 0.0, total)
    between = float(len(x) * (centred.mean(axis=0) ** 2).sum())
    generator = np.random.default_rng(seed)
    count = 0
    for _ in range(permutations):
        shuffled = generator.permuted(centred, axis=1)
        # A hair below, as sums in another order differ in the last digits.
        count += bool(len(x) * (shuffled.mean(axis=0) ** 2).sum() >= between * (1 - 1e-12))
    return Specialisation(between / total, (1 + count) / (1 + permutations), between, total - between)
