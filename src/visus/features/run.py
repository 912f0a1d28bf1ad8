"""Running a job: images are decoded, go through the network on its device, and come out as a stream of batches of features."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from visus import threads
from visus.features import engines, pipeline
from visus.features.key import tapped_as
from visus.features.plan import Job
from visus.progress import log


@dataclass(frozen=True)
class Stream:
    """A job under way. batches: (number, one float32 [b, d] a tap, undecodable), in order. pixels: bytes [n, 16], hashes of the decoded
    images so far, by position in the set. total: images of all batches. workers: threads. preparing: seconds before the first batch."""

    batches: Iterator[pipeline.Done]
    pixels: np.ndarray
    total: int
    workers: int
    preparing: float


@contextmanager
def run(job: Job) -> Iterator[Stream]:
    """The batches of the shards that the job lacks. Raises EngineError before the first of them."""
    begun = time.perf_counter()
    request, batch, n = job.request, job.run.batch, len(job.request.images)
    a_shard = job.run.shard_rows // batch
    numbers = [b for k in job.shards() for b in range(k * a_shard, min((k + 1) * a_shard, math.ceil(n / batch)))]
    total = sum(min(batch, n - b * batch) for b in numbers)
    fill = pipeline.Filler(request.images, request.backbone.preprocess, batch)
    with _batches(job, fill, numbers) as (batches, workers):
        preparing = time.perf_counter() - begun
        log(
            f"{total:,} images through {request.backbone.spec}: {job.run.engine}, {workers} threads, batches of {batch}"
        )
        yield Stream(batches, fill.pixels, total, workers, preparing)


@contextmanager
def _batches(job: Job, fill: pipeline.Filler, numbers: Sequence[int]) -> Iterator[tuple[Iterator[pipeline.Done], int]]:
    """The stream of features on the job's device, and how many threads make it. Raises EngineError."""
    request = job.request
    module = engines.tapped(request.backbone, job.taps, request.options.pool)
    workers = request.options.workers or threads.count()
    if job.run.device == "cpu":
        workers = min(workers, len(numbers))
        slots = _cpu_slots(job, module, workers, fill)
        del module  # the slots hold what they need of it
        with engines.one_thread_each(), closing(pipeline.carry(numbers, fill, slots)) as batches:
            yield batches, workers
        return
    slot = engines.cuda_slot(module, request.device, request.options.precision)
    dtype = torch.from_numpy(np.empty(0, fill.dtype)).dtype
    buffers = [torch.zeros(fill.shape, dtype=dtype, pin_memory=True).numpy() for _ in range(3)]
    with engines.exact_cuda(), closing(pipeline.feed(numbers, fill, slot.launch, buffers, workers)) as batches:
        yield batches, workers


def _cpu_slots(job: Job, module: torch.nn.Module, n: int, fill: pipeline.Filler) -> list[pipeline.Slot]:
    precision = job.request.options.precision
    if job.run.engine != "openvino":
        return engines.torch_slots(module, n, precision)
    from visus.features.openvino_engine import openvino_slots  # an optional extra

    sample = np.zeros(fill.shape, fill.dtype)
    fill(0, sample)
    about = tapped_as(job.request.backbone, job.taps, job.request.options.pool)
    return openvino_slots(module, n, precision, sample, about=about)
