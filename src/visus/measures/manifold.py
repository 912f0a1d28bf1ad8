"""Real and generated rows against each other's neighbourhoods: nearest rows, precision and recall, memorisation (protocols P11, P13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, Ints, block_rows, features
from visus.progress import task

Bools = npt.NDArray[np.bool_]

# A block of distances is at most ROWS x COLUMNS (8 MiB in float32, and a few like it beside).
ROWS, COLUMNS = 512, 4096
# Squares of values outside these do not fit float32, nor float64.
_SINGLE, _DOUBLE = (1e-15, 1e15), 1e150


@dataclass(frozen=True)
class PrecisionRecall:
    """precision: share of fake rows inside the real set's balls; recall: share of real rows inside the fake set's; density: balls per fake
    row over k, near 1 for equal distributions, may exceed it; coverage: share of real rows whose ball holds a fake row. in_real bool [m],
    covered bool [n], in_fake bool [n]: what precision, coverage and recall are the means of."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    in_real: Bools
    covered: Bools
    in_fake: Bools


@dataclass(frozen=True)
class Memorisation:
    """distances float64 [m], indices int64 [m]: each sample's nearest training row. held_median: median distance of held-out rows to theirs;
    ratio: the samples' median over it (NaN where it is 0). threshold: the 1 % quantile of the held-out distances; share_closer: share of
    samples strictly below it (0.01 for samples like held-out rows)."""

    distances: Floats
    indices: Ints
    held_median: float
    ratio: float
    threshold: float
    share_closer: float


def nearest(x: Array, y: Array, *, k: int = 1, exclude_self: bool = False) -> tuple[Floats, Ints]:
    """The k rows of y nearest to each row of x, exactly, by Euclidean distance; equal ones by the lower row of y.

    x: [n, d]; y: [m, d]; 1 <= k <= m (m - 1 with exclude_self, where x and y are the same rows and a row is not its own neighbour).
    Returns the distances float64 [n, k] and the row numbers int64 [n, k], best first.
    Candidates come from products in float32 with a bound on their error, distances from differences in float64: rows that differ
    little, far from the origin, lose nothing. Memory does not grow with n m. Raises DataError: NaN, widths that differ, k out of range.
    """
    pairs = RowPairs(x, y, "x", "y")
    if exclude_self and len(pairs.x) != len(pairs.y):
        raise DataError("exclude_self needs x and y to be the same rows in the same order")
    reach = len(pairs.y) - 1 if exclude_self else len(pairs.y)
    if not 1 <= k <= reach:
        raise DataError(f"k is {k} and {reach} rows are there to choose from; k must be from 1 to that")
    squared, indices = _nearest(pairs, k, exclude_self=exclude_self)
    return np.sqrt(squared), indices


def precision_recall(real: Array, fake: Array, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall, and density and coverage, of generated features against real ones.

    real: [n, d]; fake: [m, d]; n, m > k. A row's ball reaches to its k-th nearest other row of its own set, its border included. Density and
    coverage use the real set's balls with the same k, by the same definition (their paper takes k = 5). All four depend on
    k, n and m: compare at equal ones. Memory does not grow with n m. Raises DataError: NaN, widths that differ, k out of range.
    Source: Kynkäänniemi et al. 2019, eq. 1 and 2; Naeem et al. 2020, section 3.
    """
    pairs = RowPairs(real, fake, "real", "fake")
    n, m = len(pairs.x), len(pairs.y)
    if not 1 <= k < min(n, m):
        raise DataError(f"k is {k} for {n} real and {m} fake rows; it must be at least 1 and below both")
    around_real = _nearest(RowPairs(pairs.x, pairs.x, "real", "real"), k, exclude_self=True)[0][:, -1]
    around_fake = _nearest(RowPairs(pairs.y, pairs.y, "fake", "fake"), k, exclude_self=True)[0][:, -1]
    in_real, covered, in_fake = np.zeros(m, np.bool_), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    balls = 0
    with task("comparing real and generated rows", n) as progress:
        for top in pairs.tops():
            for left in pairs.lefts():
                here, there = slice(top, top + pairs.rows), slice(left, left + pairs.columns)
                by_real, by_fake = pairs.within(top, left, (around_real[here, None], around_fake[None, there]))
                balls += int(np.count_nonzero(by_real))
                in_real[there] |= by_real.any(axis=0)
                covered[here] |= by_real.any(axis=1)
                in_fake[here] |= by_fake.any(axis=1)
            progress.advance(min(pairs.rows, n - top))
    return PrecisionRecall(
        precision=float(in_real.mean()),
        recall=float(in_fake.mean()),
        density=balls / (k * m),
        coverage=float(covered.mean()),
        k=k,
        in_real=in_real,
        covered=covered,
        in_fake=in_fake,
    )


def memorisation(samples: Array, train: Array, held: Array) -> Memorisation:
    """Whether generated rows lie nearer to training rows than unseen real rows do: memorised or new.

    samples: [m, d]; train: [n, d]; held: [h, d], real rows outside the training set; all in one space (pixels or features). A ratio well
    below 1, or a share_closer well above 0.01, says that samples repeat training rows; the 1 % quantile needs a few hundred held-out rows.
    Raises DataError: NaN, empty sets, widths that differ. Source: protocol P13; Meehan et al. 2020 (the comparison with held-out rows).
    """
    reach, place = nearest(samples, train)
    distances, indices, unseen = reach[:, 0], place[:, 0], nearest(held, train)[0][:, 0]
    median, threshold = float(np.median(unseen)), float(np.quantile(unseen, 0.01))
    return Memorisation(
        distances=distances,
        indices=indices,
        held_median=median,
        ratio=float(np.median(distances)) / median if median > 0 else float("nan"),
        threshold=threshold,
        share_closer=float(np.mean(distances < threshold)),
    )


class RowPairs:
    """Squared distances between the rows of x and y: bounds on whole blocks from one product, exact values for chosen pairs."""

    def __init__(self, x: Array, y: Array, x_name: str, y_name: str) -> None:
        self.x, self.y = features(x, x_name), features(y, y_name)
        if self.x.shape[1] != self.y.shape[1]:
            raise DataError(
                f"{x_name} has {self.x.shape[1]} features and {y_name} {self.y.shape[1]}; take both from the same space"
            )
        # Distances do not change with the origin, the product's error does.
        self.centre: Floats = self.y.mean(axis=0, dtype=np.float64)
        peak = max(max(float(a.max()), -float(a.min())) for a in (self.x, self.y))
        if peak > _DOUBLE:
            raise DataError(
                f"{x_name} or {y_name} holds {peak:.3g}, whose square is not finite; scale the features down"
            )
        self.narrow: np.dtype[Any] = np.dtype(np.float32 if _SINGLE[0] < peak < _SINGLE[1] else np.float64)
        fits = block_rows(8 * self.x.shape[1])
        self.rows, self.columns = min(ROWS, fits), min(COLUMNS, fits)

    def tops(self) -> range:
        return range(0, len(self.x), self.rows)

    def lefts(self) -> range:
        return range(0, len(self.y), self.columns)

    def bounds(self, top: int, left: int, *, wide: bool = False) -> tuple[Array, Array]:
        """Squared distances [b, w] of a block, from below and from above, in float32 (wide: float64)."""
        kind = np.dtype(np.float64) if wide else self.narrow
        a = (self.x[top : top + self.rows].astype(np.float64) - self.centre).astype(kind)
        b = (self.y[left : left + self.columns].astype(np.float64) - self.centre).astype(kind)
        # d products and sums, and the roundings around them, each off by at most half a unit in the last place.
        error = (a.shape[1] + 16) * float(np.finfo(kind).eps) / 2
        size = np.add.outer(np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b))
        cross = a @ b.T
        cross *= -2
        lower = size * kind.type(1 - 2 * error)
        lower += cross
        size *= kind.type(1 + 2 * error)
        size += cross
        return lower, size

    def exact(self, row: Ints, column: Ints) -> Floats:
        """Squared distances of pairs of rows, from their differences in float64."""
        result = np.empty(len(row))
        step = block_rows(8 * 4 * self.x.shape[1])
        for start in range(0, len(row), step):
            here = slice(start, start + step)
            away = self.x[row[here]].astype(np.float64)
            away -= self.y[column[here]]
            result[here] = np.einsum("nd,nd->n", away, away)
        return result

    def within(self, top: int, left: int, limits: tuple[Floats, ...], *, wide: bool = False) -> list[Bools]:
        """Whether each squared distance of a block is at most a limit (one by row, [b, 1], or by column, [1, w]), for each of the limits."""
        lower, upper = self.bounds(top, left, wide=wide)
        inside = [lower <= _up(limit, lower.dtype) for limit in limits]
        doubt = np.zeros(lower.shape, np.bool_)
        for answer, limit in zip(inside, limits, strict=True):
            doubt |= answer & ~(upper < _down(limit, lower.dtype))
        row, column = doubt.nonzero()
        if lower.dtype == np.float32 and 8 * len(row) > doubt.size:  # float32 leaves too much of the block open
            return self.within(top, left, limits, wide=True)
        distance = self.exact(top + row, left + column)
        for answer, limit in zip(inside, limits, strict=True):
            answer[row, column] = distance <= np.broadcast_to(limit, lower.shape)[row, column]
        return inside


def _nearest(pairs: RowPairs, k: int, *, exclude_self: bool) -> tuple[Floats, Ints]:
    """The k smallest squared distances [n, k] and their rows of y."""
    n = len(pairs.x)
    keep = _first_copies(pairs.y, k + 1 if exclude_self else k)
    if len(keep) < len(pairs.y):
        pairs = RowPairs(pairs.x, pairs.y[keep], "x", "y")
    squared, indices = np.empty((n, k)), np.empty((n, k), np.int64)
    with task("searching nearest rows", n) as progress:
        for top in pairs.tops():
            size = min(pairs.rows, n - top)
            own = keep.searchsorted(np.arange(top, top + size))
            own[keep[own.clip(max=len(keep) - 1)] != np.arange(top, top + size)] = -1
            best, place = np.full((size, k), np.inf), np.full((size, k), len(pairs.y), np.int64)
            for left in pairs.lefts():
                row, column = _candidates(pairs, top, left, best[:, -1], k, own if exclude_self else None)
                if len(row):
                    found = pairs.exact(top + row, left + column)
                    best, place = _merge(best, place, row, found, left + column)
            squared[top : top + size], indices[top : top + size] = best, keep[place]
            progress.advance(size)
    return squared, indices


def _candidates(
    pairs: RowPairs, top: int, left: int, border: Floats, k: int, own: Ints | None, *, wide: bool = False
) -> tuple[Ints, Ints]:
    """The pairs of a block that may be among the k nearest, where the k-th so far is at `border` [b], squared."""
    lower, upper = pairs.bounds(top, left, wide=wide)
    if own is not None:
        mine = np.flatnonzero((own >= left) & (own < left + lower.shape[1]))
        lower[mine, own[mine] - left], upper[mine, own[mine] - left] = np.nan, np.inf
    limit = border
    if lower.shape[1] >= k:
        limit = np.minimum(limit, np.partition(upper, k - 1, axis=1)[:, k - 1])
    row, column = (lower <= _up(limit, lower.dtype)[:, None]).nonzero()
    if lower.dtype == np.float32 and len(row) > max(8 * k * len(lower), lower.size // 8):
        return _candidates(pairs, top, left, border, k, own, wide=True)
    return row, column


def _merge(best: Floats, place: Ints, row: Ints, found: Floats, column: Ints) -> tuple[Floats, Ints]:
    """The k smallest of each row's best [b, k] and its new ones (as many as it has), sorted; equal ones by the lower column."""
    b, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(b), k), row])
    values, columns = np.concatenate([best.ravel(), found]), np.concatenate([place.ravel(), column])
    order = np.lexsort((columns, values, rows))
    counts = np.bincount(rows, minlength=b)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = order[rank < k]
    return values[chosen].reshape(b, k), columns[chosen].reshape(b, k)


def _first_copies(y: Array, most: int) -> Ints:
    """The rows of y without the copies that come after the first `most` equal ones: these can be nobody's nearest."""
    n, d = y.shape
    direction = np.random.default_rng(0).standard_normal(d)
    key = np.empty(n)
    step = block_rows(8 * 3 * d)
    for start in range(0, n, step):
        key[start : start + step] = np.einsum("nd,d->n", y[start : start + step].astype(np.float64), direction)
    first, group, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)[1:]
    if counts.max() <= most:
        return np.arange(n)
    order = np.argsort(group, kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    drop = rank >= most
    late = np.flatnonzero(drop)
    for start in range(0, len(late), step):
        here = late[start : start + step]
        drop[here] = (y[here] == y[first[group[here]]]).all(axis=1)
    return np.flatnonzero(~drop)


def _up(limit: Floats, kind: np.dtype[Any]) -> Array:
    """The limit in the block's precision, rounded up."""
    result: Array = np.nextafter(limit.astype(kind), np.asarray(np.inf, kind))
    return result


def _down(limit: Floats, kind: np.dtype[Any]) -> Array:
    result: Array = np.nextafter(limit.astype(kind), np.asarray(-np.inf, kind))
    return result
