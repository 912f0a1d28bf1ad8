"""extract: ImageSet x Backbone -> Features. Finds what the store has, computes what it lacks, never computes twice."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from visus import paths
from visus.arguments import checked
from visus.errors import DataError, StoreError
from visus.features import manifest as manifests
from visus.features.base import Features
from visus.features.key import feature_key
from visus.features.manifest import Manifest
from visus.images.base import ImageSet, Quarantined
from visus.models.base import Backbone
from visus.models.tap import Tap
from visus.progress import log

POOLS = ("mean", "cls", "flatten")
SHARD_ROWS = 2048


@dataclass(frozen=True)
class Request:
    """What was asked for, resolved. key: content hash of everything that the features depend on; root: its folder."""

    images: ImageSet
    backbone: Backbone
    taps: tuple[Tap, ...]
    pool: str
    precision: str
    engine: str
    device: str
    batch: int | None
    workers: int | None
    shard_rows: int
    root: Path
    labelled: bool = False

    @cached_property
    def labels(self) -> list[str | None]:
        """The class name of every image, None where the set has no labels."""
        numbers, classes = self.images.labels, self.images.classes
        return [None] * len(self.images) if numbers is None else [classes[i] for i in numbers]

    @cached_property
    def labels_digest(self) -> str:
        """What tells one labelling of the same images from another."""
        import xxhash

        return str(xxhash.xxh3_128_hexdigest(repr(self.labels).encode("utf-8", "surrogateescape")))

    def folder(self, tap: Tap) -> Path:
        """Where a tap's shards are: its name, made safe for any file system."""
        return self.root / re.sub(r"[^\w.\-]", lambda m: f"%{ord(m[0]):02x}", tap.name, flags=re.ASCII)


@checked
def extract(
    images: ImageSet,
    backbone: Backbone,
    taps: Sequence[str] = ("early", "middle", "late"),
    *,
    pool: str | None = "mean",
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    workers: int | None = None,
    store: Path | None = None,
    shard_rows: int = SHARD_ROWS,
    labelled: bool = False,
) -> Features:
    """Features of `images` at `taps`, from the store where it has them, else by one streaming pass over the images.

    taps: names or aliases. pool: 'mean' (over positions or patches), 'cls' (that token), 'flatten' or None (everything, [n, c*h*w]).
    precision: 'fp32' or 'bf16' (stored as float32). engine: 'auto', 'openvino', 'torch'. device: 'auto', 'cpu', 'cuda',
    'cuda:N'. batch: images a forward pass (found by itself). workers: threads (one a core). store: folder of all features
    (default paths.features_home()). shard_rows: images a shard at most; a killed run loses less than one. labelled: have the store's
    label column say the labels of `images`, also where the features were computed under others (labels are not part of the key).

    A run that was stopped goes on where it stopped, and leaves the same bytes as one that was not. Two processes that ask for
    the same thing compute it once. Undecodable images are left out of the rows and named in `quarantine`.
    Raises SpecError (unknown tap), DataError (no images, bad option, every image undecodable), StoreError (disk full,
    no permission), MissingExtraError (OpenVINO asked for and not installed).
    """
    request = _request(
        images, backbone, taps, pool, precision, engine, device, batch, workers, store, shard_rows, labelled
    )
    manifests_ = _whole(request)
    if manifests_ is not None:
        return _features(request, manifests_, {"cached": True, "seconds": 0.0, "images": 0})
    # Imported here: a store that has everything is read without waking PyTorch up.
    from visus.features.work import complete

    with _locked(request.root):
        manifests_ = _whole(request)
        if manifests_ is not None:
            return _features(request, manifests_, {"cached": True, "seconds": 0.0, "images": 0})
        start = time.perf_counter()
        cost = complete(request)
        cost |= {"cached": False, "seconds": time.perf_counter() - start}
        manifests_ = _whole(request, check=False)
    if manifests_ is None:
        raise StoreError(f"{request.root} was changed while it was written; run the same command again")
    return _features(request, manifests_, cost)


def _request(
    images: ImageSet,
    backbone: Backbone,
    taps: Sequence[str],
    pool: str | None,
    precision: str,
    engine: str,
    device: str,
    batch: int | None,
    workers: int | None,
    store: Path | None,
    shard_rows: int,
    labelled: bool,
) -> Request:
    """Check what the user gave, and find its place in the store. Raises DataError or SpecError."""
    pool = pool or "flatten"
    if len(images) == 0:
        raise DataError(f"{images.name} holds no images; there is nothing to extract from")
    if isinstance(taps, str):
        taps = (taps,)
    resolved = backbone.resolve(taps)
    if not resolved:
        raise DataError("no tap was asked for; name at least one, for example late")
    for what, value, known in (("pool", pool, POOLS), ("precision", precision, ("fp32", "bf16"))):
        if value not in known:
            raise DataError(f"unknown {what} {value!r}; write {', '.join(known[:-1])} or {known[-1]}")
    for what, number in (("batch", batch), ("workers", workers), ("shard_rows", shard_rows)):
        if number is not None and number < 1:
            raise DataError(f"{what} must be at least 1, not {number}")
    key = feature_key(images, backbone, pool=pool, precision=precision, **_machine(engine, device))
    root = Path(store or paths.features_home()) / key
    return Request(
        images, backbone, resolved, pool, precision, engine, device, batch, workers, shard_rows, root, labelled
    )


def _machine(engine: str, device: str) -> dict[str, str]:
    """What computes here: engine and device, 'auto' resolved. Raises DataError or MissingExtraError."""
    from visus.device import choose_device
    from visus.features.engines import choose_engine

    chosen = choose_device(device)
    return {"engine": choose_engine(engine, chosen), "device": chosen}


def _whole(request: Request, *, check: bool = True) -> dict[str, Manifest] | None:
    """The manifests by tap when the store has all that was asked for, undamaged; else None."""
    found = {}
    for tap in request.taps:
        folder = request.folder(tap)
        manifest = manifests.read(folder)
        if manifest is None or manifest.n != len(request.images) or not manifest.complete:
            return None
        if request.engine not in ("auto", manifest.run.engine):
            return None
        if request.labelled and manifest.labels != request.labels_digest:
            return None
        if check and manifests.damaged(folder, manifest):
            return None
        found[tap.name] = manifest
    return found


def _features(request: Request, found: dict[str, Manifest], cost: dict[str, Any]) -> Features:
    """Put the answer together. Raises DataError when not a single image could be decoded."""
    first = next(iter(found.values()))
    for manifest in found.values():
        if manifest.quarantine != first.quarantine:
            raise StoreError(
                f"{request.root} holds taps with different rows (files came or went); delete it and run again"
            )
    out = {i for i, _, _ in first.quarantine}
    rows = np.array([i for i in range(len(request.images)) if i not in out], dtype=np.int64)
    if len(rows) == 0:
        raise DataError(
            f"none of the {len(request.images)} images of {request.images.name} can be decoded: {first.quarantine[0][2]}"
        )
    seconds = cost["seconds"]
    cost = {
        "engine": first.run.engine,
        "device": first.run.device,
        "batch": first.run.batch,
        "images_per_second": cost["images"] / seconds if seconds else None,
        **cost,
    }
    return Features(
        folders={name: request.folder(tap) for name, tap in ((t.name, t) for t in request.taps)},
        rows=rows,
        ids=tuple(request.images.ids[i] for i in rows),
        quarantine=tuple(Quarantined(name, reason) for _, name, reason in first.quarantine),
        cost=cost,
        aliases=dict(request.backbone.aliases),
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the key's lock: a second process that wants the same features waits here, and says so. Raises StoreError."""
    from filelock import FileLock, Timeout

    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log("another process is extracting these features; waiting for it, its result will be used")
            lock.acquire(poll_interval=0.1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write in {root}: {reason}; {paths.mend(root)}") from error
    try:
        yield
    finally:
        lock.release()
