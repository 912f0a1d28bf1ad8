"""Where batches come from: images in memory as bytes, or what a frozen front made of them, once for all epochs.

Validation and test images pass through the model's own evaluation transform and nothing else: a feed has no way to augment them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import psutil
import torch

from visus import paths, threads
from visus.images.base import ImageSet
from visus.images.digest import pixel_digest
from visus.images.errors import DecodeError
from visus.models.preprocess import Preprocess
from visus.progress import task
from visus.training.augment import augmented, cached_draws

MARGIN = 8 / 7  # training images are kept a little larger than a crop, as evaluation resizes to 256 and crops 224
PARTS = ("validation", "test")


class Feed(Protocol):
    """Batches for `fit`. y: int64 [n] labels of the training images; held: labels by part ('validation', 'test')."""

    @property
    def y(self) -> np.ndarray: ...
    @property
    def held(self) -> dict[str, np.ndarray]: ...

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        """The network's input for the training images at `rows`, as epoch `epoch` sees them."""
        ...

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        """The network's input for held-out images: never augmented."""
        ...


@dataclass(frozen=True)
class ImageFeed:
    """Images as uint8 [n, h, w, 3]: training ones with a margin for crops, held-out ones as the evaluation transform leaves them."""

    images: np.ndarray
    y: np.ndarray
    held_images: dict[str, np.ndarray]
    held: dict[str, np.ndarray]
    preprocess: Preprocess
    seed: int
    augment: bool = True

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        """float32 [b, 3, h, w], normalised; augmented by dice of (seed, epoch, image), so that a resumed run sees the same."""
        raw = torch.from_numpy(self.images[rows]).to(device, non_blocking=True)
        if not self.augment:
            return _ready(self.preprocess.normalize(raw))
        dice = cached_draws(len(self.y), self.seed, epoch)[rows]
        return _ready(self.preprocess.normalize(augmented(raw, self.preprocess.size, dice).permute(0, 2, 3, 1)))

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        """float32 [b, 3, h, w], normalised."""
        raw = torch.from_numpy(self.held_images[part][rows]).to(device, non_blocking=True)
        return _ready(self.preprocess.normalize(raw))


@dataclass(frozen=True)
class CachedFeed:
    """What a frozen front made of the images: float32 [views, n, ...] for training, [n, ...] for the held-out parts.

    Epoch e shows every image through one of its views, drawn from (seed, epoch).
    """

    views: np.ndarray
    y: np.ndarray
    held_views: dict[str, np.ndarray]
    held: dict[str, np.ndarray]
    seed: int = 0

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        """float32 [b, ...]."""
        view = np.random.default_rng([self.seed, epoch]).integers(len(self.views), size=len(self.y))[rows]
        return torch.from_numpy(np.ascontiguousarray(self.views[view, rows])).to(device, non_blocking=True)

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        """float32 [b, ...]."""
        return torch.from_numpy(np.ascontiguousarray(self.held_views[part][rows])).to(device, non_blocking=True)


def _ready(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def allocate(shape: tuple[int, ...], dtype: type | np.dtype) -> np.ndarray:
    """An array in memory, or, where it would fill more than a third of what is free, on disk in a nameless temporary file."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= psutil.virtual_memory().available / 3:
        return np.empty(shape, dtype)
    folder = paths.home() / "training"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        return np.memmap(file, dtype, "r+", shape=shape)


def canvas(preprocess: Preprocess) -> Preprocess:
    """The transform of training images before augmentation: the evaluation transform with a margin around its crop."""
    height, width = (round(side * MARGIN) for side in preprocess.size)
    resize = preprocess.resize
    if isinstance(resize, int):
        resize = max(resize, height, width)
    elif resize is not None:
        resize = (max(resize[0], height), max(resize[1], width))
    return replace(preprocess, size=(height, width), resize=resize)


def at_size(preprocess: Preprocess, size: int) -> Preprocess:
    """The evaluation transform for a smaller square input: resize and crop shrink alike."""
    scale = size / min(preprocess.size)
    resize = preprocess.resize
    if isinstance(resize, int):
        resize = max(round(resize * scale), size)
    elif resize is not None:
        resize = (max(round(resize[0] * scale), size), max(round(resize[1] * scale), size))
    return replace(preprocess, size=(size, size), resize=resize)


def decoded(
    imageset: ImageSet,
    rows: np.ndarray,
    preprocess: Preprocess,
    *,
    what: str,
    unread: dict[int, str] | None = None,
    pixels: np.ndarray | None = None,
) -> np.ndarray:
    """[len(rows), h, w, 3] of the preprocessing's dtype (uint8): the images at positions `rows`, decoded once, one thread a core.

    unread: takes the places in `rows` of images that cannot be decoded, with the reason; without it the first one raises DecodeError.
    pixels: uint8 [len(rows), 16], takes the hashes of the decoded images.
    """
    out = allocate((len(rows), *preprocess.size, 3), preprocess.dtype)

    def work(chunk: range) -> int:
        for i in chunk:
            try:
                image = imageset.decode(int(rows[i]))
                out[i] = preprocess(image)
            except DecodeError as error:
                if unread is None:
                    raise
                unread[i] = str(error)
                continue
            if pixels is not None:
                pixels[i] = np.frombuffer(pixel_digest(image), np.uint8)
        return len(chunk)

    chunks = list(_chunks(len(rows), 64))
    with task(f"decoding {what} pictures", len(rows)) as progress, ThreadPoolExecutor(threads.count()) as pool:
        jobs = [pool.submit(copy_context().run, work, chunk) for chunk in chunks]
        for job in jobs:
            progress.advance(job.result())
    return out


def _chunks(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(start + size, n))
