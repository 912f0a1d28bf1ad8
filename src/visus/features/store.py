"""Reading and writing the shards of one tap: Parquet with the columns index, id and vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import StoreError
from visus.features import manifest as manifests
from visus.features.manifest import Manifest, Shard, part
from visus.paths import atomic_path, write_bytes

# Above this many bytes `load` gives a memory map instead of an array in memory.
IN_MEMORY = 512 * 2**20


def write_shard(
    path: Path, index: np.ndarray, ids: Sequence[str], vectors: np.ndarray, quarantine: Sequence[tuple[int, str, str]]
) -> Shard:
    """Write one shard atomically and say what it holds.

    index: int64 [n], ids: n names, vectors: float32 [n, d]. The same input gives the same bytes. Raises StoreError when
    the disk is full. LZ4 with split bytes is written faster than plain, read as fast, and is a tenth smaller (measured).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import xxhash

    item = pa.field("element", pa.float32(), nullable=False)
    kind = pa.list_(item, vectors.shape[1])
    schema = pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", kind, nullable=False),
        ]
    )
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in ids]
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), type=kind)
    table = pa.table([pa.array(index, pa.int64()), pa.array(names, pa.string()), column], schema=schema)
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
    write_bytes(path, data)  # type: ignore[arg-type]  # any buffer will do
    return Shard(len(index), len(data), xxhash.xxh3_128_hexdigest(data), tuple(quarantine))


def _vectors(folder: Path, k: int, width: int) -> np.ndarray:
    """float32 [n, d]: the vectors of the k-th shard. Raises StoreError when the file cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One thread and no prefetch: the decoded column is the only large thing in memory.
        column: Any = pq.read_table(folder / part(k), columns=["vector"], use_threads=False, pre_buffer=False)["vector"]
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{folder / part(k)} cannot be read: {error}; run the extraction again, it mends the store"
        ) from error
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    return flat.reshape(-1, width)


def _whole(folder: Path) -> Manifest:
    manifest = manifests.read(folder)
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


def load(folder: Path, *, limit: int = IN_MEMORY) -> np.ndarray:
    """float32 [n, d]: all vectors of a tap, in order of index.

    Up to `limit` bytes an array in memory; above it a read-only memory map of an .npy file that is made once, beside the
    shards. Raises StoreError when the folder is not complete or not readable.
    """
    import xxhash

    folder = Path(folder)
    manifest = _whole(folder)
    shape = (manifest.rows, manifest.width)
    if shape[0] * shape[1] * 4 <= limit:
        array = np.empty(shape, np.float32)
        _fill(array, folder, manifest)
        return array
    # Named by what it holds, so that a store made anew never meets the map of an older one.
    state = xxhash.xxh3_64_hexdigest("".join(shard.xxh3 for shard in manifest.shards if shard))
    sidecar = folder / f"_vectors-{state}.npy"
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
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Remove a tap's shards, manifest and maps (its cost log stays). Raises StoreError."""
    try:
        for path in [folder / manifests.MANIFEST, *folder.glob("part-*.parquet"), *folder.glob("_vectors-*.npy")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write in {folder}: {error.strerror}; check its permissions") from error
