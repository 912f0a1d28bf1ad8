"""The contract: what a study returns, schema 2. Stands alone: it imports nothing of ours but errors, fields, figures, formats, lazy, paths and plain.

A result is made of sections; each answers one question and names the file that made it. Compare, serve, export and every tool outside
stand on this and on nothing else. Keys are stable and lower-case; labels are for people. Proportions are fractions everywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from visus.errors import StoreError
from visus.fields import STRICT, Key, Number, Text, Texts, key_of, plain_value
from visus.figures import AnyFigure, Figure
from visus.formats import format_cell, with_unit
from visus.lazy import named
from visus.paths import atomic_path, write_text
from visus.plain import plain

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["SCHEMA", "AnyFigure", "Column", "Finding", "Metric", "Result", "Section", "Table", "json_schema", "key_of"]

SCHEMA = 2
PRINTED, LISTED, WIDEST = 20, 12, 40  # rows of a printed table, names that are listed, characters of a cell
Better = Literal["higher", "lower"]


Rows = Annotated[
    Sequence[Sequence[Any]],
    PlainValidator(lambda rows: tuple(tuple(map(plain_value, row)) for row in rows)),
    WithJsonSchema(
        {"type": "array", "items": {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}}}
    ),
]
Tree = Annotated[Mapping[str, Any], BeforeValidator(plain_value)]
Predictions = Annotated[
    Mapping[str, np.ndarray],
    PlainValidator(lambda columns: {k: np.asarray(v) for k, v in columns.items()}),
    PlainSerializer(lambda columns: list(columns)),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "description": "columns of predictions.parquet"}),
]


@dataclass(frozen=True, config=STRICT)
class Metric:
    """One number that years of results can be compared by.

    key: as 'timm:vit_small/late/probe/accuracy', unique in the result. low, high: its 95 % interval. n: of how many images (or pairs).
    unit: 'share' for a proportion (a fraction), 'points' for a difference of two, 'nats', 's', ... better: which way is better, if any.
    """

    key: Key
    value: Number
    low: Number = None
    high: Number = None
    n: int | None = None
    unit: Text = ""
    better: Better | None = None
    split: Text = "test"
    label: Text = ""


@dataclass(frozen=True, config=STRICT)
class Finding:
    """One sentence, at most 35 words. metrics: keys of the numbers in it. shows: keys of the figures and tables that show it."""

    text: Text
    metrics: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    kind: Literal["result", "caution", "undecided"] = "result"


@dataclass(frozen=True, config=STRICT)
class Column:
    """key: for programs. label: for people. unit: 'share' and 'points' are fractions in data and percent in print. digits: decimals in
    print (default 3; 1 for shares and points). better: the direction in which a value is better; the best is set in bold."""

    key: Key
    label: Text
    unit: Text = ""
    digits: int | None = None
    better: Better | None = None

    @property
    def heading(self) -> str:
        """The label with its unit: 'accuracy, %'."""
        return with_unit(self.label, self.unit)

    def text(self, cell: Any) -> str:
        """A cell of it as people read it."""
        return format_cell(cell, self.digits, self.unit)


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False)
class Table:
    """Rows under typed columns. Cells are str, int, float, bool or None. note: what to know to read it (protocol), below it."""

    key: Key
    title: Text
    columns: tuple[Column, ...]
    rows: Rows
    note: Text = ""

    def __post_init__(self) -> None:
        keys = [c.key for c in self.columns]
        if len(set(keys)) < len(keys):
            raise ValueError(f"table {self.key!r}: two columns have one key: {keys}")
        if any(len(row) != len(keys) for row in self.rows):
            raise ValueError(f"table {self.key!r}: a row has not as many cells as there are columns ({len(keys)})")

    def column(self, key: str) -> tuple[Any, ...]:
        """The cells of one column. Raises KeyError, naming the known ones."""
        return tuple(row[self._place(key)] for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        """The rows by column keys."""
        keys = [c.key for c in self.columns]
        return [dict(zip(keys, row, strict=True)) for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """A pandas DataFrame, its columns by their keys; proportions are fractions."""
        return named("pandas:DataFrame")(self.records(), columns=[c.key for c in self.columns])

    def _place(self, key: str) -> int:
        keys = [c.key for c in self.columns]
        if key not in keys:
            raise KeyError(f"table {self.key!r} has no column {key!r}; it has {', '.join(keys)}")
        return keys.index(key)

    def __repr__(self) -> str:
        return _printable(f"Table({self.key!r}: {len(self.rows):,} rows of {_listed([c.key for c in self.columns])})")

    def __str__(self) -> str:
        """The first rows as text, columns under one another."""
        rows = [[c.heading for c in self.columns]]
        rows += [[_cut(c.text(cell)) for c, cell in zip(self.columns, row, strict=True)] for row in self.rows[:PRINTED]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        more = [f"({len(self.rows) - PRINTED:,} more rows)"] if len(self.rows) > PRINTED else []
        return "\n".join(_printable(line) for line in [self.title, *lines, *more] if line)

    def _repr_html_(self) -> str:
        """The first rows, for a notebook's cell."""
        return str(named("visus.report.notebook:table_html")(self))


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False)
class Section:
    """One question and its answer. title: the question. source: the module that made it ('visus.studies.clip.gap')."""

    key: Key
    title: Text
    source: Text
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[AnyFigure, ...] = ()
    metrics: tuple[Metric, ...] = ()

    @property
    def file(self) -> str:
        """The file (or folder) that made it, below src/visus: 'studies/clip/gap'."""
        return self.source.removeprefix("visus.").replace(".", "/")

    def __repr__(self) -> str:
        return _printable(
            f"Section({self.key!r}: {self.title!r}, {len(self.tables)} tables, {len(self.figures)} figures)"
        )


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False)
class Result:
    """What a study returns.

    study: its name. title: one line for the page's head. answer: the one sentence, at most 25 words. headline: keys of three to five
    metrics. sections: in reading order. warnings: what a reader must know before trusting any number. notes: how the input was read,
    where more than one reading was possible. provenance: versions, specs, fingerprints, seed, device, wall time, the command.
    predictions: columns of one length, a row an image (id, split, label, prediction, ...); {} where there are none. status: partial
    where something asked for is missing, and `reason` says what and why. page: path of the page that was written, where one was.
    """

    study: Text
    title: Text
    answer: Text = ""
    headline: tuple[str, ...] = ()
    sections: tuple[Section, ...]
    warnings: Texts = ()
    notes: Texts = ()
    provenance: Tree = field(default_factory=dict)
    predictions: Predictions = field(default_factory=dict)
    status: Literal["complete", "partial"] = "complete"
    reason: Text = ""
    page: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _unique("section", (s.key for s in self.sections))
        _unique("table", (t.key for s in self.sections for t in s.tables))
        _unique("figure", (f.key for s in self.sections for f in s.figures))
        _unique("metric", (m.key for s in self.sections for m in s.metrics))
        missing = [key for key in self.headline if key not in self.metrics]
        if missing:
            raise ValueError(f"the headline names metrics that no section has: {', '.join(missing)}")
        if len({len(column) for column in self.predictions.values()}) > 1:
            raise ValueError("the columns of predictions differ in length")

    @property
    def tables(self) -> dict[str, Table]:
        """Every table by its key, in reading order."""
        return {t.key: t for s in self.sections for t in s.tables}

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its key, in reading order."""
        return {f.key: f for s in self.sections for f in s.figures}

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric by its key."""
        return {m.key: m for s in self.sections for m in s.metrics}

    @property
    def findings(self) -> tuple[str, ...]:
        """The sentences of every section but its cautions."""
        return tuple(f.text for s in self.sections for f in s.findings if f.kind != "caution")

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to know before trusting a number: the warnings, then the cautions of every section."""
        found = (f.text for s in self.sections for f in s.findings if f.kind == "caution")
        return tuple(dict.fromkeys([*self.warnings, *found]))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of all figures by name; one that several figures hold stands here once."""
        return {name: array for name, array in self._arrays()}

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        seen: set[int] = set()
        for figure in self.figures.values():
            for name, array in figure.arrays():
                if id(array) not in seen:
                    seen.add(id(array))
                    yield name, array

    def frame(self, table: str) -> pd.DataFrame:
        """A table by its key as a pandas DataFrame. Raises KeyError, naming the known ones."""
        if table not in self.tables:
            raise KeyError(f"there is no table {table!r}; this result has {', '.join(self.tables) or 'none'}")
        return self.tables[table].frame()

    def metrics_frame(self) -> pd.DataFrame:
        """Every metric as a row of a pandas DataFrame: section, key, value, low, high, n, unit, better, split, label."""
        rows = [{"section": s.key, **vars_of(m)} for s in self.sections for m in s.metrics]
        return named("pandas:DataFrame")(rows, columns=["section", *(f for f in Metric.__dataclass_fields__)])

    def to_json(self, *, ascii_only: bool = False) -> str:
        """The result as JSON text (docs/result.schema.json); a figure's arrays by name, shape and dtype.

        ascii_only: other characters as escapes, for a stdout of any encoding.
        """
        names = {id(array): name for name, array in self._arrays()}
        body = {
            "schema": SCHEMA,
            **_adapter().dump_python(self, mode="json", exclude={"page"}, context={"names": names}),
        }
        return json.dumps(body, ensure_ascii=ascii_only, indent=1, allow_nan=False)

    def save(self, folder: Path) -> Path:
        """Write result.json, arrays.npz and, where there are any, predictions.parquet into `folder`, each atomically; returns the JSON's path."""
        folder = Path(folder)
        with atomic_path(folder / "arrays.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)
        if self.predictions:
            with atomic_path(folder / "predictions.parquet") as temporary:
                named("pyarrow.parquet:write_table")(named("pyarrow:table")(dict(self.predictions)), temporary)
        write_text(folder / "result.json", self.to_json() + "\n")
        return folder / "result.json"

    @staticmethod
    def load(folder: Path) -> Result:
        """Read what `save` wrote. Raises StoreError when the folder holds no readable result of this schema."""
        folder = Path(folder)
        try:
            body = json.loads((folder / "result.json").read_text("utf-8"))
            schema = body.pop("schema", None)
            if schema != SCHEMA:
                raise StoreError(
                    f"{folder} holds a result of schema {schema}, this version reads {SCHEMA}; run the study again"
                )
            with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if body.get("predictions"):
                read = named("pyarrow.parquet:read_table")(folder / "predictions.parquet")
                body["predictions"] = {name: read[name].to_numpy() for name in read.column_names}
            else:
                body["predictions"] = {}
            result: Result = _adapter().validate_python(body, context={"arrays": arrays})
        except StoreError:
            raise
        except (OSError, ValueError, TypeError, AttributeError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else error
            raise StoreError(f"{folder} holds no readable result: {why}") from error
        page = folder / "index.html"
        return replace(result, page=str(page.resolve()) if page.is_file() else None)

    def __repr__(self) -> str:
        """What is in it, in a few lines (printed in full a result is thousands of numbers)."""
        lines = [f"visus {self.study}: {self.title}"]
        lines += [self.answer] if self.answer else []
        lines += [f"- {f}" for f in self.findings] + [f"! {w}" for w in self.cautions]
        if self.tables:
            lines.append(f"tables: {_listed([f'{key} ({len(t.rows):,})' for key, t in self.tables.items()])}")
        if self.figures:
            lines.append(f"figures: {_listed(list(self.figures))}")
        if self.page:
            lines.append(f"the page: {self.page}")
        return "\n".join(_printable(line) for line in lines)

    def _repr_html_(self) -> str:
        """Sections with their findings, tables and figures, for a notebook's cell."""
        return str(named("visus.report.notebook:result_html")(self))

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """Answer, findings, warnings and tables, for a terminal; tables wider than it are left to the page."""
        return named("visus.report.terminal:lines")(self, options, console)


def vars_of(value: Any) -> dict[str, Any]:
    """The fields of a flat dataclass by name."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def json_schema() -> dict[str, Any]:
    """The JSON schema of result.json, which docs/result.schema.json holds."""
    schema = _adapter().json_schema(mode="serialization")
    schema["properties"] = {"schema": {"const": SCHEMA}, **schema["properties"]}
    schema["properties"].pop("page", None)
    schema["required"] = ["schema", *schema["required"]]
    return schema


def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _unique(what: str, keys: Iterator[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"two {what}s have the key {key!r}")
        seen.add(key)


def _listed(names: Sequence[str]) -> str:
    """The names by commas, the first of them where they are many."""
    more = f", {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _printable(text: str) -> str:
    """On one line, and so that print to stdout takes it: what its encoding lacks is spelled."""
    return plain(" ".join(text.split("\n")), getattr(sys.stdout, "encoding", None))
