"""What is trained on, and what holds for every regime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visus.images import ImageSet


@dataclass(frozen=True)
class TrainingData:
    """What a regime is trained on. train, validation, test: positions in the ImageSet; labels: int64 [len(images)].

    late: (float32 [n, d], ...) by part, the frozen network's features where they are known already.
    """

    images: ImageSet
    labels: np.ndarray
    n_classes: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    late: Mapping[str, np.ndarray] | None = None

    def rows(self, part: str) -> np.ndarray:
        """Positions of 'train', 'validation' or 'test'."""
        found: np.ndarray = getattr(self, part)
        return found

    @property
    def held(self) -> dict[str, np.ndarray]:
        """Labels of the held-out parts."""
        return {part: self.labels[self.rows(part)] for part in ("validation", "test")}


@dataclass(frozen=True)
class Settings:
    """What holds for every regime. views: augmented views of every image that a frozen front keeps (0: none, the images as they stand).

    augment: whether regimes over the whole network see augmented images. engine: what runs a frozen front.
    """

    views: int = 0
    augment: bool = True
    engine: str = "auto"
    lora_rank: int = 8
