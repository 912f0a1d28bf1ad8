"""Images as a network sees them, kept a while: for the next network that sees them the same way, and while a network is being made ready."""

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
    """Prepared images by their row in the source; threads may put and take at once. once: each is taken once, and is gone then."""

    def __init__(self, *, once: bool) -> None:
        self.once = once
        self.full = False
        self._images: dict[int, PreparedImage] = {}
        self._used = 0
        self._lock = threading.Lock()

    def __contains__(self, row: int) -> bool:
        return row in self._images

    def put(self, row: int, image: PreparedImage) -> None:
        """Keep an image, if there is room."""
        with self._lock:
            self.full = self._used + image.pixels.nbytes > BUDGET
            if not self.full and row not in self._images:
                self._images[row] = image
                self._used += image.pixels.nbytes

    def take(self, row: int) -> PreparedImage | None:
        """An image that is kept, else None."""
        if not self.once:
            return self._images.get(row)
        with self._lock:
            found = self._images.pop(row, None)
            self._used -= 0 if found is None else found.pixels.nbytes
        return found


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


def shelf_of(images: ImageSet, preprocess: Preprocess) -> Shelf:
    """The shelf that networks share in `decoded_once`, else one of the caller's own. Another source or preprocessing empties the former."""
    shared = _shared.get()
    if shared is None:
        return Shelf(once=True)
    key = (images.source_digest, preprocess.key)
    if shared.shelf is None or shared.key != key:
        shared.key, shared.shelf = key, Shelf(once=False)
    return shared.shelf
