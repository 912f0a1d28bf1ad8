"""Where the lab keeps things: one cache folder, `VISUS_HOME` or the platform's cache directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visus.errors import StoreError


def home() -> Path:
    """The lab's cache folder (not created): $VISUS_HOME, else the platform's user cache directory."""
    if chosen := os.environ.get("VISUS_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("visus"))


def data_home() -> Path:
    """Where known data sets are looked for and downloaded to: home()/data."""
    return home() / "data"


def features_home() -> Path:
    """Where extracted features are kept: home()/features."""
    return home() / "features"


@contextmanager
def atomic_path(target: Path, *, via: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `target`; it becomes `target` when the block ends well, and vanishes when it fails.

    via: another folder of the same file system for the temporary file, so that a kill leaves no litter beside `target`.
    The rename is atomic, and the bytes are on disk (fsync) before it. Raises StoreError, naming the folder, when the
    disk is full or the folder cannot be written.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if via is not None:
            via.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=via or target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot write {target}: {reason}; free some space or choose another folder, then run the same command again"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes, *, via: Path | None = None) -> None:
    """Write a whole file atomically (see `atomic_path`)."""
    with atomic_path(target, via=via) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write a whole UTF-8 file atomically (see `atomic_path`)."""
    write_bytes(target, text.encode("utf-8"))


def check_writable(folder: str | Path) -> Path:
    """Prove that `folder` can be written, before hours of work, without making it; raises StoreError when it cannot.

    Where it does not exist yet, the nearest folder above it is tried: nothing may lie there before the images are listed.
    """
    folder = Path(folder)
    try:
        at = folder
        while not at.exists() and not at.is_symlink() and at != at.parent:
            at = at.parent
        with tempfile.TemporaryFile(dir=at):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write to the folder {folder}: {reason}; choose another one with --out") from error
    return folder
