"""Locks between processes: who comes second waits, and says for what; the lock of a process that was killed is free.

Stands alone at the root, so that every room that keeps files may hold one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from visus.errors import StoreError
from visus.progress import caution, log

LOCK = ".lock"
MEND = "free some space or choose another folder"
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # what file systems without flock answer
ASK_EVERY = 0.1  # seconds


@contextmanager
def locked(folder: Path, *, waiting: str, name: str = LOCK, mend: str = MEND) -> Iterator[None]:
    """Hold the lock of `folder` (made where it is missing) for the duration of the block.

    waiting: one line, logged when another process holds it, which is waited for. mend: what to do where the folder cannot be written.
    The lock is the kernel's (flock): it goes with the process that holds it, however that ends, and the file stays. A file system
    without flock is named in a caution, and nothing is locked. Not to be taken twice by one thread. Raises
    StoreError where the folder cannot be written.
    """
    lock = _acquired(folder, waiting, name, mend)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _acquired(folder: Path, waiting: str, name: str, mend: str) -> BaseFileLock | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder / name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(waiting)
            lock.acquire(poll_interval=ASK_EVERY)
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", None)
        if isinstance(error, NotImplementedError) or number in UNKNOWN:
            caution(f"{folder} is on a file system without locks: do not run two commands there at once")
            return None
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"cannot write in {folder}: {reason}; {mend}") from error
    return lock


def _lock(path: Path) -> BaseFileLock:
    try:
        # Without flock newer versions would take a file that is there for a lock, which a killed process leaves behind.
        return FileLock(path, fallback_to_soft=False)
    except TypeError:
        return FileLock(path)
