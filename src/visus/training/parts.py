"""The parts of an image set: what is trained on, what chooses, what is looked at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visus.images import ImageSet


@dataclass(frozen=True)
class Parts:
    """Positions in an image set: what is trained on, what chooses the epoch, what is looked at once."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts_of(imageset: ImageSet, *, seed: int) -> Parts:
    """The set's own split (protocol P0); where it has five folds, the first of them."""
    splits = imageset.split(seed=seed)
    return Parts(*splits.folds[0], splits.test)
