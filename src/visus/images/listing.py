"""What lies below a folder of pictures: everything but hidden files, what operating systems leave behind, and the lab's own output."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visus import paths
from visus.images.base import Quarantined
from visus.outputs import DEFAULT, MARKER, written_in
from visus.progress import note, task

# Left behind by Windows, macOS, Synology, QNAP, Linux and Python; names that start with a dot are hidden anyway.
JUNK = frozenset(
    [
        "thumbs.db", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "__macosx", "@eadir", "@recycle",
        "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information",
        "lost+found", "__pycache__", "network trash folder", "temporary items",
    ]
)  # fmt: skip
# Endings of files that are no pictures, whatever their folder: they do not make a folder one of pictures.
OTHER = frozenset(
    [
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".rst", ".html", ".htm", ".py", ".ipynb",
        ".sh", ".m", ".log", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".pdf", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".npz",
        ".npy", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".pkl", ".pickle", ".mat", ".h5", ".hdf5", ".parquet", ".arrow",
        ".db", ".sqlite", ".ini", ".cfg", ".lst", ".names", ".mp4", ".avi", ".mov", ".mkv", ".wav", ".mp3", ".lock", ".part", ".tmp",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """Files and folders below a root, as sorted POSIX paths, and the folders that could not be read."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    unreadable: tuple[Quarantined, ...] = ()


def looks_like_an_image(file: str) -> bool:
    """By its ending alone: anything that is not known to be something else."""
    return PurePosixPath(file).suffix.lower() not in OTHER


def show(path: str) -> str:
    """A name fit for print and for JSON: bytes that are not Unicode are spelt out."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path) -> Listing:
    """Everything below root that is not hidden, junk or written by visus; linked folders are followed, but not in circles."""
    files: list[str] = []
    folders: list[str] = []
    unreadable: list[Quarantined] = []
    outputs: list[str] = []
    own: set[str] = set()
    cache = os.path.realpath(paths.home())
    waiting = [("", frozenset({os.path.realpath(root)}))]
    with task("listing files", None) as t:
        while waiting:
            at, above = waiting.pop()
            try:
                entries = sorted(os.scandir(root / at), key=lambda e: e.name)
            except OSError as error:
                unreadable.append(Quarantined(f"{show(at)}/", f"folder cannot be read: {error.strerror or error}"))
                continue
            before = f"{at}/" if at else ""
            told = any(e.name in (MARKER, "result.json") for e in entries)
            written = written_in(root / at) if told else None
            if written is not None or at.rpartition("/")[2] == DEFAULT:
                outputs.append(at)
                own.update(before + name for name in written or ())
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in JUNK:
                    continue
                path = before + entry.name
                if not entry.is_dir():
                    if path not in own:
                        files.append(path)
                    continue
                real = (
                    os.path.realpath(entry.path)
                    if entry.is_symlink()
                    else os.path.join(os.path.realpath(root / at), entry.name)
                )
                if f"{path}/" in own or real == cache:
                    continue
                folders.append(path)
                if real not in above:
                    waiting.append((path, above | {real}))
            t.advance(len(entries))
    return _without(outputs, own, Listing(tuple(sorted(files)), tuple(sorted(folders)), tuple(unreadable)))


def _without(outputs: Iterable[str], own: Iterable[str], found: Listing) -> Listing:
    """Leave out the outputs that hold no picture of the user's, and the folders that held nothing but output."""
    outputs = [at for at in outputs if at]
    mixed = {at for at in outputs if any(f.startswith(f"{at}/") and looks_like_an_image(f) for f in found.files)}
    gone = set(outputs) - mixed
    files = tuple(f for f in found.files if not gone.intersection(_above(f)))
    full = {above for f in files for above in _above(f)}
    emptied = {above for path in (*gone, *own) for above in _above(path)} - full
    folders = tuple(f for f in found.folders if f not in gone and f not in emptied and not gone.intersection(_above(f)))
    if gone:
        top = sorted(at for at in gone if not gone.intersection(_above(at)))
        note(f"passed over, as visus wrote it: {', '.join(map(show, top[:3]))}" + (" and more" if len(top) > 3 else ""))
    return Listing(files, folders, found.unreadable)


def _above(path: str) -> list[str]:
    """The folders that hold a path, outermost first."""
    steps = path.rstrip("/").split("/")
    return ["/".join(steps[:k]) for k in range(1, len(steps))]
