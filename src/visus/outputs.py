"""The lab's own output: every folder it writes to holds a marker that names what was written, so that no listing of images reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from visus.errors import StoreError
from visus.paths import write_text

MARKER = ".visus"
DEFAULT = "visus-out"
_HEAD = "# Written by visus, a name a line (a whole folder ends in /); visus passes over them where it lists images."
# What versions without a marker wrote beside their result.json.
_EARLIER = ("index.html", "result.json", "arrays.npz", "figures/", "tables/", "features/", "checkpoints/")


def mark(folder: str | Path, written: Iterable[str]) -> None:
    """Add names to the marker of `folder`, which is made where it is missing: paths relative to it, '/' behind a whole folder.

    Call it before what is named is written. Raises StoreError when the folder cannot be written.
    """
    folder = Path(folder)
    known = set(_read(folder / MARKER))
    wanted = known | set(written)
    if wanted != known or not (folder / MARKER).is_file():
        write_text(folder / MARKER, "\n".join([_HEAD, *sorted(wanted)]) + "\n")


def written_in(folder: str | Path) -> frozenset[str] | None:
    """What visus wrote in `folder`, as `mark` took it; None for a folder that is none of its outputs.

    A folder of an earlier version has no marker; it is known by its result.json.
    """
    folder = Path(folder)
    if (folder / MARKER).is_file():
        return frozenset([MARKER, *_read(folder / MARKER)])
    return frozenset(_EARLIER) if _is_result(folder / "result.json") else None


def is_output(folder: str | Path) -> bool:
    """Whether visus wrote in `folder`, or it is what the lab's outputs are in by default."""
    folder = Path(folder)
    return folder.is_dir() and (folder.name == DEFAULT or written_in(folder) is not None)


def _read(marker: Path) -> list[str]:
    try:
        lines = marker.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {marker}: {error}; delete it, or give another --out") from error
    return [line for line in lines if line and not line.startswith("#")]


def _is_result(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(100)
    except OSError:
        return False
    return head.startswith(b"{") and b'"schema"' in head and b'"study"' in head
