"""Features: what looking gave. Arrays [n, d] by tap, aligned with ids and labels, kept as Parquet shards and a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import SpecError
from visus.features.store import blocks, pixel_hashes, read_vectors
from visus.images.base import Quarantined


@dataclass(frozen=True)
class Features:
    """Features of one ImageSet under one Backbone.

    folders: tap name -> the folder of its Parquet shards. rows: int64 [n], positions in the ImageSet of the n rows (an image
    that could not be decoded has none). ids: n names. quarantine: images set aside while decoding. cost: what it took
    ('seconds', 'images_per_second', 'engine', 'batch', 'cached'). aliases: 'early', 'middle', 'late' -> the network's own name of a tap.
    """

    folders: Mapping[str, Path]
    rows: np.ndarray
    ids: tuple[str, ...]
    quarantine: tuple[Quarantined, ...]
    cost: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(self.folders)

    def __getitem__(self, tap: str) -> np.ndarray:
        """float32 [n, d] of one tap, by its name or as 'early', 'middle', 'late'; memory-mapped (a .npy made once beside the folder) when
        it is large. Raises SpecError for a tap that was not extracted."""
        return read_vectors(self._folder(tap))

    @property
    def pixels(self) -> np.ndarray:
        """Of every row the hash of its decoded image, array of str [n]: equal where two images are the same pixel for pixel."""
        return pixel_hashes(next(iter(self.folders.values())))

    def blocks(self, tap: str, rows: int = 8192) -> Iterator[np.ndarray]:
        """float32 [<=rows, d] blocks of one tap in order, read shard by shard."""
        return blocks(self._folder(tap), rows)

    def _folder(self, tap: str) -> Path:
        own = self.aliases.get(tap, tap) if isinstance(tap, str) else tap
        if own not in self.folders:
            known = [*(alias for alias, name in self.aliases.items() if name in self.folders), *self.folders]
            raise SpecError(f"no tap {tap!r} among these features; they hold {', '.join(known)}")
        return self.folders[own]
