"""A result in a notebook's cell: findings, tables and figures as HTML that stays small however large the result is."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np

from visus.errors import DataError
from visus.report.draw import draw, style
from visus.report.tables import best_cells, full_rows
from visus.report.text import clean
from visus.studies.common.schema1 import Figure, Result, Table, format_cell

ROWS = 20  # of a table
BYTES = 3_000_000  # of all figures of a result together
WIDTH, DPI = 7.0, 96  # inches, dots per inch


def result_html(result: Result) -> str:
    """Title, findings, warnings, how the input was read, tables (their first rows), figures while there is room, where the page is."""
    parts = [f"<h3>{_text(result.title)}</h3>"]
    for title, lines in (
        ("", result.findings),
        ("Before trusting a number", result.warnings),
        ("How the input was read", result.notes),
    ):
        if lines:
            parts.append(
                (f"<h4>{title}</h4>" if title else "")
                + "<ul>"
                + "".join(f"<li>{_text(t)}</li>" for t in lines)
                + "</ul>"
            )
    parts += [table_html(table, name) for name, table in result.tables.items()]
    room = BYTES
    for figure in result.figures:
        drawn = figure_html(figure, result.arrays)
        room -= len(drawn)
        parts.append(drawn if room >= 0 else _captioned(figure, "<p>(drawn on the page)</p>"))
    if result.page:
        parts.append(f"<p>The page: <code>{_text(result.page)}</code></p>")
    return "".join(parts)


def table_html(table: Table, name: str = "") -> str:
    """The table's title, its first rows, its note."""
    columns, rows = full_rows(table)
    best = best_cells(table)
    head = "".join(f"<th>{_text(c)}</th>" for c in columns)
    body = []
    for i, row in enumerate(rows[:ROWS]):
        marks = [' style="font-weight:bold"' if (i, j) in best else "" for j in range(len(row))]
        cells = [_text(format_cell(cell, table.digits)) for cell in row]
        body.append("<tr>" + "".join(f"<td{m}>{c}</td>" for m, c in zip(marks, cells, strict=True)) + "</tr>")
    more = f"<p>{len(rows) - ROWS:,} more rows in <code>.rows</code></p>" if len(rows) > ROWS else ""
    note = f"<p><small>{_text(table.note)}</small></p>" if table.note else ""
    return f"<h4>{_text(table.title or name)}</h4><table><tr>{head}</tr>{''.join(body)}</table>{more}{note}"


def figure_html(figure: Figure, arrays: Mapping[str, np.ndarray]) -> str:
    """The figure drawn as a picture, with title and caption; without one where its arrays are not at hand."""
    try:
        canvas = draw(figure, arrays, width=WIDTH)
    except DataError as error:
        return _captioned(figure, f"<p>({_text(error)})</p>")
    buffer = io.BytesIO()
    with style():
        canvas.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _captioned(figure, f'<img alt="{_text(figure.title)}" src="data:image/png;base64,{data}">')


def _captioned(figure: Figure, inner: str) -> str:
    return f"<h4>{_text(figure.title or figure.name)}</h4>{inner}<p><small>{_text(figure.caption)}</small></p>"


def _text(text: object) -> str:
    return escape(clean(text))
