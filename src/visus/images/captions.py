"""Metadata beside pictures, as Hugging Face's imagefolder reads it: metadata.csv or metadata.jsonl with file_name, text, group."""

from __future__ import annotations

import csv
import json
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visus.errors import DataError
from visus.images.label_table import read_text
from visus.images.listing import show
from visus.progress import note

FILES = ("metadata.csv", "metadata.jsonl")
FILE, TEXT, GROUP = "file_name", ("text", "caption", "captions"), "group"


@dataclass(frozen=True)
class Beside:
    """captions: texts of each file, in the order that was asked for, or None. groups: file -> group, of the files that have one."""

    captions: tuple[tuple[str, ...], ...] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


def beside(root: Path, files: Sequence[str], tables: Iterable[str]) -> Beside:
    """What the metadata files `tables` (paths relative to root, as `files`) say of `files`; names in them are relative to their folder.

    A file may have several rows, or, in JSON lines, a list of texts; a file without a row has no caption and no group. Metadata without
    a column of texts or groups are labels or anything else, and left alone. Of two in one folder metadata.csv is read.
    Raises DataError for a metadata file that cannot be read, or that gives a file two groups.
    """
    said: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    texts = False
    chosen: dict[str, str] = {}
    for table in sorted(tables):
        chosen.setdefault(posixpath.dirname(table), table)
    for at, table in chosen.items():
        rows = _rows(root / table)
        if not rows or FILE not in rows[0]:
            continue
        column = next((name for name in TEXT if name in rows[0]), None)
        grouped = GROUP in rows[0]
        texts |= column is not None
        if grouped:
            note(f"groups: column `{GROUP}` of {show(table)}")
        for row in rows:
            file = _key(posixpath.join(at, str(row.get(FILE)).replace("\\", "/")))
            value = row.get(column) if column is not None else None
            listed = [value] if isinstance(value, str) else [str(t) for t in value or []]
            said.setdefault(file, []).extend(t.strip() for t in listed if t.strip())
            group = str(row[GROUP]).strip() if grouped and row.get(GROUP) is not None else ""
            if group and groups.setdefault(file, group) != group:
                raise DataError(
                    f"{root / table}: {row.get(FILE)!r} has two groups, {groups[file]!r} and {group!r}; keep one"
                )
    captions = tuple(tuple(said.get(_key(name), ())) for name in files) if texts else None
    return Beside(captions, {name: groups[_key(name)] for name in files if _key(name) in groups})


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", posixpath.normpath(name))


def _rows(file: Path) -> list[Mapping[str, Any]]:
    try:
        text = read_text(file) if file.suffix == ".csv" else file.read_text(encoding="utf-8-sig")
        return list(_lines(text) if file.suffix == ".jsonl" else csv.DictReader(text.splitlines(keepends=True)))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(
            f"{file} cannot be read: {error}; write file_name,text, a row for each picture, in UTF-8"
        ) from error


def _lines(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{line[:40]!r} is no JSON object")
            yield row
