"""Tables of labels as files: encoding, delimiter and ragged lines, before anything is known of what the columns mean."""

from __future__ import annotations

import codecs
import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

from visus.errors import DataError
from visus.images.name_index import is_image_name

Row = tuple[int, list[str]]
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "compressed"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)
LINES = (".jsonl", ".ndjson")
SPACES, LAST_SPACE = " ", "last space"
MARKS = (",", ";", "\t", "|", SPACES, LAST_SPACE)


@dataclass(frozen=True)
class LabelTable:
    """rows: (line number, cells) of every line that is not empty, cells stripped, all of one length."""

    path: Path
    rows: tuple[Row, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.rows[0][1])

    def column(self, at: int) -> list[str]:
        """Cells of a column, top to bottom."""
        return [cells[at] for _, cells in self.rows]


def read_text(path: Path) -> str:
    """The text of a label file: UTF-8, or what its byte order mark says. Raises DataError for anything else, naming it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the label file {path}: {error.strerror or error}; check the path") from error
    for start, kind in _KINDS:
        if data.startswith(start) and not (kind == "JSON" and path.suffix.lower() in LINES):
            raise DataError(f"{path} is {kind}, not a table as text; save it as CSV (UTF-8)")
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        shown = data.splitlines()[line - 1].decode("cp1252", "replace")[:60] if encoding == "utf-8" else ""
        seen = f" (line {line}; read as Windows-1252: {shown!r})" if shown else ""
        raise DataError(f"{path} is not UTF-8 text{seen}; save the label file as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path} holds zero bytes, as UTF-16 without a mark has; save the label file as CSV in UTF-8")
    return text


def readings(path: Path) -> tuple[list[LabelTable], DataError | None]:
    """The ways in which a file can be read as a table, one for each delimiter that its first line holds, and why others cannot.

    A first line `sep=;` is Excel's and decides. Raises DataError for an empty file, or text that no delimiter makes a table of.
    """
    text = read_text(path)
    if path.suffix.lower() in LINES:
        return [_json_lines(path, text)], None
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise DataError(f"{path} has no rows; write one name,label for each image")
    first = _behind_comments(lines, first)
    if lines[first].strip().isdigit() and int(lines[first]) in (len(lines) - first - 1, len(lines) - first - 2):
        first += 1  # the number of rows, as CelebA's lists have it above their header
    head = lines[first].strip()
    if head.lower().startswith("sep=") and len(head) == 5:
        marks, first = [head[4]], first + 1
    else:
        marks = [m for m in MARKS if m in head] + ([LAST_SPACE] if " " in head else [])
    found, problem = [], None
    for mark in marks or [","]:
        try:
            found.append(_table(path, lines, first, mark))
        except DataError as error:
            problem = problem or error
    if not found and problem:
        raise problem
    return found, problem


def _json_lines(path: Path, text: str) -> LabelTable:
    """A table of the objects of a JSON lines file: a column for each key."""
    found: list[tuple[int, dict[str, object]]] = []
    for line, part in enumerate(text.splitlines(), 1):
        if part.strip():
            try:
                row = json.loads(part)
            except ValueError as error:
                raise DataError(f"{path}, line {line}: no JSON ({error}); write an object a line") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {line}: {part[:40]!r} is no JSON object; write one a line")
            found.append((line, row))
    keys = list(dict.fromkeys(key for _, row in found for key in row))
    if not keys:
        raise DataError(f"{path} has no rows; write one name,label for each image")
    rows = [(line, [_cell(row.get(key)) for key in keys]) for line, row in found]
    return LabelTable(path, ((0, keys), *rows))


def _cell(value: object) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value)


def _behind_comments(lines: list[str], first: int) -> int:
    """The first line behind those that start with # and name no picture; `first` where all do."""
    for i, line in enumerate(lines[first:], first):
        text = line.strip()
        if text and (
            not text.startswith("#") or any(is_image_name(part.strip('"')) for part in re.split(r"[,;\t| ]", text))
        ):
            return i
    return first


def _table(path: Path, lines: list[str], first: int, mark: str) -> LabelTable:
    body = lines[first:]
    if mark == LAST_SPACE:
        rows = [(first + i, line.strip().rsplit(None, 1)) for i, line in enumerate(body, 1) if line.strip()]
    else:
        text = [line.strip() + "\n" for line in body] if mark == SPACES else body
        reader = csv.reader(text, delimiter=mark, skipinitialspace=True)
        try:
            rows = [
                (first + reader.line_num, [c.strip() for c in row]) for row in reader if any(c.strip() for c in row)
            ]
        except csv.Error as error:
            raise DataError(f"{path}, line {first + reader.line_num}: not CSV ({error}); write name,label") from error
    if not rows:
        raise DataError(f"{path} has no rows; write one name,label for each image")
    if any("\n" in cell for cell in rows[-1][1]) and sum(line.count('"') for line in body) % 2:
        opened = rows[-2][0] + 1 if len(rows) > 1 else first + 1
        raise DataError(f"{path}, line {opened}: a quote is opened here and never closed; close it, or double it")
    return LabelTable(path, tuple(_even(path, rows)))


def _even(path: Path, rows: list[Row]) -> list[Row]:
    """The rows at the width of the first. Raises DataError for a row with more cells than that, or with a single one."""
    width = len(rows[0][1])
    short = len(rows) > 1 and all(len(cells) == width + 1 for _, cells in rows[1:])
    if short and not any(is_image_name(cell) for cell in rows[0][1]):
        # R's write.table names no column of row names.
        rows = [(rows[0][0], ["", *rows[0][1]]), *rows[1:]]
        width += 1
    even = []
    for line, cells in rows:
        while len(cells) > width and not cells[-1]:
            cells = cells[:-1]
        if len(cells) > width:
            raise DataError(
                f"{path}, line {line}: {len(cells)} cells where the first line has {width}; put quotes round a value that "
                "holds the delimiter"
            )
        if len(cells) < min(width, 2):
            raise DataError(f"{path}, line {line}: expected name,label but found {','.join(cells)[:60]!r}")
        even.append((line, cells + [""] * (width - len(cells))))
    return even
