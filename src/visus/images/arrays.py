"""Pictures as raw pixels inside larger files: memory-mapped, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from visus.errors import DataError
from visus.images.digest import files_digest
from visus.images.errors import GoneError
from visus.images.reading import retrying


@dataclass(frozen=True)
class Block:
    """`count` pictures of one file, uint8, record after record.

    offset: byte of the first pixel. stride: bytes from one picture to the next. shape: of the stored array, (h, w) or (3, a, b).
    axes: the order that makes it [h, w, 3] or [h, w]. pixels: uint8 [count, ...] when they could not be mapped.
    """

    path: str
    offset: int
    count: int
    stride: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    pixels: np.ndarray | None = None


class BlockSource:
    """Pictures from several blocks, one after the other. Maps files when they are first read; pickles as paths and offsets."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        self._starts = np.cumsum([0, *(b.count for b in self._blocks)])
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, i: int) -> np.ndarray:
        """The i-th picture, uint8 [h, w] or [h, w, 3]. Raises GoneError when its file has gone."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        block = self._blocks[number]
        record = self._records(number)[i - int(self._starts[number])]
        return np.ascontiguousarray(record.reshape(block.shape).transpose(block.axes))

    def digest(self) -> str:
        """Hash of the files that hold the pixels (and whatever else they hold), in order, and of how they are read."""
        files = list(dict.fromkeys(b.path for b in self._blocks))
        h = xxhash.xxh3_128(files_digest([Path(f) for f in files], about="\n".join(files)).encode())
        for b in self._blocks:
            h.update(repr((files.index(b.path), b.offset, b.count, b.stride, b.shape, b.axes)).encode())
        return str(h.hexdigest())

    def __getstate__(self) -> dict[str, Any]:
        return {"blocks": self._blocks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        BlockSource.__init__(self, state["blocks"])

    def _records(self, number: int) -> np.ndarray:
        """uint8 [count, pixels of one picture]; two threads that come at once map twice, which does no harm."""
        if number not in self._maps:
            b = self._blocks[number]
            size = int(np.prod(b.shape))
            if b.pixels is not None:
                self._maps[number] = b.pixels.reshape(b.count, size)
                return self._maps[number]
            shape = (b.stride * (b.count - 1) + size,)
            try:
                flat = retrying(lambda: np.memmap(b.path, np.uint8, "r", b.offset, shape), b.path)
            except (OSError, ValueError) as error:
                raise GoneError(f"cannot be read from {b.path}: {error}") from error
            self._maps[number] = np.lib.stride_tricks.as_strided(flat, (b.count, size), (b.stride, 1), writeable=False)
        return self._maps[number]


def expect_size(path: Path, size: int) -> None:
    """Raise DataError unless the file has exactly `size` bytes."""
    if path.stat().st_size != size:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes instead of {size}: it is damaged or incomplete; remove it and fetch it again"
        )


class MemorySource:
    """Pictures that are in memory already: uint8 [n, h, w, 3]."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, i: int) -> np.ndarray:
        """The i-th picture, uint8 [h, w, 3]."""
        image: np.ndarray = self.pixels[i]
        return image

    def digest(self) -> str:
        """Hash of all pixels in order, and of their shape."""
        return str(
            xxhash.xxh3_128_hexdigest(repr(self.pixels.shape).encode() + np.ascontiguousarray(self.pixels).tobytes())
        )
