"""A result in a notebook's cell: answer, findings, tables and figures as HTML that stays small however large the result is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

from visus.errors import DataError
from visus.figures import Figure
from visus.report.draw import draw
from visus.report.style import style
from visus.report.tables import best_cells
from visus.report.text import clean
from visus.result import Result, Table

ROWS = 20  # of a table
BYTES = 3_000_000  # of all figures of a result together
WIDTH, DPI = 7.0, 96  # inches, dots per inch


def result_html(result: Result) -> str:
    """Title, answer, warnings, how the input was read; section by section findings, tables (their first rows) and figures
    while there is room; where the page is."""
    parts = [f"<h3>{_text(result.title)}</h3>"]
    if result.answer:
        parts.append(f"<p><b>{_text(result.answer)}</b></p>")
    for title, lines in (("Before trusting a number", result.warnings), ("How the input was read", result.notes)):
        if lines:
            parts.append(f"<h4>{title}</h4>{_list(lines)}")
    room = BYTES
    for section in result.sections:
        parts.append(f"<h3>{_text(section.title)}</h3>")
        if section.findings:
            parts.append(_list(f"Caution: {f.text}" if f.kind == "caution" else f.text for f in section.findings))
        parts += [table_html(table) for table in section.tables]
        for figure in section.figures:
            drawn = figure_html(figure)
            room -= len(drawn)
            parts.append(drawn if room >= 0 else _captioned(figure, "<p>(drawn on the page)</p>"))
    if result.page:
        parts.append(f"<p>The page: <code>{_text(result.page)}</code></p>")
    return "".join(parts)


def table_html(table: Table) -> str:
    """The table's title, its first rows, its note."""
    best = best_cells(table)
    head = "".join(f"<th>{_text(column.heading)}</th>" for column in table.columns)
    body = []
    for i, row in enumerate(table.rows[:ROWS]):
        marks = [' style="font-weight:bold"' if (i, j) in best else "" for j in range(len(row))]
        cells = [_text(column.text(cell)) for cell, column in zip(row, table.columns, strict=True)]
        body.append("<tr>" + "".join(f"<td{m}>{c}</td>" for m, c in zip(marks, cells, strict=True)) + "</tr>")
    more = f"<p>{len(table.rows) - ROWS:,} more rows in <code>.rows</code></p>" if len(table.rows) > ROWS else ""
    note = f"<p><small>{_text(table.note)}</small></p>" if table.note else ""
    return f"<h4>{_text(table.title or table.key)}</h4><table><tr>{head}</tr>{''.join(body)}</table>{more}{note}"


def figure_html(figure: Figure) -> str:
    """The figure drawn as an image, with title and caption; without one where its data cannot be drawn."""
    try:
        canvas = draw(figure, width=WIDTH)
    except DataError as error:
        return _captioned(figure, f"<p>({_text(error)})</p>")
    buffer = io.BytesIO()
    with style():
        canvas.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _captioned(figure, f'<img alt="{_text(figure.title)}" src="data:image/png;base64,{data}">')


def _captioned(figure: Figure, inner: str) -> str:
    return f"<h4>{_text(figure.title or figure.key)}</h4>{inner}<p><small>{_text(figure.caption)}</small></p>"


def _list(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(text)}</li>" for text in texts) + "</ul>"


def _text(text: object) -> str:
    return escape(clean(text))
