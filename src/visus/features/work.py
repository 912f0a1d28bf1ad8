"""Computing what a store lacks: plan the runs, build an engine, stream the images, write shard by shard."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from visus import threads
from visus.device import choose_device
from visus.errors import DataError
from visus.features import engines, manifest, pipeline
from visus.features import store as stores
from visus.features.batching import cpu_batch, cuda_batch, peak_activation, rows_of_shard
from visus.features.extraction import Request
from visus.features.manifest import Manifest, Run, part
from visus.memory import halving
from visus.models.tap import Tap
from visus.progress import Task, log, task
from visus.version import __version__


@dataclass
class Job:
    """One pass over images. run: how. targets: tap name -> its manifest, of the taps that are to be written."""

    run: Run
    targets: dict[str, Manifest]

    def shards(self) -> list[int]:
        """Numbers of the shards that at least one target lacks."""
        return sorted({k for target in self.targets.values() for k in target.missing()})


def versions(engine: str) -> dict[str, str]:
    """Versions of what the features depend on."""
    names = ["numpy", "pillow", "torch", *(["openvino"] if engine == "openvino" else [])]
    return {"visus": __version__, **{name: importlib.metadata.version(name) for name in names}}


def complete(request: Request) -> dict[str, Any]:
    """Compute all that the store lacks of what was asked for; the store's lock is held. Returns what it took.

    Raises StoreError when the store cannot be written; finished shards stay, as they do after KeyboardInterrupt.
    """
    device = choose_device(request.device)
    engine = engines.choose_engine(request.engine, device)
    resumed, fresh = _plan(request, engine, device)
    seen, preparing = 0, 0.0
    for job in resumed:
        try:
            images, seconds = _go(request, job)
        except (engines.EngineError, torch.OutOfMemoryError) as error:
            log(f"{str(error).splitlines()[0]}; these taps start again")
            fresh += [tap for tap in request.taps if tap.name in job.targets]
            continue
        seen, preparing = seen + images, preparing + seconds
    if fresh:
        images, seconds = _start(request, engine, device, fresh)
        seen, preparing = seen + images, preparing + seconds
    if request.labelled:
        for tap in request.taps:
            stores.relabel(request.folder(tap), request.labels, request.labels_digest)
    return {"images": seen, "preparing_seconds": preparing}


def _plan(request: Request, engine: str, device: str) -> tuple[list[Job], list[Tap]]:
    """Jobs that finish what was begun (or mend what was damaged), and the taps that start from nothing."""
    jobs: dict[str, Job] = {}
    fresh = []
    progressed: set[str] = set()
    for tap in request.taps:
        folder = request.folder(tap)
        stores.clear_litter(folder)
        found = manifest.read(folder)
        if found is None or found.n != len(request.images):
            fresh.append(tap)
            continue
        if request.engine != "auto" and found.run.engine != request.engine:
            log(f"{tap.name}: computed by {found.run.engine} before, starts again")
            fresh.append(tap)
            continue
        bad = manifest.damaged(folder, found)
        if bad:
            log(f"{tap.name}: {len(bad)} damaged or missing shard{'s' * (len(bad) > 1)}, computed again")
        if any(found.shards):
            progressed.add(tap.name)
        found.shards = [None if k in bad else shard for k, shard in enumerate(found.shards)]
        if found.complete:
            continue
        if _repeatable(found.run, request, engine, device):
            jobs.setdefault(repr(found.run), Job(found.run, {})).targets[tap.name] = found
        else:
            log(f"{tap.name}: begun with other settings or versions, starts again")
            fresh.append(tap)
    # Killed before its first shard: its taps start together again, also those whose manifests were not written yet.
    begun = [job for job in jobs.values() if progressed & set(job.run.group)]
    kept = {name for job in begun for name in job.targets}
    fresh += [
        tap for tap in request.taps if any(tap.name in job.targets for job in jobs.values()) and tap.name not in kept
    ]
    return begun, [tap for tap in request.taps if tap in fresh]


def _repeatable(run: Run, request: Request, engine: str, device: str) -> bool:
    """Whether this process computes bit for bit what `run` began; a run that fell back to torch is taken as it is."""
    same_engine = run.engine == engine or (request.engine == "auto" and run.engine == "torch")
    same_device = run.device == _hardware(device)
    same_batch = request.batch in (None, run.batch)
    return same_engine and same_device and same_batch and dict(run.versions) == versions(run.engine)


def _hardware(device: str) -> str:
    """'cpu', or the name of the graphics card: another card has other kernels."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def _start(request: Request, engine: str, device: str, fresh: Sequence[Tap]) -> tuple[int, float]:
    """Compute taps from nothing: choose batch and shards, then run; falls back to PyTorch where OpenVINO cannot."""
    begun = time.perf_counter()
    module = engines.tapped(request.backbone, fresh, request.pool)
    widths, per_image = _measure(request, module)
    first = request.batch
    if first is None:
        first = cpu_batch(per_image) if device == "cpu" else _cuda_batch(request, module, device)
    del module
    preparing = time.perf_counter() - begun

    def job(engine: str, batch: int) -> Job:
        rows = rows_of_shard(request.shard_rows, batch, widths)
        run = Run(engine, _hardware(device), batch, rows, tuple(t.name for t in fresh), versions(engine))
        made = Job(run, {t.name: _manifest(request, t, w, run) for t, w in zip(fresh, widths, strict=True)})
        # All of the group before the first shard of any: a run that is killed between two taps goes on as one group.
        for tap in fresh:
            made.targets[tap.name].write(request.folder(tap))
        return made

    def attempt(at: slice) -> tuple[int, float]:
        batch = at.stop - at.start
        for tap in fresh:
            stores.empty(request.folder(tap))
        try:
            return _go(request, job(engine, batch))
        except engines.EngineError as error:
            if request.engine != "auto":
                raise DataError(f"{error}; write --engine torch") from error
            log(f"{error}; PyTorch does it")
        return _go(request, job("torch", batch))

    if device == "cpu":  # its batch is small by rule; what is too large there is an image
        images, seconds = attempt(slice(0, first))
    else:
        # All of it again with a smaller batch: a store's rows are all of one, so that a run that goes on repeats it to the bit.
        images, seconds = next(found for _, found in halving(first, first, attempt, what="extraction"))
    return images, preparing + seconds


def _measure(request: Request, module: torch.nn.Module) -> tuple[list[int], int]:
    """Features an image of every tap, and bytes of peak activation an image."""
    preprocess = request.backbone.preprocess
    one = torch.from_numpy(np.zeros((1, *preprocess.size, 3), preprocess.dtype))
    widths: list[int] = []

    def run() -> None:
        with torch.inference_mode():
            widths.extend(int(math.prod(out.shape[1:])) for out in module(one))

    return widths, peak_activation(module, run)


def _cuda_batch(request: Request, module: torch.nn.Module, device: str) -> int:
    slot = engines.TorchSlot(_on_cuda(module, device), device=device, precision=request.precision)
    preprocess = request.backbone.preprocess
    return cuda_batch(lambda batch: slot(np.zeros((batch, *preprocess.size, 3), preprocess.dtype)))


def _on_cuda(module: torch.nn.Module, device: str) -> torch.nn.Module:
    return module.to(device=device).to(memory_format=torch.channels_last)


def _manifest(request: Request, tap: Tap, width: int, run: Run) -> Manifest:
    images, backbone = request.images, request.backbone
    return Manifest(
        images={"name": images.name, "fingerprint": images.fingerprint},
        backbone={"spec": backbone.spec, "fingerprint": backbone.fingerprint},
        tap={**asdict(tap), "shape": list(tap.shape)},
        pool=request.pool,
        precision=request.precision,
        n=len(images),
        width=width,
        run=run,
        shards=[None] * math.ceil(len(images) / run.shard_rows),
        labels=request.labels_digest,
    )


def _go(request: Request, job: Job) -> tuple[int, float]:
    """Run a job to its end. Returns images seen and seconds of preparation. Raises EngineError before anything is written."""
    begun = time.perf_counter()
    run, n = job.run, len(request.images)
    taps = [tap for tap in request.backbone.taps if tap.name in run.group]
    fill = pipeline.Filler(request.images, request.backbone.preprocess, run.batch)
    a_shard = run.shard_rows // run.batch
    numbers = [b for k in job.shards() for b in range(k * a_shard, min((k + 1) * a_shard, math.ceil(n / run.batch)))]
    total = sum(min(run.batch, n - b * run.batch) for b in numbers)
    with _results(request, run, taps, fill, numbers) as (results, workers):
        preparing = time.perf_counter() - begun
        log(
            f"{total:,} images through {request.backbone.spec}: {run.engine}, {workers} threads, batches of {run.batch}"
        )
        try:
            with task(f"extracting {', '.join(job.targets)}", total) as progress:
                _write(request, job, taps, fill, results, progress)
        except KeyboardInterrupt:
            done = max(target.rows for target in job.targets.values())
            log(f"stopped; {done:,} of {n:,} images are kept, the same command goes on from there")
            raise
    entry = {
        "images": total,
        "seconds": round(time.perf_counter() - begun, 3),
        "preparing_seconds": round(preparing, 3),
        "engine": run.engine,
        "workers": workers,
        "taps": list(job.targets),
    }
    manifest.note_cost([request.folder(tap) for tap in taps if tap.name in job.targets], entry)
    return total, preparing


@contextmanager
def _results(
    request: Request, run: Run, taps: Sequence[Tap], fill: pipeline.Filler, numbers: Sequence[int]
) -> Iterator[tuple[Iterator[pipeline.Done], int]]:
    """The stream of features on the run's device, and how many threads make it. Raises EngineError."""
    module = engines.tapped(request.backbone, taps, request.pool)
    workers = request.workers or threads.count()
    if run.device == "cpu":
        workers = min(workers, len(numbers))
        if run.engine == "openvino":
            sample = np.zeros(fill.shape, fill.dtype)
            fill(0, sample)
            slots = engines.openvino_slots(module, workers, request.precision, sample)
        else:
            slots = engines.torch_slots(module, workers, request.precision)
        del module
        with engines.one_thread_each(), closing(pipeline.carry(numbers, fill, slots)) as results:
            yield results, workers
        return
    device = choose_device(request.device)
    slot = engines.TorchSlot(_on_cuda(module, device), device=device, precision=request.precision)
    dtype = torch.from_numpy(np.empty(0, fill.dtype)).dtype
    buffers = [torch.zeros(fill.shape, dtype=dtype, pin_memory=True).numpy() for _ in range(3)]
    with engines.exact_cuda(), closing(pipeline.feed(numbers, fill, slot.launch, buffers, workers)) as results:
        yield results, workers


def _write(
    request: Request,
    job: Job,
    taps: Sequence[Tap],
    fill: pipeline.Filler,
    results: Iterator[pipeline.Done],
    progress: Task,
) -> None:
    """Gather batches into shards and write each when it is full: the shard of every target, then its manifest."""
    run, n = job.run, len(request.images)
    labels = request.labels
    columns = {tap.name: at for at, tap in enumerate(taps)}
    for name, target in job.targets.items():
        folder = request.folder(taps[columns[name]])
        if target.labels != request.labels_digest:
            target.labels = ""  # begun under other labels: no longer all of one
        target.write(folder)  # from here on a resumed run repeats these settings
    for k in job.shards():
        low, high = k * run.shard_rows, min((k + 1) * run.shard_rows, n)
        wanted = {name: target for name, target in job.targets.items() if target.shards[k] is None}
        held = {name: np.empty((high - low, target.width), np.float32) for name, target in wanted.items()}
        bad: pipeline.Bad = []
        for start in range(low, high, run.batch):
            _, outputs, undecodable = next(results)
            count = min(run.batch, high - start)
            for name, array in held.items():
                array[start - low : start - low + count] = outputs[columns[name]].reshape(run.batch, -1)[:count]
            bad += undecodable
            progress.advance(count)
        out = {i for i, _, _ in bad}
        index = np.array([i for i in range(low, high) if i not in out], dtype=np.int64)
        ids = [request.images.ids[i] for i in index]
        said = stores.Rows(
            index, ids, request.images.source_digest[:12], [labels[i] for i in index], fill.pixels[index]
        )
        for name, target in wanted.items():
            folder = request.folder(taps[columns[name]])
            vectors = held.pop(name)
            kept = vectors if not out else vectors[index - low]
            target.shards[k] = stores.write_shard(folder / part(k), said, kept, bad)
            target.write(folder)
