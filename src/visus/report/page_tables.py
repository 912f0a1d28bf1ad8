"""Tables as the page's template reads them: cells as people read them with the value they sort by, files to download."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from visus.report.faults import attempt
from visus.report.tables import best_cells, is_number, numeric_columns, to_csv, to_latex
from visus.report.text import clean, line
from visus.result import Table

_TALL = 16  # rows above which a table scrolls in its own box


class PageTables:
    """The tables of one page: numbered, what could not be made noted in `faults`. files: the file name of each by its key, in reading order."""

    def __init__(self, files: Mapping[str, str], faults: list[str]) -> None:
        self._files, self._faults = files, faults
        self._numbers = {key: number for number, key in enumerate(files, 1)}
        self.shown: dict[str, tuple[str, str]] = {}  # by key: where it stands on the page, and what it is called

    def blocks(self, tables: Iterable[Table]) -> list[dict[str, Any]]:
        """The tables of a section in order."""
        blocks = []
        for table in tables:
            file = self._files[table.key]
            block = attempt(f"table {file}", partial(self._block, table), self._faults)
            if block is None:
                continue
            for kind, form, name, make in (
                ("text/csv", "csv", "CSV", partial(to_csv, table)),
                ("application/x-tex", "tex", "LaTeX", partial(to_latex, table, label=file)),
            ):
                text = attempt(f"table {file} as {name}", make, self._faults)
                block[form] = None if text is None else f"data:{kind};charset=utf-8,{quote(text, safe='')}"
            self.shown[table.key] = f"#{block['id']}", f"table {block['number']}"
            blocks.append(block)
        return blocks

    def _block(self, table: Table) -> dict[str, Any]:
        file, number = self._files[table.key], self._numbers[table.key]
        best, numeric = best_cells(table), numeric_columns(table)
        return {
            "number": number,
            "id": f"table-{file}",
            "file": file,
            "title": clean(table.title or table.key),
            "note": clean(table.note),
            "head": [(line(column.heading), right) for column, right in zip(table.columns, numeric, strict=True)],
            "rows": [
                [
                    {"text": clean(column.text(cell)), "value": _sort_value(cell), "best": (i, j) in best}
                    for j, (cell, column) in enumerate(zip(row, table.columns, strict=True))
                ]
                for i, row in enumerate(table.rows)
            ],
            "numeric": numeric,
            "tall": len(table.rows) > _TALL,
        }


def _sort_value(cell: Any) -> str | None:
    """What a numeric cell sorts by; None for texts."""
    return repr(float(cell)) if is_number(cell) else None
