"""The contract between studies and report: what a study returns. Stands alone; imports nothing of ours but errors, paths and plain."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visus.errors import StoreError
from visus.lazy import named
from visus.paths import atomic_path, write_text
from visus.plain import plain

SCHEMA = 1
PRINTED, LISTED, WIDEST = 20, 12, 40  # rows of a printed table, names that are listed, characters of a cell
FigureKind = Literal["intervals", "lines", "map", "heatmap", "gallery", "front", "curves", "maps"]


@dataclass(frozen=True, repr=False)
class Table:
    """Rows under named columns. Cells are str, int, float, bool or None; floats are printed with `digits` decimals.

    title: one line above it. note: what to know to read it (units, protocol), below it. bold: per column name 'max' or
    'min', the best value that the report sets in bold.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""
    note: str = ""
    digits: int = 3
    bold: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return _printable(
            f"Table({self.title!r}: {len(self.rows):,} rows of {_listed([str(c) for c in self.columns])})"
        )

    def __str__(self) -> str:
        """The first rows as text, columns under one another."""
        rows = [list(map(str, self.columns))]
        rows += [[_cut(format_cell(cell, self.digits)) for cell in row] for row in self.rows[:PRINTED]]
        widths = [max(len(row[j]) for row in rows if j < len(row)) for j in range(max(map(len, rows)))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
        more = [f"({len(self.rows) - PRINTED:,} more rows)"] if len(self.rows) > PRINTED else []
        return "\n".join(_printable(line) for line in [self.title, *lines, *more] if line)


@dataclass(frozen=True, repr=False)
class Figure:
    """A figure as data: the report draws it, for the page (light and dark) and as PNG, SVG and PDF.

    `data` by kind (arrays by name are kept in Result.arrays and named by a string here):
    - 'intervals': {"x_label", "y_label", "groups": [{"name", "labels": [str], "values": [float], "low": [float], "high": [float]}]}:
      points with 95 % interval whiskers, one colour a group, labels along x; optional "reference": [{"label", "value"}] lines.
    - 'lines': {"x_label", "y_label", "x_log": bool, "y_log": bool, "series": [{"name", "x": [float], "y": [float],
      "low": [float]|None, "high": [float]|None}], "marks": [{"label", "x"}]}.
    - 'map': {"points": NAME ([n, 2] float32), "labels": NAME ([n] int64), "classes": [str], "ids": [str], "sprite": NAME|None ([n, s, s, 3] uint8
      thumbnails, row i is point i; several maps may name the same sprite), "trust": {"trustworthiness": float, "neighbours_kept": float}}.
    - 'maps': {"panels": [{"row": str, "column": str, "points": NAME ([n, 2] float32), "trust": as in 'map'}], "labels": NAME ([n] int64),
      "classes": [str]}: many maps of the same n images, in a grid on the same axes (limits are shared, so align them first:
      visus.measures.align), one legend; rows and columns in the order in which they first come. Stands still, on the page too.
    - 'heatmap': {"values": [[float]], "rows": [str], "columns": [str], "label": str, "low": float|None, "high": float|None}.
    - 'front': {"y_label", "points": [{"label", "group", "y", "low", "high"}], "panels": [{"x_label", "x": [float], "front": [bool], "si": bool}]}:
      what each point costs against what it is worth: a panel for each cost (x logarithmic, "x" and "front" in the order of
      the points), one colour a group, every point labelled, those of the front joined by steps. "si": ticks as 2 T, 500 G.
    - 'curves': {"x_label", "y_label", "x_log": bool, "y_log": bool, "panels": [{"title", "series": [{"name", "x": [float], "y": [float]}],
      "marks": [{"label", "x", "y"}]}]}: small multiples on the same axes; a name has one colour in all panels (and may come
      twice in a panel: repeats), marks are rings. "own_y": bool: each panel has a y axis of its own.
    - 'gallery': {"images": NAME ([n, s, s, 3] uint8), "captions": [str], "groups": [str] | None (a row of the gallery each)};
      optional "columns": int, pictures in a row, so that rows of as many stand under one another.
    """

    name: str
    kind: FigureKind
    title: str
    caption: str
    data: Mapping[str, Any]

    def __repr__(self) -> str:
        return _printable(f"Figure({self.name!r}: {self.kind}, {self.title!r})")


@dataclass(frozen=True, repr=False)
class Result:
    """What a study returns.

    study: its name. title: one line for the page's head. findings: sentences made from numbers. tables, figures: in
    reading order. arrays: named numpy arrays that figures refer to. warnings: what a reader must know before trusting
    a number. provenance: versions, specs, fingerprints, seed, device, wall time, the command. notes: how the input was
    read, where more than one reading was possible. page: path of the page that was written, where one was.
    """

    study: str
    title: str
    findings: tuple[str, ...]
    tables: Mapping[str, Table]
    figures: tuple[Figure, ...]
    arrays: Mapping[str, np.ndarray]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    page: str | None = field(default=None, compare=False)

    def to_json(self, *, ascii_only: bool = False) -> str:
        """The result as JSON text: study, title, findings, warnings, notes, tables, figures, provenance; NaN becomes null.

        ascii_only: other characters as escapes, for a stdout of any encoding.
        """
        body = {
            "schema": SCHEMA,
            "study": self.study,
            "title": self.title,
            "findings": list(self.findings),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "tables": {
                name: {
                    "columns": list(t.columns),
                    "rows": [list(row) for row in t.rows],
                    "title": t.title,
                    "note": t.note,
                    "digits": t.digits,
                    "bold": dict(t.bold),
                }
                for name, t in self.tables.items()
            },
            "figures": [
                {"name": f.name, "kind": f.kind, "title": f.title, "caption": f.caption, "data": dict(f.data)}
                for f in self.figures
            ],
            "provenance": dict(self.provenance),
        }
        text = json.dumps(_plain(body), ensure_ascii=ascii_only, indent=1, allow_nan=False)
        # A file name with undecodable bytes holds lone surrogates; UTF-8 cannot, a JSON escape (backslash udcff) can.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def save(self, folder: Path) -> Path:
        """Write result.json and arrays.npz into `folder`, each atomically; returns the JSON file's path."""
        folder = Path(folder)
        with atomic_path(folder / "arrays.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(self.arrays))
        write_text(folder / "result.json", self.to_json() + "\n")
        return folder / "result.json"

    @staticmethod
    def load(folder: Path) -> Result:
        """Read what `save` wrote. Raises StoreError when the folder holds no readable result of this schema."""
        folder = Path(folder)
        try:
            body = json.loads((folder / "result.json").read_text("utf-8"))
            with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder} holds no readable result: {error}") from error
        if body.get("schema") != SCHEMA:
            raise StoreError(
                f"{folder} was written with result schema {body.get('schema')}, this version reads {SCHEMA}"
            )
        tables = {
            name: Table(
                tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["title"], t["note"], t["digits"], t["bold"]
            )
            for name, t in body["tables"].items()
        }
        figures = tuple(Figure(**f) for f in body["figures"])
        return Result(
            body["study"],
            body["title"],
            tuple(body["findings"]),
            tables,
            figures,
            arrays,
            tuple(body["warnings"]),
            body["provenance"],
            tuple(body.get("notes", ())),
            str((folder / "index.html").resolve()) if (folder / "index.html").is_file() else None,
        )

    def __repr__(self) -> str:
        """What is in it, in a few lines (printed in full a result is thousands of numbers)."""
        lines = [
            f"visus {self.study}: {self.title}",
            *(f"- {f}" for f in self.findings),
            *(f"! {w}" for w in self.warnings),
        ]
        if self.tables:
            lines.append(f"tables: {_listed([f'{name} ({len(t.rows):,})' for name, t in self.tables.items()])}")
        if self.figures:
            lines.append(f"figures: {_listed([f.name for f in self.figures])}")
        if self.page:
            lines.append(f"the page: {self.page}")
        return "\n".join(_printable(line) for line in lines)

    def _repr_html_(self) -> str:
        """Findings, tables and figures, for a notebook's cell."""
        return str(named("visus.studies.common.upgrade:upgraded")(self)._repr_html_())

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """Findings, warnings and tables, for a terminal."""
        return named("visus.studies.common.upgrade:upgraded")(self).__rich_console__(console, options)


def _listed(names: Sequence[str]) -> str:
    """The names by commas, the first of them where they are many."""
    more = f", {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _printable(text: str) -> str:
    """On one line, and so that print to stdout takes it: what its encoding lacks is spelled, undecodable bytes of file names too."""
    return plain(" ".join(text.split("\n")), getattr(sys.stdout, "encoding", None))


def format_cell(cell: Any, digits: int = 3) -> str:
    """A table cell as people read it: floats with `digits` decimals, None and NaN as a dash, thousands separated."""
    if cell is None or (isinstance(cell, float | np.floating) and cell != cell):
        return "–"
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, int | np.integer):
        return f"{int(cell):,}"
    if isinstance(cell, float | np.floating):
        small = cell != 0 and abs(cell) < 0.5 * 10**-digits
        return f"{float(cell):.1e}" if small else f"{float(cell):.{digits}f}"
    return str(cell)


def _plain(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples and paths into what JSON holds; non-finite floats into None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    return str(value)
