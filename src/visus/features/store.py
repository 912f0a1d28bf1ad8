"""Reading and writing the shards of one tap: Parquet with the columns index, id, name, label, pixels and vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from visus.errors import StoreError
from visus.features.manifest import MANIFEST, Manifest, Shard, part, read, side
from visus.paths import atomic_path, write_bytes

# Above this many bytes `read_vectors` gives a memory map instead of an array in memory.
IN_MEMORY = 512 * 2**20


@dataclass(frozen=True)
class Rows:
    """What a shard says of its images. index: int64 [n], positions in the ImageSet. names: as the set calls them. source: of the whole
    set, what makes ids unique. labels: class names, None where there is none. pixels: bytes [n, 16], hashes of the decoded images.
    """

    index: np.ndarray
    names: Sequence[str]
    source: str
    labels: Sequence[str | None]
    pixels: np.ndarray


def schema(width: int) -> Any:
    """The columns of every shard: index, id (unique among all sets), name, label, pixels (hash of the decoded image), vector."""
    text = pa.string()
    item = pa.field("element", pa.float32(), nullable=False)
    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", text, nullable=False),
            pa.field("name", text, nullable=False),
            pa.field("label", text),
            pa.field("pixels", text, nullable=False),
            pa.field("vector", pa.list_(item, width), nullable=False),
        ]
    )


def write_shard(path: Path, rows: Rows, vectors: np.ndarray, quarantine: Sequence[tuple[int, str, str]]) -> Shard:
    """Write one shard atomically and say what it holds.

    vectors: float32 [n, d]. The same input gives the same bytes. Raises StoreError when
    the disk is full. LZ4 with split bytes is written faster than plain, read as fast, and is a tenth smaller (measured).
    """
    columns = schema(vectors.shape[1])
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in rows.names]
    vector = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), type=columns.field("vector").type
    )
    table = pa.table(
        [
            pa.array(rows.index, pa.int64()),
            pa.array([f"{rows.source}/{name}" for name in names], pa.string()),
            pa.array(names, pa.string()),
            pa.array(rows.labels, pa.string()),
            pa.array([bytes(h).hex() for h in rows.pixels], pa.string()),
            vector,
        ],
        schema=columns,
    )
    return _write(path, table, quarantine)


def _write(path: Path, table: Any, quarantine: Sequence[tuple[int, str, str]]) -> Shard:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        column_encoding={"vector.list.element": "BYTE_STREAM_SPLIT"},
    )
    data = memoryview(sink.getvalue())
    write_bytes(path, data, via=side(path.parent))  # type: ignore[arg-type]  # any buffer will do
    return Shard(len(table), len(data), xxhash.xxh3_128_hexdigest(data), tuple(quarantine))


def relabel(folder: Path, labels: Sequence[str | None], digest: str) -> None:
    """Have a complete tap's label column say `labels` (by index); vectors and everything else stay. Raises StoreError.

    The manifest follows every shard: a kill in between leaves one shard that is found to be changed, and computed again.
    """
    manifest = _whole(folder)
    if manifest.labels == digest:
        return
    for k, shard in enumerate(manifest.shards):
        if shard is None:
            continue
        table = _table(folder, k)
        said = pa.array([labels[i] for i in table["index"].to_pylist()], pa.string())
        table = table.set_column(table.schema.get_field_index("label"), schema(manifest.width).field("label"), said)
        manifest.shards[k] = _write(folder / part(k), table.combine_chunks(), shard.quarantine)
        manifest.labels = ""
        manifest.write(folder)
    manifest.labels = digest
    manifest.write(folder)
    for path in side(folder).glob("vectors-*.npy"):  # named by the shards as they were
        path.unlink(missing_ok=True)


def pixel_hashes(folder: Path) -> np.ndarray:
    """The hashes of the decoded images of a tap's rows, in order of index: array of str [n]."""
    manifest = _whole(folder)
    columns = [_table(folder, k, ["pixels"])["pixels"].to_numpy() for k in range(len(manifest.shards))]
    return np.concatenate([np.empty(0, object), *columns]).astype(str)


def _table(folder: Path, k: int, columns: list[str] | None = None) -> Any:
    """The k-th shard. Raises StoreError when the file cannot be read."""
    try:
        # One thread and no prefetch: the decoded column is the only large thing in memory.
        return pq.read_table(folder / part(k), columns=columns, use_threads=False, pre_buffer=False, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder / part(k)} cannot be read: {error}; run the extraction again, it mends the store"
        ) from error


def _vectors(folder: Path, k: int, width: int) -> np.ndarray:
    """float32 [n, d]: the vectors of the k-th shard. Raises StoreError when the file cannot be read."""
    column: Any = _table(folder, k, ["vector"])["vector"]
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    return flat.reshape(-1, width)


def _whole(folder: Path) -> Manifest:
    manifest = read(folder)
    if manifest is None or not manifest.complete:
        raise StoreError(f"{folder} holds no complete features; run the extraction again, it goes on where it stopped")
    return manifest


def _fill(target: np.ndarray, folder: Path, manifest: Manifest) -> None:
    at = 0
    for k in range(len(manifest.shards)):
        rows = _vectors(folder, k, manifest.width)
        if at + len(rows) > len(target):
            raise StoreError(f"{folder / part(k)} holds more rows than its manifest says; run the extraction again")
        target[at : at + len(rows)] = rows
        at += len(rows)
    if at != len(target):
        raise StoreError(f"{folder} holds {at} rows and its manifest says {len(target)}; run the extraction again")


def read_vectors(folder: Path, *, limit: int = IN_MEMORY) -> np.ndarray:
    """float32 [n, d]: all vectors of a tap, in order of index.

    Up to `limit` bytes an array in memory; above it a read-only memory map of an .npy file that is made once, beside the
    folder. Raises StoreError when the folder is not complete or not readable.
    """
    folder = Path(folder)
    manifest = _whole(folder)
    shape = (manifest.rows, manifest.width)
    if shape[0] * shape[1] * 4 <= limit:
        array = np.empty(shape, np.float32)
        _fill(array, folder, manifest)
        return array
    # Named by what it holds, so that a store made anew never meets the map of an older one.
    state = xxhash.xxh3_64_hexdigest("".join(shard.xxh3 for shard in manifest.shards if shard).encode())
    sidecar = side(folder) / f"vectors-{state}.npy"
    if not sidecar.exists():
        with atomic_path(sidecar) as temporary:
            _write_npy(temporary, folder, manifest)
    mapped: np.ndarray = np.load(sidecar, mmap_mode="r")
    return mapped


def _write_npy(path: Path, folder: Path, manifest: Manifest) -> None:
    """Stream the shards into an .npy file: written, not mapped, so that a full disk raises instead of killing by SIGBUS."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (manifest.rows, manifest.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for k in range(len(manifest.shards)):
            file.write(np.ascontiguousarray(_vectors(folder, k, manifest.width)).data)


def blocks(folder: Path, rows: int = 8192) -> Iterator[np.ndarray]:
    """float32 [rows, d] blocks of a tap in order (the last may be shorter), read shard by shard; each is the caller's own.

    Raises StoreError when the folder is not complete or not readable.
    """
    folder = Path(folder)
    manifest = _whole(folder)
    block, filled = np.empty((rows, manifest.width), np.float32), 0
    for k in range(len(manifest.shards)):
        vectors, at = _vectors(folder, k, manifest.width), 0
        while at < len(vectors):
            step = min(rows - filled, len(vectors) - at)
            block[filled : filled + step] = vectors[at : at + step]
            at, filled = at + step, filled + step
            if filled == rows:
                yield block
                block, filled = np.empty((rows, manifest.width), np.float32), 0
    if filled:
        yield block[:filled]


def clear_litter(folder: Path) -> None:
    """Remove what a killed run left half-written. Call it under the store's lock."""
    for path in side(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Remove a tap's shards, manifest and maps (its cost log stays). Raises StoreError."""
    try:
        beside = side(folder)
        for path in [beside / MANIFEST, *folder.glob("part-*.parquet"), *beside.glob("vectors-*.npy")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write in {folder}: {error.strerror}; check its permissions") from error
