"""Forward passes over images in memory, again and again, by one network that was made ready once: OpenVINO on a CPU, where it can."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch

from visus import threads
from visus.features.engines import EngineError, choose_engine, own_copy
from visus.features.pipeline import Outputs, Slot
from visus.progress import log

BATCH = 8
"""Images a pass: what a core's own cache holds of most networks (measured: 1.2 ms an image of a small transformer at 4 and 8, 1.4 at 32)."""


class ArrayRunner:
    """Runs a network over arrays of any length; each slot computes on a core of its own."""

    def __init__(self, slots: Sequence[Slot], batch: int) -> None:
        self.workers, self.batch = len(slots), batch
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    def __call__(self, *arrays: np.ndarray) -> Outputs:
        """arrays: [n, ...] each, as the network takes them in batches -> its outputs, float32 [n, ...]."""
        n = len(arrays[0])

        def work(start: int) -> Outputs:
            part = [padded(a[start : start + self.batch], self.batch) for a in arrays]
            slot = self._free.get()
            try:
                return slot(*part)
            finally:
                self._free.put(slot)

        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="visus")
        try:
            found = list(pool.map(work, range(0, n, self.batch)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return tuple(np.concatenate(column)[:n] for column in zip(*found, strict=True))


def padded(rows: np.ndarray, n: int) -> np.ndarray:
    """The first n of the rows, contiguous; where they are fewer, the last one again."""
    if len(rows) >= n:
        return np.ascontiguousarray(rows[:n])
    return np.concatenate([rows, np.repeat(rows[-1:], n - len(rows), axis=0)])


def array_runner(module: torch.nn.Module, *samples: np.ndarray, about: str, batch: int = BATCH) -> ArrayRunner | None:
    """A network made ready for arrays like the samples; None where OpenVINO is not installed or cannot run it, which is logged.

    module: takes a batch of each input and gives a tuple of tensors; it is copied. samples: some rows of each input, images first, uint8 [n, h,
    w, 3]. about: all that its outputs depend on besides the modules in it.
    """
    if choose_engine("auto", "cpu") != "openvino":
        return None
    from visus.features.openvino_engine import openvino_slots  # an optional extra

    try:
        slots = openvino_slots(
            own_copy(module), threads.count(), "fp32", *(padded(s, batch) for s in samples), about=about
        )
    except EngineError as error:
        log(f"{error}; PyTorch does it")
        return None
    return ArrayRunner(slots, batch)
