"""What is asked for: checked, with everything 'auto' resolved, and with its place in the store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xxhash

from visus import paths
from visus.device import choose_device
from visus.errors import DataError
from visus.features.engines import choose_engine
from visus.features.key import feature_key
from visus.features.manifest import Manifest, damaged, read
from visus.images.base import ImageSet
from visus.models.base import Backbone
from visus.models.tap import Tap
from visus.models.tapping import CLS_AND_MEAN, POOLS

PRECISIONS = ("fp32", "bf16")
SHARD_ROWS = 2048


@dataclass(frozen=True)
class Options:
    """How features are to be computed; `extract` says what each means."""

    pool: str
    precision: str
    engine: str
    device: str
    batch: int | None
    workers: int | None
    shard_rows: int
    labelled: bool


@dataclass(frozen=True)
class Request:
    """What was asked for. engine, device: those of the options, 'auto' resolved. root: the folder of all that depends on the same things."""

    images: ImageSet
    backbone: Backbone
    taps: tuple[Tap, ...]
    options: Options
    engine: str
    device: str
    root: Path

    @cached_property
    def labels(self) -> list[str | None]:
        """The class name of every image, None where the set has no labels."""
        numbers, classes = self.images.labels, self.images.classes
        return [None] * len(self.images) if numbers is None else [classes[i] for i in numbers]

    @cached_property
    def labels_digest(self) -> str:
        """What tells one labelling of the same images from another."""
        return str(xxhash.xxh3_128_hexdigest(repr(self.labels).encode("utf-8", "surrogateescape")))

    def folder(self, tap: Tap) -> Path:
        """Where a tap's shards are: its name, made safe for any file system."""
        return self.root / re.sub(r"[^\w.\-]", lambda m: f"%{ord(m[0]):02x}", tap.name, flags=re.ASCII)

    def stored(self, *, check: bool = True) -> dict[str, Manifest] | None:
        """The manifests by tap when the store has all that was asked for, undamaged (unless not to be checked); else None."""
        found = {}
        for tap in self.taps:
            folder = self.folder(tap)
            manifest = read(folder)
            if manifest is None or manifest.n != len(self.images) or not manifest.complete:
                return None
            if self.options.engine not in ("auto", manifest.run.engine):
                return None
            if self.options.labelled and manifest.labels != self.labels_digest:
                return None
            if check and damaged(folder, manifest):
                return None
            found[tap.name] = manifest
        return found


def requested(
    images: ImageSet, backbone: Backbone, taps: Sequence[str], options: Options, store: Path | None
) -> Request:
    """Check what the user gave, and find its place in the store. Raises DataError, SpecError or MissingExtraError."""
    if len(images) == 0:
        raise DataError(f"{images.name} holds no images; there is nothing to extract from")
    resolved = backbone.resolve((taps,) if isinstance(taps, str) else taps)
    if not resolved:
        raise DataError("no tap was asked for; name at least one, for example late")
    pools = POOLS if options.pool != CLS_AND_MEAN else (CLS_AND_MEAN,)
    for what, value, known in (("pool", options.pool, pools), ("precision", options.precision, PRECISIONS)):
        if value not in known:
            raise DataError(f"unknown {what} {value!r}; write {', '.join(known[:-1])} or {known[-1]}")
    for what in ("batch", "workers", "shard_rows"):
        number = getattr(options, what)
        if number is not None and number < 1:
            raise DataError(f"{what} must be at least 1, not {number}")
    device = choose_device(options.device)
    engine = choose_engine(options.engine, device)
    key = feature_key(images, backbone, pool=options.pool, precision=options.precision, engine=engine, device=device)
    return Request(images, backbone, resolved, options, engine, device, Path(store or paths.features_home()) / key)
