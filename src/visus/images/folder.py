"""A folder of pictures: class subfolders, or a flat heap with a label file; train, validation and test folders honoured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.images.base import ImageSet, Quarantined
from visus.images.class_names import class_order, one_form
from visus.images.digest import files_digest
from visus.images.header import problem
from visus.images.label_column import LABELS
from visus.images.label_file import Labelling, read_labels
from visus.images.label_table import readings
from visus.images.listing import Listing, looks_like_an_image, show, walk
from visus.images.metadata import FILE, GROUP, Metadata, read_metadata
from visus.images.metadata import FILES as METADATA
from visus.images.name_column import word
from visus.images.reading import read_bytes
from visus.images.split_folders import FolderLayout, SplitFolder, infer_layout, layout_by_options
from visus.outputs import is_output
from visus.paths import expanded
from visus.progress import caution, log, note, task
from visus.spec import Spec, check_options

OPTIONS = ("labels", "name", "label", "groups", "train", "validation", "val", "test", "classes")
THREADS = 8
NAMED = 3  # examples in a message


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


@dataclass
class _Reading:
    """What is known of the files as a folder is read. label: file -> class, or None in a set without classes."""

    label: dict[str, str | None] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)
    aside: list[Quarantined] = field(default_factory=list)

    def set_aside(self, file: str, reason: str) -> None:
        self.aside.append(Quarantined(show(file), reason))


def load_folder(spec: Spec, *, labels: Path | None, classes: str) -> ImageSet:
    """The pictures under a folder; ids are their paths relative to it.

    With `labels` (or ?labels=FILE) classes come from that file alone (see visus.images.label_file; ?label=COLUMN, ?groups=COLUMN and
    ?name=COLUMN name its columns). Otherwise they are the names of the subfolders, sorted as plain text, each searched to its bottom; a
    folder without subfolders gives an unlabelled set. Folders that are splits by their names and by what they hold become declared
    splits with one list of classes (see visus.images.split_folders); ?train=A&validation=B&test=C say them outright, ?classes=top or
    sub at which level the classes stand, ?groups=top, with the latter, that the upper folders are groups.
    classes: 'needed' leaves out, and says so, pictures that have none; 'wanted' gives them up where some pictures have none; 'unused'
    asks for none: every picture below the folder is read.
    Every file is opened once, for its header. Set aside with a reason: empty files, files that are no images, that cannot be read, that
    are too large; files outside any class; files without a row in the label file; rows without a file; empty class folders (the class
    is dropped). Hidden files, those that operating systems leave behind and visus's own output are passed over. Captions, and groups where
    nothing else gives them, come from metadata.csv or metadata.jsonl with file_name, text, group, where there is one; so do classes in a
    folder without class folders.
    Raises DataError: no such folder, no usable image, two folders for one split, folders that may be splits or classes, a label file that
    contradicts itself.
    """
    check_options(spec, OPTIONS)
    root = expanded(spec.name)
    if root.is_file():
        raise DataError(_no_folder(spec.name, root))
    if not root.is_dir():
        raise DataError(f"the folder {spec.name} does not exist; give a folder of images")
    found = walk(root)
    metadata = [f for f in found.files if f.rpartition("/")[2] in METADATA]
    found = replace(found, files=tuple(f for f in found.files if f.rpartition("/")[2] not in METADATA))
    labels = _label_file(spec, root, labels)
    if labels is None and classes != "unused":
        labels = _groups_in_metadata(spec, root, metadata) or _labels_in_metadata(spec, root, found, metadata)
        if labels is None:
            _check_no_columns(spec)
    reading = _Reading(aside=list(found.unreadable))
    if classes == "unused":
        reading.label = dict.fromkeys(found.files)
    elif labels is not None:
        _by_file(spec, root, labels, found, reading)
    else:
        _by_folder(spec, root, found, reading, needed=classes == "needed")
    usable = _usable(root, sorted(reading.label), reading)
    if not usable:
        if not reading.aside and is_output(root):
            raise DataError(f"{spec.name} holds nothing but what visus wrote itself; give a folder of images")
        reasons = f"; the first: {reading.aside[0].id}: {reading.aside[0].reason}" if reading.aside else ""
        raise DataError(
            f"{spec.name} holds no usable image ({len(reading.aside)} set aside{reasons}); check the folder"
        )
    return _build(spec, root, usable, reading, read_metadata(root, usable, metadata), numbered=labels is not None)


def _no_folder(name: str, file: Path) -> str:
    """What a file is that was given in place of a folder, and what to do."""
    reason = problem(file)
    if reason is None:
        return f"{name} is one image, not a folder of images; give the folder that it lies in (visus predict takes single files)"
    if file.suffix.lower() in (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".tab"):
        return f"{name} is a file, not a folder of images; give the images' folder, and a table of labels beside it as --labels"
    return f"{name} is a file, not a folder of images: {reason}; give a folder of images"


def _label_file(spec: Spec, root: Path, labels: Path | None) -> Path | None:
    if labels is None and "labels" in spec.options:
        labels = expanded(spec.options["labels"])
    if labels is not None and not labels.exists() and (root / labels).exists():
        labels = root / labels
    return labels


def _check_no_columns(spec: Spec) -> None:
    for option, flag in (("label", "--label-column"), ("name", "?name="), ("groups", "--groups")):
        if spec.options.get(option) and not (option == "groups" and spec.options[option] == "top"):
            raise DataError(
                f"{flag} {spec.options[option]} names a column of a label file; give the file with --labels"
            )


def _groups_in_metadata(spec: Spec, root: Path, metadata: Sequence[str]) -> Path | None:
    """The folder's only metadata file, where it holds the column of groups that is asked for by its header."""
    wanted = spec.options.get("groups")
    if not wanted or wanted == "top" or len(metadata) != 1 or "/" in metadata[0]:
        return None
    tables, _ = readings(root / metadata[0])
    there = any(FILE in t.rows[0][1] and word(wanted) in map(word, t.rows[0][1]) for t in tables)
    return root / metadata[0] if there else None


def _labels_in_metadata(spec: Spec, root: Path, found: Listing, metadata: Sequence[str]) -> Path | None:
    """The metadata file of a folder without class folders that has a column of classes by its header, as imagefolder reads it."""
    own = [f for f in metadata if "/" not in f]
    if len(own) != 1 or len(metadata) != 1:
        return None
    tables, _ = readings(root / own[0])
    header = [t.rows[0][1] for t in tables if FILE in t.rows[0][1]]
    if not header or not any(word(h) in LABELS for h in header[0]):
        return None
    plan = infer_layout(spec.name, found)
    if any(plan.place(f)[1] is not None and looks_like_an_image(f) for f in found.files):
        return None
    return root / own[0]


def _layout(spec: Spec, found: Listing, *, labelled: bool) -> FolderLayout:
    level = spec.options.get("classes")
    if level not in (None, "top", "sub"):
        raise DataError(f"{spec.text}: classes={level} is neither top nor sub, the level of folders that are classes")
    return layout_by_options(spec.name, found, spec.options) or infer_layout(
        spec.name, found, level=level, labelled=labelled
    )


def _by_folder(spec: Spec, root: Path, found: Listing, reading: _Reading, *, needed: bool) -> None:
    """Classes and splits from the folders."""
    plan = _layout(spec, found, labelled=False)
    if plan.unclear:
        if needed:
            raise DataError(plan.unclear)
        caution(f"{plan.unclear}. All pictures are read, without classes.")
        reading.label = dict.fromkeys(found.files)
        return
    placed = {file: plan.place(file) for file in found.files}
    if not any(name is not None and looks_like_an_image(file) for file, (_, name) in placed.items()):
        for file, (part, _) in placed.items():
            _take(file, None, part, reading)
        return
    loose = [f for f, (_, name) in placed.items() if name is None]
    strays = [f for f, wrong in zip(loose, _problems(root, loose), strict=True) if wrong is None]
    folders = {(s.at, name) for f, (s, name) in placed.items() if s and name is not None and looks_like_an_image(f)}
    if strays and (not needed or len(folders) == 1):
        _, first = next(iter(folders))
        beside_what = (
            f"a single subfolder, {show(first or '')}" if len(folders) == 1 else f"{len(folders)} class folders"
        )
        say = note if len(folders) == 1 else caution
        say(f"{len(strays):,} pictures lie beside {beside_what}: all are read, without classes ({_some(strays)})")
        for file, (part, _) in placed.items():
            _take(file, None, part, reading)
        return
    if strays:
        caution(f"{len(strays):,} pictures lie outside the class folders and are left out: {_some(strays)}.")
    forms = one_form({(part.split, name) for part, name in placed.values() if part is not None and name is not None})
    for file, (part, name) in placed.items():
        if part is None:
            reading.set_aside(file, f"outside the split folders {', '.join(show(s.at) for s in plan.parts)}")
        elif name is None:
            reading.set_aside(file, "outside the class folders")
        else:
            _take(file, forms[name], part, reading)
    if spec.options.get("groups") == "top":
        if spec.options.get("classes") != "sub":
            raise DataError(f"{spec.text}: groups=top goes with classes=sub, where the upper folders are no classes")
        reading.group = {f: part.at for f, (part, name) in placed.items() if part is not None and name is not None}
        note(f"groups: the {len(plan.parts)} upper folders")
    elif spec.options.get("classes") == "sub":
        tops = [s.at for s in plan.parts]
        caution(
            f"images of the folders {_some(tops)} are mixed in train and test; ?groups=top keeps each folder on one side."
        )
    _empty_folders(plan, found, reading)


def _empty_folders(plan: FolderLayout, found: Listing, reading: _Reading) -> None:
    filled = {(part.at if part else "", name) for part, name in map(plan.place, found.files)}
    for folder in found.folders:
        part, name = plan.place(f"{folder}/.")
        at_depth = part is not None and folder == (f"{part.at}/{name}" if part.at else name)
        if part is not None and at_depth and (part.at, name) not in filled:
            reading.aside.append(Quarantined(f"{show(folder)}/", "empty class folder"))


def _take(file: str, name: str | None, part: SplitFolder | None, reading: _Reading) -> None:
    reading.label[file] = name
    if part is not None and part.split:
        reading.split[file] = part.split


def _by_file(spec: Spec, root: Path, labels: Path, found: Listing, reading: _Reading) -> None:
    """Classes, and splits and groups where it has them, from a label file; else splits from the folders."""
    own = os.path.realpath(labels)
    files = [f for f in found.files if os.path.realpath(root / f) != own]
    ask = {key: spec.options.get(key) or None for key in ("name", "label", "groups")}
    if labels.name in METADATA and "groups" not in spec.options:
        headers = [h for t in readings(labels)[0] for h in t.rows[0][1] if FILE in t.rows[0][1]]
        ask["groups"] = next((h for h in headers if word(h) == GROUP), None)
    own_files = replace(found, files=tuple(files))
    plan = _layout(spec, own_files, labelled=True)
    foldered = any(plan.place(f)[1] is not None and looks_like_an_image(f) for f in files)
    read = read_labels(labels, files, root, **ask, foldered=foldered)
    for name in read.missing:
        reading.set_aside(name, f"named in {labels.name}, not found")
    for name in read.ambiguous:
        reading.set_aside(name, f"named in {labels.name}, fits several files")
    if read.label and not any(read.label.values()):
        _by_folder(spec, root, own_files, reading, needed=True)
    else:
        if plan.parts[0].split == "" and foldered:
            note(f"labels: {show(labels.name)} gives the classes, not the folders")
        _take_labels(read, labels, files, plan, reading)
    if read.split:
        moved = sum(reading.split[f] != read.split[f] for f in read.split if f in reading.split)
        if moved:
            caution(
                f"{moved:,} images are of one split by {show(labels.name)} and of another by their folder; the file is followed."
            )
        reading.split = dict(read.split)
    reading.group = dict(read.group)
    if ask["groups"] is not None:
        # An image without a group is one of its own; no name of a group holds this byte.
        reading.group.update({f: f"\0{f}" for f in reading.label if f not in reading.group})


def _take_labels(read: Labelling, labels: Path, files: Sequence[str], plan: FolderLayout, reading: _Reading) -> None:
    blank = set(read.blank)
    forms = one_form({(read.split.get(f, ""), name) for f, name in read.label.items()})
    for file in files:
        part, _ = plan.place(file)
        if file in blank:
            reading.set_aside(file, f"empty label in {labels.name}")
        elif file not in read.label:
            reading.set_aside(file, f"no label in {labels.name}")
        elif part is None and not read.split:
            reading.set_aside(file, f"outside the split folders {', '.join(show(s.at) for s in plan.parts)}")
        else:
            _take(file, forms[read.label[file]], part, reading)


def _problems(root: Path, files: Sequence[str]) -> list[str | None]:
    """Why each file cannot be used, from its header; None where it can."""

    def one(file: str) -> str | None:
        try:
            file.encode("utf-8")
        except UnicodeEncodeError:
            return "its name is not valid Unicode; rename it"
        return problem(root / file)

    with task("checking headers", len(files)) as t, ThreadPoolExecutor(THREADS) as pool:
        found = []
        for wrong in pool.map(one, files):
            found.append(wrong)
            t.advance()
    return found


def _usable(root: Path, files: list[str], reading: _Reading) -> list[str]:
    """The files whose header is that of a picture; the others go aside with the reason."""
    good = []
    for file, wrong in zip(files, _problems(root, files), strict=True):
        if wrong is None:
            good.append(file)
        else:
            reading.set_aside(file, wrong)
    return good


def _build(
    spec: Spec, root: Path, files: list[str], reading: _Reading, described: Metadata, *, numbered: bool
) -> ImageSet:
    names = [reading.label[f] for f in files]
    known = [n for n in names if n is not None]
    classes = class_order(known) if numbered else tuple(sorted(set(known)))
    _report(reading, classes)
    number = {name: i for i, name in enumerate(classes)}
    split_of = np.array([reading.split.get(f, "") for f in files])
    groups = reading.group
    if not groups and spec.options.get("groups") != "":
        groups = dict(described.groups)
        if groups:
            note(f"groups: {', '.join(described.grouped)}")
        elif known and described.like:
            caution(f"{described.like}.")
    return ImageSet(
        name=spec.text,
        source=FileSource(str(root.absolute()), tuple(files)),
        rows=np.arange(len(files), dtype=np.int64),
        ids=tuple(files),
        labels=np.array([number[n] for n in known], np.int64) if known else None,
        classes=classes,
        groups=_numbered(groups, files) if groups else None,
        declared={str(s): np.flatnonzero(split_of == s).astype(np.int64) for s in sorted(set(split_of.tolist())) if s},
        captions=described.captions,
        quarantine=tuple(sorted(reading.aside, key=lambda q: q.id)),
    )


def _numbered(groups: Mapping[str, str], files: Sequence[str]) -> np.ndarray:
    """int64 [n]: a number for each group; files without one stand alone."""
    _, number = np.unique(np.array([groups.get(f, f"\0{f}") for f in files], dtype=object), return_inverse=True)
    return number.astype(np.int64).ravel()


def _report(reading: _Reading, classes: tuple[str, ...]) -> None:
    """Say what was set aside, and which classes have lost every file."""
    for name in sorted({n for n in reading.label.values() if n is not None} - set(classes)):
        reading.set_aside(name, "class dropped: none of its files can be used")
    if reading.aside:
        first = min(reading.aside, key=lambda q: q.id)
        others = " and others" if len(reading.aside) > 1 else ""
        log(f"set aside {len(reading.aside)}: {first.id} ({first.reason}){others}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(show, names[:NAMED])) + (" ..." if len(names) > NAMED else "")
