"""What every measure asks of its arrays, said once: shapes, finite numbers, labels that fit."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.errors import DataError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BLOCK_BYTES = 64 * 2**20


def block_rows(row_bytes: int, *, budget: int = _BLOCK_BYTES, at_least: int = 16) -> int:
    """How many rows of `row_bytes` bytes fit in `budget` bytes, and no fewer than `at_least`."""
    return max(at_least, budget // max(1, row_bytes))


def generator_of(seed: int) -> np.random.Generator:
    """numpy's generator of a seed. Raises DataError for what is no whole number from 0 up."""
    try:
        return np.random.default_rng(operator.index(seed))
    except (TypeError, ValueError):
        raise DataError(f"seed is {seed!r}; give a whole number from 0 up") from None


def as_array(x: Any, name: str = "x", *, real: bool = False) -> Array:
    """See lists, tables' columns and tensors on the CPU as an array; an array (a memory map too) stays itself. real: as float64.

    Raises DataError for what is no array: rows of unequal length, nothing, texts or objects where numbers are meant.
    """
    try:
        found: Array = np.asanyarray(x)
        if real and found.dtype.kind in "fiub":
            found = found.astype(np.float64, copy=False)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{name} is a {type(x).__name__} that is no array; give numbers in rows of one length"
        ) from None
    if x is None or (real and found.dtype.kind not in "fiub"):
        raise DataError(f"{name} holds {'nothing' if x is None else found.dtype}; give real numbers")
    return found


def features(x: Array, name: str = "x", *, at_least: int = 1) -> Array:
    """Check that x is [n, d], numeric and finite, with n >= at_least; return it unchanged (a memory map stays one).

    Raises DataError otherwise. Finite is checked in blocks, so that a memory-mapped array is never copied whole.
    """
    x = as_array(x, name)
    if x.ndim != 2:
        raise DataError(f"{name} has shape {list(x.shape)}; give one row of features per image, [n, d]")
    if len(x) == 0 or x.shape[1] == 0:
        raise DataError(f"{name} is empty, shape {list(x.shape)}; give at least one image with one feature")
    if x.dtype.kind not in "fiub":
        raise DataError(f"{name} holds {x.dtype}; features must be real numbers")
    if len(x) < at_least:
        raise DataError(f"{name} has {len(x)} rows; at least {at_least} are needed")
    if x.dtype.kind == "f":
        step = block_rows(x.shape[1] * x.dtype.itemsize)
        for start in range(0, len(x), step):
            if not np.isfinite(x[start : start + step]).all():
                bad = start + int(np.flatnonzero(~np.isfinite(x[start : start + step]).all(axis=1))[0])
                raise DataError(f"{name} holds NaN or infinity, first in row {bad}; find out which layer made it")
    return x


def labels(y: Array, n: int, name: str = "y", *, n_classes: int | None = None) -> Ints:
    """Check that y is n whole numbers >= 0 (below n_classes where given) and return it as int64 [n]. Raises DataError."""
    y = as_array(y, name)
    if y.ndim != 1 or len(y) != n:
        raise DataError(f"{name} has shape {list(y.shape)} for {n} rows of features; give one label per row")
    if y.dtype.kind not in "iub":
        raise DataError(f"{name} holds {y.dtype}; labels must be whole numbers, class 0 first")
    if n and int(y.min()) < 0:
        raise DataError(f"{name} holds the label {int(y.min())}; drop unlabelled images before measuring")
    if n and n_classes is not None and int(y.max()) >= n_classes:
        raise DataError(f"{name} holds the label {int(y.max())}, but there are only {n_classes} classes (0 first)")
    return y.astype(np.int64, copy=False)


def at_least_two_classes(y: Ints, name: str = "y") -> None:
    """Raise DataError where every label is the same."""
    if len(y) == 0 or (y == y[0]).all():
        raise DataError(f"{name} holds one class only; at least two are needed to tell classes apart")


def compact(y: Ints) -> tuple[Ints, Ints]:
    """The labels that occur (sorted), and y as positions among them."""
    values, positions = np.unique(y, return_inverse=True)
    return values, positions.astype(np.int64, copy=False)
