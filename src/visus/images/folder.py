"""A folder of pictures: class subfolders, or a flat heap with a label file; train, validation and test folders honoured."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.images.base import ImageSet, Quarantined
from visus.images.captions import FILES as METADATA
from visus.images.captions import captions_beside
from visus.images.digest import files_digest
from visus.images.header import problem
from visus.images.label_file import class_order, read_labels
from visus.images.reading import read_bytes
from visus.images.registry import source
from visus.progress import log, task
from visus.spec import Spec, check_options

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
JUNK = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"})
THREADS = 8


@dataclass(frozen=True)
class FileSource:
    """Pictures as files. root: the folder. paths: relative to it, with forward slashes."""

    root: str
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> bytes:
        """The i-th file's bytes. Raises GoneError when it cannot be read any more."""
        return read_bytes(os.path.join(self.root, self.paths[i]))

    def digest(self) -> str:
        """Hash of all contents in order; remembered by path, size and time of change."""
        return files_digest([Path(self.root, p) for p in self.paths], about=self.root)


@source("folder:")
def load_folder(spec: Spec, *, labels: Path | None, download: bool) -> ImageSet:
    """The pictures under a folder; ids are their paths relative to it.

    With `labels` (or ?labels=FILE) classes come from that file alone. Otherwise they are the names of the subfolders, sorted as
    plain text, each searched to its bottom; a folder without subfolders gives an unlabelled set. Folders named train,
    val/valid/validation and test become declared splits with one list of classes. Every file is opened once, for its header.
    Set aside with a reason: empty files, files that are no images, that cannot be read, that are too large; files outside
    any class; files without a row in the label file; rows without a file; empty class folders (the class is dropped).
    Hidden files and those that operating systems leave behind are passed over. Captions come from a metadata.csv or
    metadata.jsonl in the folder with file_name and text, where there is one.
    Raises DataError: no such folder, no usable image, two folders for one split, a label file that contradicts itself.
    """
    check_options(spec, ["labels"])
    root = Path(spec.name).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"the folder {spec.name} {what}; give a folder of images")
    found = _walk(root)
    found = replace(found, files=tuple(f for f in found.files if f not in METADATA))
    parts = _split_folders(root, found)
    if labels is None and "labels" in spec.options:
        labels = Path(spec.options["labels"]).expanduser()
    if labels is not None and not labels.exists() and (root / labels).exists():
        labels = root / labels
    aside: list[Quarantined] = []
    by_file = labels is not None
    class_of = _by_file(root, labels, found, parts, aside) if labels is not None else _by_folder(found, parts, aside)
    usable = _usable(root, sorted(class_of), aside)
    if not usable:
        reasons = f"; the first: {aside[0].id}: {aside[0].reason}" if aside else ""
        raise DataError(f"{spec.name} holds no usable image ({len(aside)} set aside{reasons}); check the folder")
    return _build(spec, root, usable, class_of, parts, aside, numbered=by_file)


@dataclass(frozen=True)
class _Found:
    files: tuple[str, ...]
    folders: tuple[str, ...]
    unreadable: tuple[Quarantined, ...]


def _walk(root: Path) -> _Found:
    """Everything below root that is not hidden or junk, as POSIX paths; linked folders are followed, but not in circles."""
    files: list[str] = []
    folders: list[str] = []
    unreadable: list[Quarantined] = []
    waiting = [("", frozenset({os.path.realpath(root)}))]
    with task("listing files", None) as t:
        while waiting:
            at, above = waiting.pop()
            try:
                entries = sorted(os.scandir(root / at), key=lambda e: e.name)
            except OSError as error:
                unreadable.append(Quarantined(f"{_show(at)}/", f"folder cannot be read: {error.strerror or error}"))
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in JUNK:
                    continue
                path = f"{at}/{entry.name}" if at else entry.name
                if not entry.is_dir():
                    files.append(path)
                    continue
                folders.append(path)
                real = (
                    os.path.realpath(entry.path)
                    if entry.is_symlink()
                    else os.path.join(os.path.realpath(root / at), entry.name)
                )
                if real not in above:
                    waiting.append((path, above | {real}))
            t.advance(len(entries))
    return _Found(tuple(sorted(files)), tuple(sorted(folders)), tuple(unreadable))


def _split_folders(root: Path, found: _Found) -> dict[str, str]:
    """Top folder -> split name, when the folder is laid out by splits: nothing but split folders, or train beside another."""
    top = [f for f in found.folders if "/" not in f]
    named = {f: SPLITS[f.lower()] for f in top if f.lower() in SPLITS}
    if not named or (len(named) < len(top) and not ("train" in named.values() and len(set(named.values())) > 1)):
        return {}
    for split in set(named.values()):
        same = [f for f, s in named.items() if s == split]
        if len(same) > 1:
            raise DataError(f"{root} has two {split} folders, {same[0]} and {same[1]}; keep one")
    return named


def _by_folder(found: _Found, parts: dict[str, str], aside: list[Quarantined]) -> dict[str, str | None]:
    """file -> class, from the folders; all None where there are no class folders at all."""
    depth = 1 if parts else 0
    inside = [f for f in found.folders if not parts or f.split("/")[0] in parts]
    classes = [f for f in inside if f.count("/") == depth]
    aside.extend(found.unreadable)
    filled: set[str] = set()
    class_of: dict[str, str | None] = {}
    for file in found.files:
        steps = file.split("/")
        if parts and steps[0] not in parts:
            aside.append(Quarantined(_show(file), f"outside the split folders {', '.join(parts)}"))
        elif not classes:
            class_of[file] = None
        elif len(steps) < depth + 2:
            aside.append(Quarantined(_show(file), "outside the class folders"))
        else:
            class_of[file] = steps[depth]
            filled.add("/".join(steps[: depth + 1]))
    for folder in classes:
        if folder not in filled:
            aside.append(Quarantined(f"{_show(folder)}/", "empty class folder"))
    return class_of


def _by_file(
    root: Path, labels: Path, found: _Found, parts: dict[str, str], aside: list[Quarantined]
) -> dict[str, str | None]:
    """file -> class, from a label file."""
    own = os.path.realpath(labels)
    files = [f for f in found.files if os.path.realpath(root / f) != own]
    read = read_labels(labels, files)
    aside.extend(found.unreadable)
    aside.extend(Quarantined(_show(name), f"named in {labels.name}, not found") for name in read.missing)
    aside.extend(Quarantined(_show(name), f"named in {labels.name}, fits several files") for name in read.ambiguous)
    blank = set(read.blank)
    class_of: dict[str, str | None] = {}
    for file in files:
        if file in blank:
            aside.append(Quarantined(_show(file), f"empty label in {labels.name}"))
        elif file not in read.label:
            aside.append(Quarantined(_show(file), f"no label in {labels.name}"))
        elif parts and file.split("/")[0] not in parts:
            aside.append(Quarantined(_show(file), f"outside the split folders {', '.join(parts)}"))
        else:
            class_of[file] = read.label[file]
    return class_of


def _usable(root: Path, files: list[str], aside: list[Quarantined]) -> list[str]:
    """The files whose header is that of a picture; the others go aside with the reason."""

    def one(file: str) -> str | None:
        try:
            file.encode("utf-8")
        except UnicodeEncodeError:
            return "its name is not valid Unicode; rename it"
        return problem(root / file)

    good = []
    with task("checking headers", len(files)) as t, ThreadPoolExecutor(THREADS) as pool:
        for file, wrong in zip(files, pool.map(one, files), strict=True):
            if wrong is None:
                good.append(file)
            else:
                aside.append(Quarantined(_show(file), wrong))
            t.advance()
    return good


def _build(
    spec: Spec,
    root: Path,
    files: list[str],
    class_of: dict[str, str | None],
    parts: dict[str, str],
    aside: list[Quarantined],
    *,
    numbered: bool,
) -> ImageSet:
    names = [class_of[f] for f in files]
    known = [n for n in names if n is not None]
    classes = class_order(known) if numbered else tuple(sorted(set(known)))
    _report(class_of, classes, aside)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[n] for n in known], np.int64) if known else None
    declared: dict[str, np.ndarray] = {}
    if parts:
        split_of = np.array([parts[f.split("/")[0]] for f in files])
        declared = {str(s): np.flatnonzero(split_of == s).astype(np.int64) for s in sorted(set(split_of.tolist()))}
    return ImageSet(
        name=spec.text,
        source=FileSource(str(root.absolute()), tuple(files)),
        rows=np.arange(len(files), dtype=np.int64),
        ids=tuple(files),
        labels=labels,
        classes=classes,
        declared=declared,
        captions=captions_beside(root, files),
        quarantine=tuple(sorted(aside, key=lambda q: q.id)),
    )


def _report(class_of: dict[str, str | None], classes: tuple[str, ...], aside: list[Quarantined]) -> None:
    """Say what was set aside, and which classes have lost every file."""
    for name in sorted({n for n in class_of.values() if n is not None} - set(classes)):
        aside.append(Quarantined(_show(name), "class dropped: none of its files can be used"))
    if aside:
        first = min(aside, key=lambda q: q.id)
        log(f"set aside {len(aside)}: {first.id} ({first.reason})" + (" and others" if len(aside) > 1 else ""))


def _show(path: str) -> str:
    """A name fit for print and for JSON: bytes that are not Unicode are spelt out."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
