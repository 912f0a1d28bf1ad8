"""Content hashes of many files: read by threads, remembered in a small file of the lab's cache for as long as nothing touches them.

A hash is remembered by path, size, time of change of the content, time of change of the inode (ctime) and inode. The content's time can
be set back (cp -p, rsync -t, touch); the inode's cannot: whatever writes into a file, or puts another in its place, moves it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xxhash
from PIL import Image

from visus import paths
from visus.errors import StoreError
from visus.images.reading import retrying
from visus.progress import log, task

THREADS = 8
# A file changed this recently may change again within the clock's tick, unseen: its hash is not remembered.
_SETTLED_NS = 2_000_000_000
_TICK_NS = 50_000_000  # the kernel's clock for ctime is finer: such a change is waited out
_RECORD = np.dtype(
    [("key", "V16"), ("size", "<i8"), ("mtime", "<i8"), ("ctime", "<i8"), ("inode", "<u8"), ("digest", "V16")]
)
Stamp = tuple[int, int, int, int]


def files_digest(files: Sequence[Path], *, about: str) -> str:
    """Hex digest (xxh3_128) of the contents of `files`, in order; names and dates play no part.

    about: what the files belong to; each such thing has a memo file of its own. A file that has gone, or may not be read, counts as such;
    a damaged or unwritable memo is ignored. Raises ReadError where the disk fails: what cannot be read now is no content.
    """
    memo_path = paths.home() / "digests" / f"{xxhash.xxh3_128_hexdigest(about.encode('utf-8', 'surrogateescape'))}.npy"
    known = _read(memo_path)
    fresh: dict[bytes, tuple[Stamp, bytes]] = {}
    now = time.time_ns()

    def one(path: Path) -> bytes:
        key = xxhash.xxh3_128_digest(str(path.absolute()).encode("utf-8", "surrogateescape"))

        def look() -> bytes:
            stamp = _stamp(path)
            if (found := known.get(key)) and found[0] == stamp:
                return found[1]
            time.sleep(max(0, min(_TICK_NS, _TICK_NS - (time.time_ns() - stamp[2]))) / 1e9)
            digest = file_hash(path)
            if now - stamp[1] > _SETTLED_NS and _stamp(path) == stamp:  # and not changed while it was read
                fresh[key] = (stamp, digest)
            return digest

        try:
            return retrying(look, str(path))
        except OSError:
            return b"unreadable"

    whole = xxhash.xxh3_128()
    with task("fingerprinting", len(files)) as t, ThreadPoolExecutor(THREADS) as pool:
        for digest in pool.map(one, files):
            whole.update(digest)
            t.advance()
    if fresh:
        _write(memo_path, {**known, **fresh})
    return str(whole.hexdigest())


def pixel_digest(image: Image.Image) -> bytes:
    """16 bytes that are equal for pictures whose decoded pixels and size are equal, whatever their files are."""
    h = xxhash.xxh3_128(f"{image.width}x{image.height}".encode())
    h.update(np.asarray(image).data if image.mode == "RGB" else image.convert("RGB").tobytes())
    return bytes(h.digest())


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**64 - 1)


def file_hash(path: Path) -> bytes:
    """16 bytes of a file's content (xxh3_128)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).digest()


def _read(path: Path) -> dict[bytes, tuple[Stamp, bytes]]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError):
        return {}
    if table.dtype != _RECORD or table.ndim != 1:
        return {}
    stamps = zip(*(table[name].tolist() for name in ("size", "mtime", "ctime", "inode")), strict=True)
    return {bytes(r["key"]): (stamp, bytes(r["digest"])) for r, stamp in zip(table, stamps, strict=True)}


def _write(path: Path, memo: dict[bytes, tuple[Stamp, bytes]]) -> None:
    table = np.array([(k, *stamp, digest) for k, (stamp, digest) in memo.items()], dtype=_RECORD)
    try:
        with paths.atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, table, allow_pickle=False)
    except StoreError as error:  # the memo only saves time: say so and go on
        log(f"file hashes are not remembered: {error}")
