"""Content hashes of many files: read by threads, remembered by (path, size, mtime) in a small file of the lab's cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from visus import paths
from visus.errors import StoreError
from visus.progress import log, task

THREADS = 8
# A file changed this recently may change again within the clock's tick, unseen: its hash is not remembered.
_SETTLED_NS = 2_000_000_000
_RECORD = np.dtype([("key", "V16"), ("size", "<i8"), ("mtime", "<i8"), ("digest", "V16")])


def files_digest(files: Sequence[Path], *, about: str) -> str:
    """Hex digest (xxh3_128) of the contents of `files`, in order; names and dates play no part.

    about: what the files belong to; each such thing has a memo file of its own. A file that cannot be read counts as such.
    A damaged or unwritable memo is ignored.
    """
    import xxhash

    memo_path = paths.home() / "digests" / f"{xxhash.xxh3_128_hexdigest(about.encode('utf-8', 'surrogateescape'))}.npy"
    known = _read(memo_path)
    fresh: dict[bytes, tuple[int, int, bytes]] = {}
    now = time.time_ns()

    def one(path: Path) -> bytes:
        key = xxhash.xxh3_128_digest(str(path.absolute()).encode("utf-8", "surrogateescape"))
        try:
            stat = path.stat()
            if (found := known.get(key)) and found[:2] == (stat.st_size, stat.st_mtime_ns):
                return found[2]
            digest = _hash(path)
        except OSError:
            return b"unreadable"
        if now - stat.st_mtime_ns > _SETTLED_NS:
            fresh[key] = (stat.st_size, stat.st_mtime_ns, digest)
        return digest

    whole = xxhash.xxh3_128()
    with task("fingerprinting", len(files)) as t, ThreadPoolExecutor(THREADS) as pool:
        for digest in pool.map(one, files):
            whole.update(digest)
            t.advance()
    if fresh:
        _write(memo_path, {**known, **fresh})
    return str(whole.hexdigest())


def _hash(path: Path) -> bytes:
    import xxhash

    h = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            h.update(block)
    return bytes(h.digest())


def _read(path: Path) -> dict[bytes, tuple[int, int, bytes]]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError):
        return {}
    if table.dtype != _RECORD or table.ndim != 1:
        return {}
    return {bytes(r["key"]): (int(r["size"]), int(r["mtime"]), bytes(r["digest"])) for r in table}


def _write(path: Path, memo: dict[bytes, tuple[int, int, bytes]]) -> None:
    table = np.array([(k, size, mtime, digest) for k, (size, mtime, digest) in memo.items()], dtype=_RECORD)
    try:
        with paths.atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, table, allow_pickle=False)
    except StoreError as error:  # the memo only saves time: say so and go on
        log(f"file hashes are not remembered: {error}")
