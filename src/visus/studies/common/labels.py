"""The labels that a study needs."""

from __future__ import annotations

import numpy as np

from visus.errors import DataError
from visus.images import ImageSet


def labels_of(imageset: ImageSet) -> np.ndarray:
    """The labels, int64 [n]; raises DataError when the set has none."""
    if imageset.labels is None:
        raise DataError(
            f"{imageset.name} has no labels, which this study needs; use class subfolders or --labels file.csv of name,label"
        )
    return imageset.labels
