"""Measures that are kept by what they were computed from, so that the next question about the same features does not compute them again.

Like joblib.Memory, whose entries are pickles: here they are npz files without. An entry's key is a hash of the function's name, of every array
and option, of the source of `measures/`, and of the versions of the libraries it stands on: what could change a digit changes the key.
Entries lie in VISUS_HOME/measures; one that cannot be read is computed anew.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash

from visus.errors import StoreError
from visus.measures.maps import Map
from visus.measures.probe import ProbePath, ProbeResult
from visus.measures.probe_null import PermutationNull
from visus.measures.trust import TrustFigures
from visus.paths import atomic_path, home
from visus.progress import log

T = TypeVar("T")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "openTSNE", "umap-learn", "numba")
KINDS = {kind.__name__: kind for kind in (Map, PermutationNull, ProbePath, ProbeResult, TrustFigures)}


def remembered(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """What `function` gives, from the file that an earlier call with equal arguments left, else computed and kept.

    function: one of the lab's, which depends on nothing but its arguments; any other is just called. Arguments may be arrays, numbers, texts,
    None, dataclasses and tuples of such. The value may hold dataclasses of KINDS, tuples, dicts, arrays, numbers and texts.
    Where nothing can be written, it is computed each time.
    """
    if not function.__module__.startswith("visus."):
        return function(*args, **options)
    name = function.__qualname__.lstrip("_")
    digest = xxhash.xxh3_128(f"{function.__module__}.{name}".encode() + source_digest())
    _feed(digest, (args, tuple(sorted(options.items()))))
    try:
        path = home() / "measures" / name / f"{digest.hexdigest()}.npz"
    except StoreError:
        return function(*args, **options)
    found = _read(path)
    if found is not None:
        return found  # type: ignore[no-any-return]
    value = function(*args, **options)
    try:
        _write(path, value)
    except StoreError as error:
        log(f"measures are not kept: {error}")
    return value


def _feed(digest: Any, value: Any) -> None:
    """Hash one input; every value ends with a mark, so that no two lists of inputs read alike."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data)
    elif is_dataclass(value):
        _feed(digest, (type(value).__name__, *(getattr(value, f.name) for f in fields(value))))
    elif isinstance(value, tuple | list):
        digest.update(f"({len(value)}".encode())
        for one in value:
            _feed(digest, one)
    elif value is None or isinstance(value, str | int | float | bool):
        digest.update(f"{type(value).__name__}{value!r}".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no key")
    digest.update(b"\0;")


@cache
def source_digest() -> bytes:
    """A digest of the source of `measures/` and of the versions of the libraries."""
    digest = xxhash.xxh3_128()
    for file in sorted(Path(str(files("visus") / "measures")).glob("*.py")):
        digest.update(file.read_bytes())
    for library in LIBRARIES:
        try:
            digest.update(f"{library} {version(library)};".encode())
        except PackageNotFoundError:
            digest.update(f"{library} ?;".encode())
    return bytes(digest.digest())


def _write(path: Path, value: Any) -> None:
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(value, arrays))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, value=np.array(text), **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return _unpacked(json.loads(str(stored["value"])), stored)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None  # cut off, or of another version: it is computed again and written over


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON; its arrays are put aside by name."""
    if isinstance(value, np.ndarray):
        arrays[name := f"a{len(arrays)}"] = value
        return {"array": name}
    if is_dataclass(value):
        inside = {f.name: _packed(getattr(value, f.name), arrays) for f in fields(value)}
        return {"kind": type(value).__name__, "fields": inside}
    if isinstance(value, dict):
        return {"dict": [[_packed(k, arrays), _packed(v, arrays)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        return {"tuple": [_packed(v, arrays) for v in value]}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unpacked(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "kind" in value:
        return KINDS[value["kind"]](**{k: _unpacked(v, arrays) for k, v in value["fields"].items()})
    if "dict" in value:
        return {_unpacked(k, arrays): _unpacked(v, arrays) for k, v in value["dict"]}
    return tuple(_unpacked(v, arrays) for v in value["tuple"])
