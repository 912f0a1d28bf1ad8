"""Write a result as a folder: the page, the data, figures and tables."""

from __future__ import annotations

from pathlib import Path

from visus.outputs import mark
from visus.paths import write_bytes, write_text
from visus.report.text import file_names
from visus.result import Result


def write_report(result: Result, out: str | Path) -> Path:
    """Write `result` into the folder `out`, each file atomically; returns the path of its index.html.

    result.json and arrays.npz (Result.load reads them back), figures/NAME.png, .svg and .pdf, tables/NAME.csv and .tex,
    index.html, and a marker by which listings of images pass them over. Names become safe file names. The same result gives
    the same bytes. Raises DataError when a figure's data do not fit together, StoreError when the folder cannot be written.
    """
    from visus.report.draw import Format, draw, to_bytes
    from visus.report.page import render_page
    from visus.report.svg import standalone
    from visus.report.tables import to_csv, to_latex

    out = Path(out)
    forms: tuple[Format, ...] = ("png", "svg", "pdf")
    tables = list(zip(file_names(result.tables, "table"), result.tables.values(), strict=True))
    figures = list(zip(file_names((f.name for f in result.figures), "figure"), result.figures, strict=True))
    mark(
        out,
        [
            *("index.html", "result.json", "arrays.npz"),
            *(f"tables/{name}.{form}" for name, _ in tables for form in ("csv", "tex")),
            *(f"figures/{name}.{form}" for name, _ in figures for form in forms),
        ],
    )
    # The numbers first: they must be safe even when a drawing fails.
    result.save(out)
    for name, table in tables:
        write_text(out / "tables" / f"{name}.csv", to_csv(table))
        write_text(out / "tables" / f"{name}.tex", to_latex(table, label=name))
    for name, figure in figures:
        canvas = draw(figure, result.arrays)
        for form in forms:
            data = to_bytes(canvas, form)
            write_bytes(out / "figures" / f"{name}.{form}", standalone(data) if form == "svg" else data)
    write_text(out / "index.html", render_page(result, in_folder=True))
    return out / "index.html"
