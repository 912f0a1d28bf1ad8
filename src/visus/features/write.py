"""Writing a job: batches are gathered into shards, and a shard is in the store, and its manifest says so, as soon as it is full."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visus.features.manifest import note_cost, part
from visus.features.pipeline import Bad
from visus.features.plan import Cost, Job
from visus.features.run import Stream
from visus.features.store import Rows, write_shard
from visus.progress import Task, log, task


def write(job: Job, stream: Stream) -> Cost:
    """Write all that a job lacks. Raises StoreError; finished shards stay, as they do after KeyboardInterrupt."""
    start = time.perf_counter()
    request = job.request
    folders = {tap.name: request.folder(tap) for tap in job.taps if tap.name in job.targets}
    try:
        with task(f"extracting {', '.join(job.targets)}", stream.total) as progress:
            for name, target in job.targets.items():
                if target.labels != request.labels_digest:
                    target.labels = ""  # begun under other labels: no longer all of one
                target.write(folders[name])  # from here on a resumed run repeats these settings
            for k in job.shards():
                _write_shard(job, stream, k, folders, progress)
    except KeyboardInterrupt:
        done = max(target.rows for target in job.targets.values())
        log(f"stopped; {done:,} of {len(request.images):,} images are kept, the same command goes on from there")
        raise
    entry = {
        "images": stream.total,
        "seconds": round(stream.preparing + time.perf_counter() - start, 3),
        "preparing_seconds": round(stream.preparing, 3),
        "engine": job.run.engine,
        "workers": stream.workers,
        "taps": list(job.targets),
    }
    note_cost(list(folders.values()), entry)
    return Cost(stream.total, stream.preparing)


def _write_shard(job: Job, stream: Stream, k: int, folders: Mapping[str, Path], progress: Task) -> None:
    """Gather the batches of the k-th shard, and write it for every target that lacks it: the shard, then the manifest."""
    images, labels, batch = job.request.images, job.request.labels, job.run.batch
    low, high = k * job.run.shard_rows, min((k + 1) * job.run.shard_rows, len(images))
    columns = {tap.name: at for at, tap in enumerate(job.taps)}
    lacking = {name: target for name, target in job.targets.items() if target.shards[k] is None}
    held = {name: np.empty((high - low, target.width), np.float32) for name, target in lacking.items()}
    bad: Bad = []
    for start in range(low, high, batch):
        _, outputs, undecodable = next(stream.batches)
        count = min(batch, high - start)
        for name, array in held.items():
            array[start - low : start - low + count] = outputs[columns[name]].reshape(batch, -1)[:count]
        bad += undecodable
        progress.advance(count)
    out = {i for i, _, _ in bad}
    index = np.array([i for i in range(low, high) if i not in out], dtype=np.int64)
    rows = Rows(
        index,
        [images.ids[i] for i in index],
        images.source_digest[:12],
        [labels[i] for i in index],
        stream.pixels[index],
    )
    for name, target in lacking.items():
        vectors = held.pop(name)
        decoded = vectors if not out else vectors[index - low]
        target.shards[k] = write_shard(folders[name] / part(k), rows, decoded, bad)
        target.write(folders[name])
