"""Reading in spite of a bad moment: what the disk, the network or memory fails in is tried again, and never held against an image."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from visus.errors import ReadError
from visus.images.errors import GoneError

T = TypeVar("T")

# What an operating system says of the file itself. Whatever else it says is about the disk, the network, memory or open files.
PERMANENT = frozenset(
    [errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG]
)
PAUSES = (0.05, 0.25, 1.0)  # seconds before each new try


def is_permanent(error: OSError) -> bool:
    """Whether this error is about the file (gone, not permitted) and would come again; False: about the moment."""
    return error.errno in PERMANENT


def retrying(action: Callable[[], T], what: str) -> T:
    """What `action` gives; errors of the disk, the network and memory are waited out and tried again.

    Raises OSError as it came where it is about the file itself, ReadError where the machine goes on failing.
    """
    for pause in PAUSES:
        try:
            return action()
        except OSError as error:
            if is_permanent(error):
                raise
        except MemoryError:
            pass
        time.sleep(pause)
    try:
        return action()
    except OSError as error:
        if is_permanent(error):
            raise
        raise read_failed(what, error.strerror or str(error)) from error
    except MemoryError as error:
        raise read_failed(what, "out of memory") from error


def read_failed(what: str, reason: str) -> ReadError:
    """The one line for a read that keeps failing."""
    return ReadError(
        f"{what} cannot be read now ({reason}); that is no fault of the image, and it was not set aside: run the same command again"
    )


def read_bytes(path: Path | str) -> bytes:
    """A whole file that was there when the images were listed. Raises GoneError where it has gone, ReadError where the machine fails."""

    def whole() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    try:
        return retrying(whole, str(path))
    except OSError as error:
        raise GoneError(f"cannot be read: {error.strerror or error}") from error
