"""What features depend on, and the one name for it: change any of it and they are computed anew, change nothing and they are found.

In the key: the images (content and ids), the network (weights, buffers, structure, code of one's own, preprocessing, taps), pooling,
precision, the engine and the kind of device, and the versions of what decodes and computes: of Pillow, PyTorch, OpenVINO, the optional
decoders, and of every package that the network's classes come from, as major.minor. A patch release keeps the cache; a minor one does
not. Not in it: labels, batch, number of threads, the size of a shard, which change no number beyond rounding.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import fields

import xxhash

from visus.features.manifest import FORMAT
from visus.images.base import ImageSet
from visus.models.base import Backbone
from visus.models.code import own_code, packages
from visus.models.tap import Tap
from visus.version import __version__

DECODERS = ("numpy", "pillow", "tifffile", "pillow-heif", "pillow-jxl-plugin", "pydicom")


def feature_key(images: ImageSet, backbone: Backbone, *, pool: str, precision: str, engine: str, device: str) -> str:
    """Content hash, 32 hex digits. engine: 'openvino' or 'torch'. device: 'cpu' or 'cuda...', of which the kind counts."""
    # The structure is part of it: equal weights may stand under another activation.
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(backbone.module))
    taps = sorted(map(_written, backbone.taps))
    names = [*DECODERS, "torch", *(["openvino"] if engine == "openvino" else []), *packages(backbone.module)]
    versions = [f"{name} {minor(name)}" for name in sorted(set(names))]
    parts = [
        FORMAT, f"visus {_minor(__version__)}", images.fingerprint, backbone.fingerprint, structure, taps, pool, precision,
        engine, device.partition(":")[0], versions,
    ]  # fmt: skip
    digest: str = xxhash.xxh3_128_hexdigest("\n".join(map(str, parts)).encode("utf-8", "surrogateescape"))
    return digest


def tapped_as(backbone: Backbone, taps: Sequence[Tap], pool: str) -> str:
    """What the features of a network at these taps depend on besides its modules and weights, as a text."""
    return "\n".join([backbone.preprocess.key, own_code([backbone.call]), *map(_written, taps), pool])


def minor(package: str) -> str:
    """Major and minor version of an installed package, by its distribution's or its module's name; 'none' where it is not installed."""
    for name in (package, {"open_clip": "open_clip_torch"}.get(package, package)):
        try:
            return _minor(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])


def _written(tap: Tap) -> str:
    """Every field of a tap, in words of this file: a class may be renamed, and a key may not change with it."""
    return f"Tap({', '.join(f'{f.name}={getattr(tap, f.name)!r}' for f in fields(tap))})"
