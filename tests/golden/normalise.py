"""What of a result.json is the same in every run: no times, paths, versions, machine. Reads it as data, of any schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Keys of the provenance, at any depth.
DROPPED = frozenset(
    ["command", "versions", "machine", "finished", "wall_seconds", "threads", "seconds", "preparing_seconds", "images_per_second", "page"]
)  # fmt: skip
# Labels and keys of table columns, axes and metrics that measure this machine.
MEASURED = re.compile(
    r"(^|\W|_)(seconds|minutes|wall[ _]time|images[/_]s|images_per_second|peak[ _]memory(_mb)?)(\W|$)", re.IGNORECASE
)
DURATION = re.compile(r"-?\d[\d.,]*(?= ?(s|min|minutes?|h|images/s|[KMG]i?B)\b)")
SOME = "of this machine"


def normalised(folder: Path, work: Path) -> dict[str, Any]:
    """The result that was saved in `folder`, by a run whose files all lay under `work`."""
    body = json.loads((folder / "result.json").read_text("utf-8"))
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        body["arrays"] = {name: described(stored[name]) for name in sorted(stored.files)}
    body["provenance"] = without(body["provenance"])
    result: dict[str, Any] = settled(body, str(work))
    return result


def described(array: np.ndarray) -> dict[str, Any]:
    """An array by its shape, type and, where it holds numbers, mean and standard deviation."""
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size and array.dtype.kind in "fiub":
        values = array.astype(np.float64)
        found |= {"mean": float(np.nanmean(values)), "std": float(np.nanstd(values))}
    return found


def without(provenance: Any) -> Any:
    if isinstance(provenance, Mapping):
        return {k: without(v) for k, v in provenance.items() if k not in DROPPED}
    return [without(v) for v in provenance] if isinstance(provenance, list) else provenance


def settled(value: Any, work: str) -> Any:
    """Numbers that measure the machine and paths of the run replaced, wherever they stand."""
    if isinstance(value, str):
        return DURATION.sub("#", value.replace(work, "WORK"))
    if isinstance(value, list):
        return [settled(v, work) for v in value]
    if not isinstance(value, Mapping):
        return value
    value = dict(value)
    if isinstance(value.get("columns"), list) and all(isinstance(row, list) for row in value.get("rows", ("",))):
        at = [j for j, column in enumerate(value["columns"]) if measured(column)]
        value["rows"] = [[SOME if j in at and c is not None else c for j, c in enumerate(row)] for row in value["rows"]]
    if measured(value.get("x_label")):
        value |= {k: SOME for k in ("x", "front") if k in value}
    if "value" in value and measured(value.get("key")):
        value |= {k: SOME for k in ("value", "low", "high") if value.get(k) is not None}
    return {k.replace(work, "WORK"): settled(v, work) for k, v in value.items()}


def measured(named: Any) -> bool:
    """Whether a column, axis or metric of this name (or with this key or label) measures the machine."""
    if isinstance(named, Mapping):
        return any(measured(named.get(k)) for k in ("key", "label"))
    return isinstance(named, str) and bool(MEASURED.search(named))
