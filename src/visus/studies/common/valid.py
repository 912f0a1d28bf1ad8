"""Which images every extraction could decode, and the split among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from visus.errors import DataError
from visus.features import Features
from visus.images import Splits


def valid_indices(splits: Splits, features: Sequence[Features], n: int) -> tuple[np.ndarray, Splits]:
    """int64 positions in an ImageSet of n images of those that every extraction could decode, and the splits in their numbering.

    Raises DataError when a split is left empty.
    """
    valid = reduce(np.intersect1d, [f.rows for f in features])
    where = np.full(n, -1, np.int64)
    where[valid] = np.arange(len(valid))

    def move(rows: np.ndarray) -> np.ndarray:
        moved = where[rows]
        found: np.ndarray = moved[moved >= 0]
        return found

    moved = Splits(move(splits.train), tuple((move(a), move(b)) for a, b in splits.folds), move(splits.test))
    if not len(moved.train) or not len(moved.test) or any(not len(a) or not len(b) for a, b in moved.folds):
        raise DataError(
            "after setting aside the files that could not be decoded a split is empty; see the quarantine and mend the files"
        )
    return valid, moved
