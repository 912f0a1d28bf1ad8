"""From batches of images to batches of features, in order, with bounded memory: one scheduler for CPUs, one for a GPU.

Neither oversubscribes the machine. `carry` (CPU): each of n threads takes a whole batch from bytes to features, decoding and
then computing on one core, so n cores are always busy and nobody waits for a data loader. `feed` (GPU): n threads decode, and
the calling thread drives the device, one batch ahead of the copies.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

import numpy as np

from visus.errors import ReadError
from visus.features.prepared import PreparedImage, shelf_of
from visus.images.base import ImageSet
from visus.images.digest import pixel_digest
from visus.images.errors import DecodeError, GoneError
from visus.models.preprocess import Preprocess

Outputs = tuple[np.ndarray, ...]
Slot = Callable[..., Outputs]
Launch = Callable[[np.ndarray], Callable[[], Outputs]]
Bad = list[tuple[int, str, str]]
Done = tuple[int, Outputs, Bad]

_CHUNK = 16


class _StoppedError(Exception):
    """Raised inside a worker when the run ends early; nobody sees it."""


class Filler:
    """Decodes images into a buffer. stop: set by the schedulers when the run ends early. pixels: bytes [n, 16], by position in the set
    the hash of every image that was decoded so far."""

    def __init__(self, images: ImageSet, preprocess: Preprocess, batch: int) -> None:
        self.images, self.preprocess, self.batch = images, preprocess, batch
        self.stop = threading.Event()
        self.pixels = np.zeros((len(images), 16), np.uint8)
        self.shelf = shelf_of(images, preprocess)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, *self.preprocess.size, 3)

    @property
    def dtype(self) -> np.dtype:
        return self.preprocess.dtype

    def __call__(self, number: int, buffer: np.ndarray, low: int = 0, high: int | None = None) -> Bad:
        """Fill rows low..high of `buffer` ([batch, h, w, 3] of `dtype`) with batch `number`; (index, id, reason) of the undecodable.

        Rows without an image, undecodable or behind the last one, are black: a batch is the same whatever happened before.
        """
        bad: Bad = []
        for row in range(low, self.batch if high is None else high):
            i = number * self.batch + row
            if self.stop.is_set():
                raise _StoppedError
            if i >= len(self.images):
                buffer[row] = 0
                continue
            try:
                image = self._prepared(i)
                self.pixels[i] = np.frombuffer(image.digest, np.uint8)
                buffer[row] = image.pixels
            except GoneError as error:
                # What the store remembers of an image must be true of its content, not of today's folder.
                raise ReadError(
                    f"{self.images.ids[i]} {error}, and was there when the images were listed; run the same command again"
                ) from error
            except DecodeError as error:
                buffer[row] = 0
                bad.append((i, self.images.ids[i], " ".join(str(error).split())))
        return bad

    def _prepared(self, i: int) -> PreparedImage:
        """The image as a network before saw it, or decoded now."""
        row = int(self.images.rows[i])
        found = None if self.shelf is None else self.shelf.take(row)
        if found is None:
            image = self.images.decode(i)
            found = PreparedImage(self.preprocess(image), pixel_digest(image))
            if self.shelf is not None:
                self.shelf.put(row, found)
        return found


def carry(numbers: Sequence[int], fill: Filler, slots: Sequence[Slot]) -> Generator[Done, None, None]:
    """Run the batches `numbers`; one thread a slot carries whole batches. Yields (number, outputs, undecodable) in order.

    At most two batches a slot are under way. An error in a thread is raised here, once; the others end at their next image.
    """
    free: SimpleQueue[tuple[Slot, np.ndarray]] = SimpleQueue()
    for slot in slots:
        free.put((slot, np.zeros(fill.shape, fill.dtype)))

    def work(number: int) -> Done:
        slot, buffer = free.get()
        try:
            bad = fill(number, buffer)
            return number, slot(buffer), bad
        finally:
            free.put((slot, buffer))

    with _workers(len(slots), fill.stop) as submit:
        running: deque[Future[Done]] = deque()
        for number in numbers:
            if len(running) == 2 * len(slots):
                yield running.popleft().result()
            running.append(submit(work, number))
        while running:
            yield running.popleft().result()


def feed(
    numbers: Sequence[int], fill: Filler, launch: Launch, buffers: Sequence[np.ndarray], workers: int
) -> Generator[Done, None, None]:
    """Run the batches `numbers`; `workers` threads decode into `buffers` (pinned), this thread drives the device.

    launch: starts a forward pass of a buffer and returns what waits for its outputs; the buffer is used again after that.
    """
    free, waiting = deque(buffers), iter(numbers)
    filling: deque[tuple[int, np.ndarray, list[Future[Bad]]]] = deque()
    flying: deque[tuple[int, np.ndarray, Bad, Callable[[], Outputs]]] = deque()
    with _workers(workers, fill.stop) as submit:

        def top_up() -> None:
            while free and (number := next(waiting, None)) is not None:
                buffer = free.popleft()
                spans = [(low, min(low + _CHUNK, fill.batch)) for low in range(0, fill.batch, _CHUNK)]
                filling.append((number, buffer, [submit(fill, number, buffer, low, high) for low, high in spans]))

        top_up()
        while filling or flying:
            if filling:
                number, buffer, parts = filling.popleft()
                bad = [entry for part in parts for entry in part.result()]
                flying.append((number, buffer, bad, launch(buffer)))
            if len(flying) > 1 or not filling:
                number, buffer, bad, outputs = flying.popleft()
                done = number, outputs(), bad
                free.append(buffer)
                top_up()
                yield done


@contextmanager
def _workers(n: int, stop: threading.Event) -> Iterator[Callable[..., Future[Any]]]:
    """A pool whose threads see the caller's context, and end quickly when the block is left early."""
    pool = ThreadPoolExecutor(n, thread_name_prefix="visus")
    try:
        yield lambda function, *arguments: pool.submit(copy_context().run, function, *arguments)
    finally:
        stop.set()  # after a good end nothing is running any more
        pool.shutdown(wait=True, cancel_futures=True)
