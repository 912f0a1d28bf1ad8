"""A result in a terminal: title, answer, findings, cautions, and the tables that fit."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from visus.result import Result, Table

_UNBOUND = 10_000  # columns, more than any table takes


def lines(result: Result, options: ConsoleOptions, console: Console) -> Iterator[RenderableType]:
    """What Rich prints of a result; a table that the terminal is too narrow for is left to the page."""
    yield f"[bold]{escape(result.title)}[/bold]"
    if result.answer:
        yield escape(result.answer)
    for finding in result.findings:
        yield f"  • {escape(finding)}"
    for caution in result.cautions:
        yield f"  [yellow]! {escape(caution)}[/yellow]"
    for table in result.tables.values():
        shown = _table(table)
        # A table squeezed into a narrow terminal cannot be read; the page has them all.
        if Measurement.get(console, options.update(max_width=_UNBOUND), shown).maximum <= options.max_width:
            yield shown


def _table(table: Table) -> RichTable:
    shown = RichTable(title=escape(table.title or table.key))
    for column in table.columns:
        shown.add_column(escape(column.heading))
    for row in table.rows:
        shown.add_row(*(escape(column.text(cell)) for cell, column in zip(row, table.columns, strict=True)))
    return shown
