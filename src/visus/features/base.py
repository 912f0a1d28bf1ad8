"""Features: what looking gave. Arrays [n, d] by tap, aligned with ids and labels, kept as Parquet shards and a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visus.images.base import Quarantined


@dataclass(frozen=True)
class Features:
    """Features of one ImageSet under one Backbone.

    folders: tap name -> the folder of its Parquet shards. rows: int64 [n], positions in the ImageSet of the n rows (a picture
    that could not be decoded has none). ids: n names. quarantine: pictures set aside while decoding. cost: what it took
    ('seconds', 'images_per_second', 'engine', 'batch', 'cached').
    """

    folders: Mapping[str, Path]
    rows: np.ndarray
    ids: tuple[str, ...]
    quarantine: tuple[Quarantined, ...]
    cost: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(self.folders)

    def __getitem__(self, tap: str) -> np.ndarray:
        """float32 [n, d] of one tap; memory-mapped (a .npy made once beside the folder) when it is large."""
        from visus.features.store import load

        return load(self.folders[tap])

    @property
    def pixels(self) -> np.ndarray:
        """Of every row the hash of its decoded picture, array of str [n]: equal where two pictures are the same pixel for pixel."""
        from visus.features.store import pixel_hashes

        return pixel_hashes(next(iter(self.folders.values())))

    def blocks(self, tap: str, rows: int = 8192) -> Iterator[np.ndarray]:
        """float32 [<=rows, d] blocks of one tap in order, read shard by shard."""
        from visus.features.store import blocks

        return blocks(self.folders[tap], rows)
