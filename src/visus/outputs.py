"""The lab's own output: every folder it writes to holds a marker that names what was written, so that no listing of images reads it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import xxhash

from visus.errors import StoreError
from visus.paths import check_writable, write_text

MARKER = ".visus"
DEFAULT = "visus-out"
_PAGE = ("index.html", "result.json", "arrays.npz", "predictions.parquet", "figures/", "tables/")
_MORE = {
    "train": ("config.json", "model.safetensors", "checkpoints/"),
    "extract": ("features/",),
}  # what else a study writes
_HEAD = "# Written by visus, a name a line (a whole folder ends in /); visus passes over them where it lists images."
# What versions without a marker wrote beside their result.json.
_EARLIER = ("index.html", "result.json", "arrays.npz", "figures/", "tables/", "features/", "checkpoints/")


def mark(folder: str | Path, written: Iterable[str]) -> None:
    """Add names to the marker of `folder`, which is made where it is missing: paths relative to it, '/' behind a whole folder.

    Call it before what is named is written. Raises StoreError when the folder cannot be written, or holds another's file of that name.
    """
    file = Path(folder) / MARKER
    known = _read(file)
    if known is None and file.exists():
        raise StoreError(
            f"{file} was not written by visus, and visus keeps a file of that name there; give another --out"
        )
    wanted = {**(known or {}), **dict.fromkeys(written, "")}
    if wanted != known:
        _write(file, wanted)


def seal(folder: str | Path) -> None:
    """Note in the marker the content of every file that it names: what is changed afterwards is somebody's. Call it when all is written.

    Until then, as after a crash, a file's content is not known, and it counts as ours. Raises StoreError.
    """
    folder = Path(folder)
    known = _read(folder / MARKER) or {}
    _write(folder / MARKER, {name: _digest(folder, name) for name in known})


def changed(folder: str | Path) -> list[str]:
    """Names of files of the marker that were edited or replaced since `seal`; none that is gone."""
    folder = Path(folder)
    known = (_read(folder / MARKER) or {}).items()
    return [name for name, digest in known if digest and _digest(folder, name) not in ("", digest)]


def written_in(folder: str | Path) -> frozenset[str] | None:
    """What visus wrote in `folder`, as `mark` took it; None for a folder that is none of its outputs.

    A folder of an earlier version has no marker; it is known by its result.json.
    """
    folder = Path(folder)
    if (known := _read(folder / MARKER)) is not None:
        return frozenset([MARKER, *known])
    return frozenset(_EARLIER) if _is_result(folder / "result.json") else None


def clear(folder: str | Path, *, but: Iterable[str]) -> None:
    """Remove the files that an earlier run of visus wrote in `folder` and the marker names, except `but`; whole folders of ours stay.

    A file that somebody else put there is in no marker and stays, and so does one that was changed since (see `seal`).
    Raises StoreError when one cannot be removed.
    """
    folder, kept = Path(folder), set(but)
    listed = _read(folder / MARKER) or {}
    theirs = changed(folder)
    gone = [name for name in listed if name not in kept and not name.endswith("/")]
    for name in gone:
        file = folder / name
        if name not in theirs and _inside(name) and (file.is_file() or file.is_symlink()):
            try:
                file.unlink()
                if file.parent != folder and not any(file.parent.iterdir()):
                    file.parent.rmdir()
            except OSError as error:
                raise StoreError(
                    f"cannot remove {file} of an earlier run: {error.strerror or error}; delete it"
                ) from error
    if gone:
        _write(folder / MARKER, {name: digest for name, digest in listed.items() if name not in gone})


def check_out(folder: str | Path, study: str, given: Iterable[object] = ()) -> Path:
    """`folder` for the output of a study, checked before any work: nothing that visus did not write will be overwritten, and it can be written.

    It may be missing, empty, hold an output of ours, of whatever study (what that wrote and this does not is removed), or other things that
    leave room for ours. given: the arguments of the call; a folder that is read is not written to. Raises StoreError for a file, for a
    folder that is read, that holds somebody else's page, figures, tables, features or model, or that cannot be written.
    """
    if not str(folder).strip():
        raise StoreError("--out is empty; give a folder for the page, its figures and tables")
    folder = Path(os.path.expanduser(folder))
    if os.path.lexists(folder) and not folder.is_dir():
        raise StoreError(f"--out {folder} is no folder; give one for the page, its figures and tables")
    if folder.is_dir():
        for read in _folders(given):
            if os.path.samefile(read, folder):
                raise StoreError(
                    f"--out {folder} is the folder that is read; give another, as {folder / DEFAULT / study}"
                )
        ours = written_in(folder)
        names = _PAGE if ours is not None else (*_PAGE, *_MORE.get(study, ()))
        taken = [name for name in names if os.path.lexists(folder / name.rstrip("/")) and not _known(name, ours or ())]
        if taken:
            raise StoreError(
                f"--out {folder} holds {', '.join(taken)}, which visus did not write and would overwrite; give an empty or a new folder"
            )
        if edited := changed(folder):
            raise StoreError(
                f"--out {folder} holds {', '.join(edited[:5])}, changed since visus wrote it; move it away, or give an empty or a new folder"
            )
    return check_writable(folder)


def _folders(given: Iterable[object]) -> Iterator[Path]:
    """The folders that arguments name, by themselves or in a spec (folder:PATH?...)."""
    for value in given:
        if isinstance(value, list | tuple):
            yield from _folders(value)
        elif isinstance(value, str | Path):
            text = str(value)
            for form in (text, text.partition("?")[0], text.partition("?")[0].partition(":")[2]):
                path = Path(os.path.expanduser(form))
                if form and len(form) < 4096 and "\0" not in form and path.is_dir():
                    yield path
                    break


def _known(name: str, ours: Iterable[str]) -> bool:
    return any(known == name or (name.endswith("/") and known.startswith(name)) for known in ours)


def is_output(folder: str | Path) -> bool:
    """Whether visus wrote in `folder`, or it is what the lab's outputs are in by default."""
    folder = Path(folder)
    return folder.is_dir() and (folder.name == DEFAULT or written_in(folder) is not None)


def _read(marker: Path) -> dict[str, str] | None:
    """The names in a marker, each with the digest of its content or ''; None where there is none, or another's file of that name."""
    try:
        head, *names = marker.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError):
        return None
    return (
        {name: digest for name, _, digest in (line.partition("\t") for line in names) if name}
        if head == _HEAD
        else None
    )


def _write(marker: Path, known: Mapping[str, str]) -> None:
    lines = [f"{name}\t{digest}" if digest else name for name, digest in sorted(known.items())]
    write_text(marker, "\n".join([_HEAD, *lines]) + "\n")


def _inside(name: str) -> bool:
    """Whether a name lies in the marker's folder: one that somebody edited may name anything."""
    return ".." not in Path(name).parts and not Path(name).is_absolute()


def _digest(folder: Path, name: str) -> str:
    """The content of a file in `folder`, '' for a whole folder, for what is not there or cannot be read."""
    if name.endswith("/") or not _inside(name):
        return ""
    try:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    except OSError:
        return ""


def _is_result(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(100)
    except OSError:
        return False
    return head.startswith(b"{") and b'"schema"' in head and b'"study"' in head
