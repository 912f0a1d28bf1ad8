"""What the store lacks of a request, as jobs: what was begun goes on as it was begun, the rest starts from nothing."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from visus.errors import DataError
from visus.features import engines, manifest, store
from visus.features.batching import cpu_batch, cuda_batch, peak_activation, rows_of_shard
from visus.features.manifest import Manifest, Run
from visus.features.request import Request
from visus.locks import locked
from visus.memory import halving
from visus.models.tap import Tap
from visus.paths import mend
from visus.progress import log
from visus.version import __version__


@dataclass(frozen=True)
class Cost:
    """What a job took. images: that went through the network. preparing: seconds before the first of them."""

    images: int
    preparing: float


@dataclass
class Job:
    """One pass over images. run: how. targets: tap name -> its manifest, of the taps that are to be written."""

    request: Request
    run: Run
    targets: dict[str, Manifest]

    @property
    def taps(self) -> list[Tap]:
        """The taps that leave the network together, in its order; not all need be targets."""
        return [tap for tap in self.request.backbone.taps if tap.name in self.run.group]

    def shards(self) -> list[int]:
        """Numbers of the shards that at least one target lacks."""
        return sorted({k for target in self.targets.values() for k in target.missing()})


@dataclass
class Plan:
    """begun: jobs that finish what was begun, or mend what was damaged. fresh: taps that start from nothing. whole: nothing is missing."""

    request: Request
    begun: list[Job] = field(default_factory=list)
    fresh: list[Tap] = field(default_factory=list)
    whole: bool = False

    def carried_out(self, compute: Callable[[Job], Cost]) -> Mapping[str, Any]:
        """Have every job computed. Returns what it took, for `Features.cost`.

        compute: runs a job and writes it; where it raises EngineError nothing was written. Raises StoreError when the store cannot be
        written; finished shards stay, as they do after KeyboardInterrupt.
        """
        if self.whole:
            return {"cached": True, "seconds": 0.0, "images": 0}
        start = time.perf_counter()
        costs, fresh = [], list(self.fresh)
        for job in self.begun:
            try:
                costs.append(compute(job))
            except (engines.EngineError, torch.OutOfMemoryError) as error:
                log(f"{str(error).splitlines()[0]}; these taps start again")
                fresh += [tap for tap in self.request.taps if tap.name in job.targets]
        if fresh:
            costs.append(_from_nothing(self.request, fresh, compute))
        if self.request.options.labelled:
            for tap in self.request.taps:
                store.relabel(self.request.folder(tap), self.request.labels, self.request.labels_digest)
        return {
            "images": sum(cost.images for cost in costs),
            "preparing_seconds": sum((cost.preparing for cost in costs), 0.0),
            "cached": False,
            "seconds": time.perf_counter() - start,
        }


@contextmanager
def planned(request: Request) -> Iterator[Plan]:
    """What is to be done, while nobody else does it: where anything is missing the key's lock is held for the duration of the block.

    A second process that wants the same features waits here, and says so. Raises StoreError.
    """
    if request.stored() is not None:
        yield Plan(request, whole=True)
        return
    waiting = "another process is extracting these features; waiting for it, its result will be used"
    with locked(request.root, waiting=waiting, mend=mend(request.root)):
        yield Plan(request, whole=True) if request.stored() is not None else _plan(request)


def versions(engine: str) -> dict[str, str]:
    """Versions of what the features depend on."""
    names = ["numpy", "pillow", "torch", *(["openvino"] if engine == "openvino" else [])]
    return {"visus": __version__, **{name: importlib.metadata.version(name) for name in names}}


def _plan(request: Request) -> Plan:
    jobs: dict[str, Job] = {}
    fresh: list[Tap] = []
    progressed: set[str] = set()
    for tap in request.taps:
        found = _begun(request, tap)
        if found is None:
            fresh.append(tap)
            continue
        bad = manifest.damaged(request.folder(tap), found)
        if bad:
            log(f"{tap.name}: {len(bad)} damaged or missing shard{'s' * (len(bad) > 1)}, computed again")
        if any(found.shards):
            progressed.add(tap.name)
        found.shards = [None if k in bad else shard for k, shard in enumerate(found.shards)]
        if found.complete:
            continue
        if _repeatable(found.run, request):
            jobs.setdefault(repr(found.run), Job(request, found.run, {})).targets[tap.name] = found
        else:
            log(f"{tap.name}: begun with other settings or versions, starts again")
            fresh.append(tap)
    # Killed before its first shard: its taps start together again, also those whose manifests were not written yet.
    begun = [job for job in jobs.values() if progressed & set(job.run.group)]
    going_on = {name for job in begun for name in job.targets}
    for job in jobs.values():
        fresh += [tap for tap in request.taps if tap.name in job.targets and tap.name not in going_on]
    return Plan(request, begun, [tap for tap in request.taps if tap in fresh])


def _begun(request: Request, tap: Tap) -> Manifest | None:
    """The manifest of a tap that can go on; None where it starts from nothing."""
    folder = request.folder(tap)
    store.clear_litter(folder)
    found = manifest.read(folder)
    if found is None or found.n != len(request.images):
        return None
    if request.options.engine not in ("auto", found.run.engine):
        log(f"{tap.name}: computed by {found.run.engine} before, starts again")
        return None
    return found


def _repeatable(run: Run, request: Request) -> bool:
    """Whether this process computes bit for bit what `run` began; a run that fell back to torch is taken as it is."""
    same_engine = run.engine == request.engine or (request.options.engine == "auto" and run.engine == "torch")
    same_device = run.device == _hardware(request.device)
    same_batch = request.options.batch in (None, run.batch)
    return same_engine and same_device and same_batch and dict(run.versions) == versions(run.engine)


def _hardware(device: str) -> str:
    """'cpu', or the name of the graphics card: another card has other kernels."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def _from_nothing(request: Request, taps: Sequence[Tap], compute: Callable[[Job], Cost]) -> Cost:
    """Compute taps from nothing: by PyTorch where OpenVINO cannot, with smaller batches where a GPU's memory is too little."""
    begun = time.perf_counter()
    widths, first = _sizes(request, taps)
    preparing = time.perf_counter() - begun

    def attempt(at: slice) -> Cost:
        batch = at.stop - at.start
        for tap in taps:
            store.empty(request.folder(tap))
        try:
            return compute(_job(request, taps, widths, request.engine, batch))
        except engines.EngineError as error:
            if request.options.engine != "auto":
                raise DataError(f"{error}; write --engine torch") from error
            log(f"{error}; PyTorch does it")
        return compute(_job(request, taps, widths, "torch", batch))

    if request.device == "cpu":  # its batch is small by rule; what is too large there is an image
        cost = attempt(slice(0, first))
        return Cost(cost.images, preparing + cost.preparing)
    # All of it again with a smaller batch: a store's rows are all of one, so that a run that goes on repeats it to the bit.
    cost = next(found for _, found in halving(first, first, attempt, what="extraction"))
    return Cost(cost.images, preparing + cost.preparing)


def _job(request: Request, taps: Sequence[Tap], widths: Sequence[int], engine: str, batch: int) -> Job:
    """The job that computes taps from nothing. Every manifest is written before the first shard of any: a run that is killed between two
    taps goes on as one group."""
    rows = rows_of_shard(request.options.shard_rows, batch, widths)
    run = Run(engine, _hardware(request.device), batch, rows, tuple(t.name for t in taps), versions(engine))
    job = Job(request, run, {t.name: _manifest(request, t, w, run) for t, w in zip(taps, widths, strict=True)})
    for tap in taps:
        job.targets[tap.name].write(request.folder(tap))
    return job


def _sizes(request: Request, taps: Sequence[Tap]) -> tuple[list[int], int]:
    """Features an image of every tap, and images a forward pass."""
    preprocess = request.backbone.preprocess
    module = engines.tapped(request.backbone, taps, request.options.pool, share=request.device == "cpu")
    one = torch.from_numpy(np.zeros((1, *preprocess.size, 3), preprocess.dtype))
    widths: list[int] = []

    def look() -> None:
        with torch.inference_mode():
            widths.extend(int(math.prod(out.shape[1:])) for out in module(one))

    per_image = peak_activation(module, look)
    if request.options.batch is not None:
        return widths, request.options.batch
    if request.device == "cpu":
        return widths, cpu_batch(per_image)
    slot = engines.cuda_slot(module, request.device, request.options.precision)
    return widths, cuda_batch(lambda batch: slot(np.zeros((batch, *preprocess.size, 3), preprocess.dtype)))


def _manifest(request: Request, tap: Tap, width: int, run: Run) -> Manifest:
    images, backbone = request.images, request.backbone
    return Manifest(
        images={"name": images.name, "fingerprint": images.fingerprint},
        backbone={"spec": backbone.spec, "fingerprint": backbone.fingerprint},
        tap={**asdict(tap), "shape": list(tap.shape)},
        pool=request.options.pool,
        precision=request.options.precision,
        n=len(images),
        width=width,
        run=run,
        shards=[None] * math.ceil(len(images) / run.shard_rows),
        labels=request.labels_digest,
    )
