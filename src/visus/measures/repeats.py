"""The same image twice: which test images are, pixel for pixel, images that were learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Repeats:
    """Where equal images stand. duplicate_of: int64 [n_test], for every test image the row of an equal training image, -1 where there is none.
    against: bool [n_test], whether an equal training image has another label. within: test images that repeat an earlier one.
    validation: validation images that are equal to one of those they were chosen with, of n_validation.
    """

    duplicate_of: np.ndarray
    against: np.ndarray
    within: int
    validation: int
    n_validation: int

    @property
    def test(self) -> np.ndarray:
        """bool [n_test]: test images that are training images too."""
        found: np.ndarray = self.duplicate_of >= 0
        return found

    @property
    def count(self) -> int:
        return int(self.test.sum())


def repeats(
    pixels: np.ndarray,
    y: np.ndarray | None,
    train: np.ndarray,
    test: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> Repeats:
    """Equal images across the parts of a split.

    pixels: [n] of any type with an order, equal for equal images (hashes). y: int64 [n] labels, or None. train (with validation), test:
    int64 rows; folds: (fit, validation) rows. O(n log n).
    """
    _, key = np.unique(pixels, return_inverse=True)
    key = key.ravel()
    n = int(key.max()) + 1 if len(key) else 0
    first = np.full(n, -1, np.int64)
    first[key[train][::-1]] = train[::-1]  # the earliest row of each image
    duplicate_of = first[key[test]] if len(test) else np.empty(0, np.int64)
    against = np.zeros(len(test), bool)
    if y is not None and len(test) and len(train):
        pairs = np.unique(np.stack([key[train], y[train]]), axis=1)  # (image, label) of training
        kinds = np.bincount(pairs[0], minlength=n)
        alike = np.isin(
            key[test].astype(np.int64) * (int(y.max()) + 1) + y[test], pairs[0] * (int(y.max()) + 1) + pairs[1]
        )
        against = (duplicate_of >= 0) & (kinds[key[test]] > alike)
    held = [np.isin(key[val], key[fit]) for fit, val in folds]
    return Repeats(
        duplicate_of,
        against,
        len(test) - len(np.unique(key[test])),
        int(sum(h.sum() for h in held)),
        int(sum(len(h) for h in held)),
    )
