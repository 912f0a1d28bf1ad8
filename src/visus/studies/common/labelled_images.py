"""Labelled images with their split, of those that every extraction could decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from visus.errors import DataError
from visus.features import Features
from visus.images import ImageSet, Splits
from visus.studies.common.labels import labels_of


@dataclass(frozen=True)
class LabelledImages:
    """The images that are judged on. valid_indices: int64 [n], positions in the ImageSet of those that every extraction could decode;
    y: int64 [n], their labels; splits: in the numbering of valid_indices."""

    imageset: ImageSet
    splits: Splits
    valid_indices: np.ndarray
    y: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.imageset.classes)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the valid images."""
        return tuple(self.imageset.ids[i] for i in self.valid_indices)

    @property
    def test_y(self) -> np.ndarray:
        found: np.ndarray = self.y[self.splits.test]
        return found

    @property
    def test_positions(self) -> np.ndarray:
        """int64 [n_test], positions in the ImageSet."""
        found: np.ndarray = self.valid_indices[self.splits.test]
        return found


def valid_images(imageset: ImageSet, splits: Splits, features: Sequence[Features]) -> LabelledImages:
    """The images that every extraction could decode, with the splits in their numbering. Raises DataError when a split is left empty."""
    valid, moved = valid_indices(splits, features, len(imageset))
    return LabelledImages(imageset, moved, valid, labels_of(imageset)[valid])


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
