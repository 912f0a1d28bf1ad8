"""Where the lab keeps things: one cache folder, `VISUS_HOME` or the platform's cache directory; and where libraries may, who have no other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from visus.errors import StoreError


def home() -> Path:
    """The lab's cache folder (not created): $VISUS_HOME, else the platform's user cache directory.

    Raises StoreError where neither is: no VISUS_HOME, and a user without a home folder.
    """
    chosen = os.environ.get("VISUS_HOME")
    found = Path(os.path.expanduser(chosen) if chosen else platformdirs.user_cache_dir("visus"))
    if found.parts[:1] and found.parts[0].startswith("~"):
        # A user whom the machine does not know; '~' would become a folder.
        raise StoreError(
            f"there is no home folder for {found}; set VISUS_HOME to a folder that can be written, by its full path"
        )
    return found


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ or ~USER as the home folder; of a user whom the machine does not know it stays, and so does not exist."""
    return Path(os.path.expanduser(path))


def data_home() -> Path:
    """Where known data sets are looked for and downloaded to: home()/data."""
    return home() / "data"


def features_home() -> Path:
    """Where extracted features are kept: home()/features."""
    return home() / "features"


def shelter_caches() -> None:
    """Where the caches of matplotlib and numba cannot be written, name them a place in the lab's own; call it before they are imported.

    Without one, numba refuses to import umap and matplotlib builds its list of fonts anew in every process. Caches that can be written, or that
    the user chose, stay; downloaded models and data (Hugging Face, torch) are read where they lie, whether or not that can be written.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for library, variable, own in (
        ("matplotlib", "MPLCONFIGDIR", (cache, config)),
        ("numba", "NUMBA_CACHE_DIR", (cache,)),
    ):
        chosen = os.environ.get(variable)
        if all(map(can_write, (chosen,) if chosen else own)):
            continue
        try:
            ours = home() / "caches" / library
        except StoreError:
            return  # said where something is to be kept
        if can_write(ours):
            os.environ[variable] = str(ours)


def can_write(folder: str | Path) -> bool:
    """Whether `folder` can be written, or made, by its nearest folder that exists; nothing is made."""
    at = Path(folder)
    if not at.is_absolute():
        return False  # '~' of a user without a home
    try:
        while not at.exists() and at != at.parent:
            at = at.parent
        return at.is_dir() and os.access(at, os.W_OK | os.X_OK)
    except OSError:
        return False


def in_home(path: str | Path) -> bool:
    """Whether a path lies in the lab's cache folder."""
    try:
        return Path(path).is_relative_to(home())
    except StoreError:
        return False


def mend(path: str | Path) -> str:
    """What to do about a path that cannot be written: VISUS_HOME where it lies in the lab's cache, else another folder."""
    other = "set VISUS_HOME to a folder that can be written" if in_home(path) else "choose another folder"
    return f"free some space, or {other}"


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
        raise StoreError(f"cannot write {target}: {reason}; {mend(target)}, then run the same command again") from error
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
        instead = mend(folder) if in_home(folder) else "choose another one with --out"
        raise StoreError(f"cannot write to the folder {folder}: {reason}; {instead}") from error
    return folder
