"""Label files: a CSV of name,label -> the label of each file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visus.errors import DataError

_NAMES = (
    "name",
    "file",
    "filename",
    "file_name",
    "path",
    "filepath",
    "image",
    "image_name",
    "image_path",
    "img",
    "id",
    "image_id",
)
_LABELS = ("label", "class", "class_name", "category", "target", "y")


@dataclass(frozen=True)
class Labelling:
    """label: file -> label. missing: names in the label file that no file bears. ambiguous: names that several files bear.
    blank: files whose label is empty."""

    label: dict[str, str]
    missing: tuple[str, ...]
    ambiguous: tuple[str, ...]
    blank: tuple[str, ...]


def read_labels(path: Path, files: Sequence[str]) -> Labelling:
    """Match the rows of a label file with `files` (POSIX paths relative to the images' folder).

    The file is UTF-8, with commas, semicolons or tabs, with or without a header (with one, the columns may stand anywhere).
    A name matches a file's relative path; else, where only one file fits, its last part; else either without its ending.
    Unicode forms (NFC, NFD) are the same. Raises DataError: unreadable, a row without a label column, a name with two labels.
    """
    rows = _rows(path)
    index = _Index(files)
    if not rows:
        raise DataError(f"{path} has no rows; write one name,label for each image")
    name_at, label_at, first = _columns(rows[0][1], index)
    label: dict[str, str] = {}
    said: dict[str, str] = {}
    missing, ambiguous, blank = [], [], []
    for line, row in rows[first:]:
        if len(row) <= max(name_at, label_at):
            raise DataError(f"{path}, line {line}: expected name,label but found {','.join(row)[:60]!r}")
        name, value = row[name_at].strip(), row[label_at].strip()
        if not name:
            raise DataError(f"{path}, line {line}: the name is empty; write name,label")
        found = index.find(name)
        key = found[0] if len(found) == 1 else _key(name)
        if key in said:
            if said[key] != value:
                raise DataError(f"{path}, line {line}: {name!r} has two labels, {said[key]!r} and {value!r}; keep one")
            continue
        said[key] = value
        if len(found) > 1:
            ambiguous.append(name)
        elif not found:
            missing.append(name)
        elif not value:
            blank.append(found[0])
        else:
            label[found[0]] = unicodedata.normalize("NFC", value)
    return Labelling(label, tuple(missing), tuple(ambiguous), tuple(blank))


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: whole numbers by value, anything else as plain text."""
    names = sorted(set(labels))
    return tuple(sorted(names, key=int)) if all(n.isascii() and n.isdigit() for n in names) else tuple(names)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save the label file as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read the label file {path}: {error.strerror or error}; check the path") from error
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=mark)
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); write name,label") from error


def _columns(row: list[str], index: _Index) -> tuple[int, int, int]:
    """Columns of name and label, and the number of header rows (0 or 1)."""
    cells = [cell.strip().lower() for cell in row]
    names = [i for i, cell in enumerate(cells) if cell in _NAMES]
    values = [i for i, cell in enumerate(cells) if cell in _LABELS]
    if names and values and names[0] != values[0]:
        return names[0], values[0], 1
    # A first row that names no file and has no file's ending is a header in words of its own.
    header = not index.find(row[0].strip()) and not PurePosixPath(row[0].strip()).suffix
    known = header and (cells[0] in _NAMES or (len(cells) > 1 and cells[1] in _LABELS))
    return 0, 1, int(known)


def _key(name: str) -> str:
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    while name.startswith("./"):
        name = name[2:]
    return name


class _Index:
    """Files by the ways in which a label file may name them."""

    def __init__(self, files: Sequence[str]) -> None:
        self._exact = set(files)
        self._ways: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
        for file in files:
            path = PurePosixPath(_key(file))
            spellings = (str(path), path.name, str(path.with_suffix("")) if path.suffix else str(path), path.stem)
            for way, spelling in zip(self._ways, spellings, strict=True):
                way.setdefault(spelling, []).append(file)

    def find(self, name: str) -> list[str]:
        if name in self._exact:
            return [name]
        key = _key(name)
        return next((way[key] for way in self._ways if key in way), [])
