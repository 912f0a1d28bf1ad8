"""How far a map of the features may be believed: trustworthiness and kept neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features
from visus.measures.knn import largest


@dataclass(frozen=True)
class TrustFigures:
    """Both figures of one map, each in [0, 1], for the same k."""

    trustworthiness: float
    neighbours_kept: float
    k: int


def trustworthiness(x: Array, z: Array, *, k: int = 10) -> float:
    """Whether neighbours in the map z are neighbours in the features x: 1 when all are, near 0.5 for a random map.

    x: [n, d]; z: [n, 2]; Euclidean. A map neighbour whose rank among x's neighbours is r > k costs r - k, scaled to [0, 1];
    the same number as scikit-learn's. Needs 1 <= k < n / 2. Blocks of rows: memory does not grow with n^2, time does.
    Raises DataError on NaN, lengths that differ or k out of range. Source: Venna and Kaski 2001.
    """
    return trust_figures(x, [z], k=k)[0].trustworthiness


def neighbours_kept(x: Array, z: Array, *, k: int = 10) -> float:
    """The mean share of an image's k nearest neighbours in x that are among its k nearest in z: 1 all, k / (n - 1) by chance.

    x: [n, d]; z: [n, 2]; Euclidean, ties by the lower row. Raises as `trustworthiness` does.
    """
    return trust_figures(x, [z], k=k)[0].neighbours_kept


def trust_figures(x: Array, maps: Sequence[Array], *, k: int = 10) -> list[TrustFigures]:
    """Both figures for several maps of the same features, which are compared with each other only once."""
    x = features(x, at_least=3)
    n = len(x)
    maps = [features(z, "the map") for z in maps]
    for z in maps:
        if len(z) != n:
            raise DataError(f"the map has {len(z)} points and the features {n} rows; they must be the same images")
    if not 1 <= k < n / 2:
        raise DataError(f"k is {k} for {n} images; it must be at least 1 and below half of them")
    high, low = SquaredDistances(x), [SquaredDistances(z) for z in maps]
    excess, kept = np.zeros(len(maps)), np.zeros(len(maps))
    step = block_rows(8 * 4 * n)
    with torch.inference_mode():
        for start in range(0, n, step):
            far = high.block(start, step)
            near = smallest(far, k)[1]
            is_near = torch.zeros(far.shape, dtype=torch.bool)
            is_near.scatter_(1, near, True)
            for j, distances in enumerate(low):
                neighbours = distances.nearest(start, step, k)[1]
                inside = is_near.gather(1, neighbours)
                kept[j] += float(inside.sum())
                # The rank in x is 1 + how many are strictly nearer; only neighbours from outside can cost anything.
                row, column = (~inside).nonzero(as_tuple=True)
                reach = far[row, neighbours[row, column]]
                for part in range(0, len(row), step):
                    here = slice(part, part + step)
                    rank = 1 + (far[row[here]] < reach[here, None]).sum(dim=1)
                    excess[j] += float((rank - k).clamp(min=0).sum())
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    return [
        TrustFigures(trustworthiness=float(1 - scale * excess[j]), neighbours_kept=float(kept[j] / (n * k)), k=k)
        for j in range(len(maps))
    ]


class SquaredDistances:
    """Squared Euclidean distances to all rows, by blocks, in float64; a row is infinitely far from itself."""

    def __init__(self, x: Array) -> None:
        wide: Floats = x.astype(np.float64)
        wide = wide - wide.mean(axis=0)  # distances do not change, and little is lost in |a|^2 + |b|^2 - 2ab
        self.rows: Any = torch.from_numpy(wide)
        self.norms: Any = (self.rows**2).sum(dim=1)

    def block(self, start: int, size: int) -> Any:
        rows = self.rows[start : start + size]
        squared = (rows @ self.rows.T).mul_(-2).add_(self.norms).add_(self.norms[start : start + size, None])
        squared.clamp_(min=0)
        squared.diagonal(offset=start).fill_(float("inf"))
        return squared

    def nearest(self, start: int, size: int, k: int) -> tuple[Any, Any]:
        """The k smallest of each row of a block and their columns, [b, k], sorted; equal ones by the lower column."""
        return smallest(self.block(start, size), k)


def smallest(squared: Any, k: int) -> tuple[Any, Any]:
    """The k smallest of each row and their columns, [b, k], sorted; equal ones by the lower column."""
    value, column = largest(-squared, k)
    return -value, column
