"""Captions of a folder of pictures: metadata.csv or metadata.jsonl beside them, as Hugging Face's imagefolder reads it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from visus.errors import DataError

FILES = ("metadata.csv", "metadata.jsonl")
FILE, TEXT = "file_name", ("text", "caption", "captions")


def captions_beside(root: Path, files: Iterable[str]) -> tuple[tuple[str, ...], ...] | None:
    """The captions of each file (relative POSIX path), in the order of the metadata file; None where it gives none.

    A file may have several rows, or, in JSON lines, a list of texts; a file without a row has no caption. Metadata without a
    column of texts are labels or anything else, and left alone. Raises DataError for a metadata file that cannot be read.
    """
    file = next((root / name for name in FILES if (root / name).is_file()), None)
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(_lines(text) if file.suffix == ".jsonl" else csv.DictReader(text.splitlines(keepends=True)))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(
            f"{file} cannot be read: {error}; write file_name,text, a row for each picture, in UTF-8"
        ) from error
    column = next((name for name in TEXT if rows and name in rows[0]), None)
    if column is None or FILE not in rows[0]:
        return None
    said: dict[str, list[str]] = {}
    for row in rows:
        found = row.get(column) or []
        texts = [found] if isinstance(found, str) else [str(t) for t in found]
        said.setdefault(str(row.get(FILE)), []).extend(t.strip() for t in texts if t.strip())
    return tuple(tuple(said.get(name, ())) for name in files)


def _lines(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{line[:40]!r} is no JSON object")
            yield row
