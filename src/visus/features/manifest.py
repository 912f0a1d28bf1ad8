"""The manifest of a tap's shards: what they hold, how they were made, and how to see that they are whole.

It holds no time and no machine, so that a run that was killed and resumed leaves the bytes that an undisturbed one leaves.
A tap's folder holds Parquet files and nothing else, since polars and others read whatever lies in a folder. All the rest, the manifest,
the log of costs, memory maps, half-written files, is in `.visus/TAP` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from visus.errors import StoreError
from visus.paths import mend, write_text

FORMAT = 2
SIDE = ".visus"
MANIFEST = "manifest.json"
COST = "cost.jsonl"


@dataclass(frozen=True)
class Shard:
    """One Parquet file: rows that it holds, its size in bytes, xxh3-128 of its bytes, and the (index, id, reason) left out."""

    rows: int
    bytes: int
    xxh3: str
    quarantine: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Run:
    """How a tap is computed; a resumed run must repeat it exactly, for the bytes depend on all of it.

    engine: 'openvino' or 'torch', with the kind of device. batch: images a forward pass. shard_rows: images a shard, a
    multiple of batch. group: the taps that leave the network together. versions: of what computes.
    """

    engine: str
    device: str
    batch: int
    shard_rows: int
    group: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass
class Manifest:
    """What a tap's folder holds. images, backbone, tap: who they are. n: images asked for. width: features an image. labels: digest of
    the labels that the shards' column shows; '' where they are not all of one labelling."""

    images: Mapping[str, Any]
    backbone: Mapping[str, Any]
    tap: Mapping[str, Any]
    pool: str
    precision: str
    n: int
    width: int
    run: Run
    shards: list[Shard | None]
    labels: str = ""

    @property
    def complete(self) -> bool:
        return all(shard is not None for shard in self.shards)

    @property
    def rows(self) -> int:
        """Rows in the shards that exist."""
        return sum(shard.rows for shard in self.shards if shard)

    @property
    def quarantine(self) -> list[tuple[int, str, str]]:
        """(index, id, reason) of every image left out, in order."""
        return [entry for shard in self.shards if shard for entry in shard.quarantine]

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be made."""
        return [k for k, shard in enumerate(self.shards) if shard is None]

    def write(self, folder: Path) -> None:
        """Write it atomically beside the tap's folder. Raises StoreError."""
        body = {"format": FORMAT, "complete": self.complete, "rows": self.rows, **asdict(self)}
        write_text(side(folder) / MANIFEST, json.dumps(body, ensure_ascii=False, indent=1) + "\n")


def side(folder: Path) -> Path:
    """Where everything about a tap's folder lies that is no Parquet file."""
    return folder.parent / SIDE / folder.name


def part(k: int) -> str:
    """File name of the k-th shard."""
    return f"part-{k:05d}.parquet"


def read(folder: Path) -> Manifest | None:
    """The manifest of a tap's folder; None when there is none, or none that this version can use."""
    try:
        body = json.loads((side(folder) / MANIFEST).read_text("utf-8"))
        if body.pop("format") != FORMAT:
            return None
        body.pop("complete"), body.pop("rows")
        run = body.pop("run")
        shards = [
            s and Shard(s["rows"], s["bytes"], s["xxh3"], tuple(map(tuple, s["quarantine"])))
            for s in body.pop("shards")
        ]
        return Manifest(**body, run=Run(**{**run, "group": tuple(run["group"])}), shards=shards)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: the folder is made anew
    except OSError as error:
        raise StoreError(f"cannot read {side(folder) / MANIFEST}: {error.strerror}; check its permissions") from error


def damaged(folder: Path, manifest: Manifest) -> list[int]:
    """Numbers of the listed shards whose file is gone, or whose bytes are not those that were written."""
    found = []
    for k, shard in enumerate(manifest.shards):
        if shard is None:
            continue
        try:
            path = folder / part(k)
            whole = path.stat().st_size == shard.bytes and xxhash.xxh3_128_hexdigest(path.read_bytes()) == shard.xxh3
        except OSError:
            whole = False
        if not whole:
            found.append(k)
    return found


def note_cost(folders: Sequence[Path], entry: Mapping[str, Any]) -> None:
    """Add what a run took, one line of JSON, to the cost log of each tap.

    Apart from the manifest, for it differs from run to run; appended, so that a kill here leaves no half-made file behind
    in a store that is otherwise complete. Raises StoreError.
    """
    for folder in folders:
        try:
            with (side(folder) / COST).open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(entry)) + "\n")
        except OSError as error:
            raise StoreError(
                f"cannot write {side(folder) / COST}: {error.strerror}; {mend(folder)}, then run again"
            ) from error
