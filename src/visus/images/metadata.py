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
from visus.images.class_names import one_group
from visus.images.label_column import GROUPS
from visus.images.label_table import read_text
from visus.images.listing import show
from visus.images.name_column import word

FILES = ("metadata.csv", "metadata.jsonl")
FILE, TEXT, GROUP = "file_name", ("text", "caption", "captions"), "group"


@dataclass(frozen=True)
class Metadata:
    """captions: texts of each file, in the order that was asked for, or None. groups: file -> group, of the files that have one.
    grouped: what gives them, in words. like: a column that may be one of groups and is not used, in words."""

    captions: tuple[tuple[str, ...], ...] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    grouped: tuple[str, ...] = ()
    like: str = ""


def read_metadata(root: Path, files: Sequence[str], tables: Iterable[str]) -> Metadata:
    """What the metadata files `tables` (paths relative to root, as `files`) say of `files`; names in them are relative to their folder.

    A file may have several rows, or, in JSON lines, a list of texts; a file without a row has no caption and no group. Metadata without
    a column of texts or groups are labels or anything else, and left alone. Of two in one folder metadata.csv is read.
    Raises DataError for a metadata file that cannot be read, or that gives a file two groups.
    """
    said: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    texts, grouped, like = False, [], ""
    chosen: dict[str, str] = {}
    for table in sorted(tables):
        chosen.setdefault(posixpath.dirname(table), table)
    for at, table in chosen.items():
        rows = _rows(root / table)
        if not rows or FILE not in rows[0]:
            continue
        column = next((name for name in TEXT if name in rows[0]), None)
        by = next((name for name in rows[0] if name and word(name) == GROUP), None)
        texts |= column is not None
        if by is not None:
            grouped.append(f"column `{by}` of {show(table)}")
        like = like or _group_like(rows, show(table))
        for row in rows:
            file = _key(posixpath.join(at, str(row.get(FILE)).replace("\\", "/")))
            value = row.get(column) if column is not None else None
            listed = [value] if isinstance(value, str) else [str(t) for t in value or []]
            said.setdefault(file, []).extend(t.strip() for t in listed if t.strip())
            group = str(row[by]).strip() if by is not None and row.get(by) is not None else ""
            if group and groups.setdefault(file, group) != group:
                raise DataError(
                    f"{root / table}: {row.get(FILE)!r} has two groups, {groups[file]!r} and {group!r}; keep one"
                )
    captions = tuple(tuple(said.get(_key(name), ())) for name in files) if texts else None
    groups = one_group(groups)
    return Metadata(
        captions, {name: groups[_key(name)] for name in files if _key(name) in groups}, tuple(grouped), like
    )


def _group_like(rows: Sequence[Mapping[str, Any]], table: str) -> str:
    """A column whose header is that of patients, artists, sessions ... and whose values come again; '' where there is none."""
    for name in rows[0]:
        values = [str(row[name]) for row in rows if row.get(name) is not None] if name and word(name) in GROUPS else []
        if 1 < len(set(values)) < len(values):
            return (
                f"column `{name}` of {table} has {len(set(values)):,} values in {len(values):,} rows and is not used: images of one may stand in "
                f"train and in test; call it `{GROUP}` to keep them together"
            )
    return ""


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
