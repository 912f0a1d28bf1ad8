"""Images as a network sees them, kept a while for the next network that sees them the same way, as its random control does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from visus.images.base import ImageSet
from visus.models.preprocess import Preprocess

BUDGET = 128 * 2**20
"""Bytes of images that are kept at most; of a larger set the first ones."""


@dataclass(frozen=True)
class PreparedImage:
    """pixels: [h, w, 3] as the preprocessing gives it; digest: 16 bytes of the decoded image (`pixel_digest`)."""

    pixels: np.ndarray
    digest: bytes


class Shelf:
    """Prepared images by their row in the source; threads may put and take at once."""

    def __init__(self) -> None:
        self._images: dict[int, PreparedImage] = {}
        self._used = 0
        self._lock = threading.Lock()

    def put(self, row: int, image: PreparedImage) -> None:
        """Keep an image, if there is room."""
        with self._lock:
            if row not in self._images and self._used + image.pixels.nbytes <= BUDGET:
                self._images[row] = image
                self._used += image.pixels.nbytes

    def take(self, row: int) -> PreparedImage | None:
        """An image that is kept, else None."""
        return self._images.get(row)


@dataclass
class _Shared:
    """The shelf of the images that were seen last, and whose it is: of which source, prepared how."""

    key: tuple[str, str] = ("", "")
    shelf: Shelf | None = None


_shared: ContextVar[_Shared | None] = ContextVar("visus_prepared", default=None)


@contextmanager
def decoded_once() -> Iterator[None]:
    """Inside of the block, networks with the same preprocessing share the images of a source, decoded once as far as BUDGET holds them."""
    if _shared.get() is not None:
        yield
        return
    token = _shared.set(_Shared())
    try:
        yield
    finally:
        _shared.reset(token)


def shelf_of(images: ImageSet, preprocess: Preprocess) -> Shelf | None:
    """The shelf that networks share inside of `decoded_once`, else None. Another source or preprocessing takes the former's place."""
    shared = _shared.get()
    if shared is None:
        return None
    key = (images.source_digest, preprocess.key)
    if shared.shelf is None or shared.key != key:
        shared.key, shared.shelf = key, Shelf()
    return shared.shelf
