"""Rows in blocks: the same code reads an array, a memory map, or a factory of blocks that never fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from visus.errors import DataError
from visus.measures._arrays import as_array

Array: TypeAlias = NDArray[Any]


@runtime_checkable
class Blocks(Protocol):
    """Features that are read in order, a block at a time, as often as asked."""

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield arrays [r, d] in row order, r at most about `rows`; each call starts anew."""
        ...


Source: TypeAlias = Array | Blocks | Callable[[], Iterator[Array]]


@dataclass(frozen=True)
class Rows:
    """Some rows of an array or memory map, in ascending order; only one block of them is in memory at a time."""

    x: Array
    index: NDArray[np.int64] | None = None

    def blocks(self, rows: int) -> Iterator[Array]:
        total = len(self.x) if self.index is None else len(self.index)
        for start in range(0, total, rows):
            stop = min(total, start + rows)
            yield self.x[start:stop] if self.index is None else self.x[self.index[start:stop]]


@dataclass(frozen=True)
class Picked:
    """Some rows, in ascending order, of features that come in blocks."""

    source: Blocks
    index: NDArray[np.int64]

    def blocks(self, rows: int) -> Iterator[Array]:
        offset = 0
        for block in self.source.blocks(rows):
            lo, hi = np.searchsorted(self.index, (offset, offset + len(block)))
            if hi > lo:
                yield block[self.index[lo:hi] - offset]
            offset += len(block)


@dataclass(frozen=True)
class Factory:
    """A callable that starts a new pass over the blocks; blocks larger than asked for are cut."""

    start: Callable[[], Iterator[Array]]

    def blocks(self, rows: int) -> Iterator[Array]:
        for block in self.start():
            for first in range(0, len(block), rows):
                yield block[first : first + rows]


def as_blocks(x: Source, index: NDArray[np.int64] | None = None) -> Blocks:
    """See any source as blocks, of the rows in `index` (ascending, unique) if given.

    Raises DataError when x is an array that is not [n, d] or holds no numbers.
    """
    if not isinstance(x, Blocks) and not callable(x):
        x = as_array(x, "features")
        if x.ndim != 2:
            raise DataError(f"features must be an array [n, d], not of shape {x.shape}; pool or flatten them first")
        if x.dtype.kind not in "fiu":
            raise DataError(f"features must be numbers, not {x.dtype}; convert them to float32 first")
        if index is not None and len(index) and index[-1] >= len(x):
            raise DataError(
                f"features have {len(x)} rows, and row {index[-1]} is asked for; give one row of features for each label"
            )
        return Rows(x, index)
    source = x if isinstance(x, Blocks) else Factory(x)
    return source if index is None else Picked(source, index)


def width(source: Blocks) -> int:
    """How many features a row has; 0 where there is no row."""
    first = next(iter(source.blocks(1)), None)
    return 0 if first is None or np.ndim(first) != 2 else int(np.shape(first)[1])


@dataclass(frozen=True)
class Moments:
    """Statistics of one pass. mean, std: float64 [d]; cov: float64 [d, d] (divided by n)."""

    n: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    cov: NDArray[np.float64]


def moments(source: Blocks, *, rows: int = 4096) -> Moments:
    """Mean, standard deviation and covariance in one pass, accumulated in float64.

    Blocks are shifted by the mean of the first, so that a large common offset costs no digits.
    A feature that is constant up to float32 rounding gets std 0.
    Raises DataError when there are no rows, rows differ in length, or a value is not finite.
    """
    n = 0
    shift = total = second = np.zeros(0)
    for raw in source.blocks(rows):
        block = np.asarray(raw, dtype=np.float64)
        if n == 0:
            shift = block.mean(axis=0)
            total, second = np.zeros(block.shape[1]), np.zeros((block.shape[1], block.shape[1]))
        if block.ndim != 2 or block.shape[1] != len(shift):
            raise DataError(f"a block of features has shape {block.shape}, expected [rows, {len(shift)}]")
        if not np.isfinite(block).all():
            raise DataError("features hold NaN or infinite values; find the images that cause them and leave them out")
        block = block - shift
        total += block.sum(axis=0)
        second += block.T @ block
        n += len(block)
    if n == 0:
        raise DataError("there are no rows to fit a probe on")
    centre = total / n
    cov = second / n - np.outer(centre, centre)
    mean = shift + centre
    variance = np.clip(np.diag(cov), 0, None)
    # Below float32's resolution of the values themselves, a spread is rounding and not information.
    constant = variance <= (2.0**-23 * np.abs(mean)) ** 2
    std = np.where(constant, 0.0, np.sqrt(variance))
    return Moments(n, mean, std, cov)
