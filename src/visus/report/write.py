"""Write a result as a folder: the page, the data, figures and tables."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from visus.locks import locked
from visus.outputs import MARKER, clear, mark, seal, written_in
from visus.paths import write_bytes, write_text
from visus.progress import log
from visus.report.draw import FORMATS, draw, to_bytes
from visus.report.faults import attempt
from visus.report.page import named_files, render_page
from visus.report.svg import standalone
from visus.report.tables import to_csv, to_latex
from visus.report.text import file_names
from visus.result import Result

PAGES = ("index.html", "result.json", "arrays.npz")
TEXTS = ("csv", "tex")
PREDICTIONS = "predictions.parquet"
LOCK = ".report.lock"


def write_report(result: Result, out: str | Path) -> Path:
    """Write `result` into the folder `out`, each file atomically; returns the path of its index.html.

    result.json, arrays.npz and predictions.parquet (Result.load reads them back), figures/NAME.png, .svg and .pdf, tables/NAME.csv and .tex,
    index.html, and a marker by which listings of images pass them over; what an earlier run left there is removed. Names become safe
    file names. The same result gives the same bytes. A figure or table that cannot be drawn or written costs itself alone: the page's
    warnings name it. Of two commands that write into one folder at once the second waits, and its report is the one that stays.
    Raises StoreError when the folder cannot be written.
    """
    out = Path(out)
    with locked(out, waiting=f"another command writes its report into {out}; waiting until it has ended", name=LOCK):
        return _write(result, out)


def _write(result: Result, out: Path) -> Path:
    faults: list[str] = []
    tables, figures = named_files(result.tables, "table"), named_files(result.figures, "figure")
    wanted = [
        *(f"tables/{name}.{form}" for name in tables.values() for form in TEXTS),
        *(f"figures/{name}.{form}" for name in figures.values() for form in FORMATS),
    ]
    own = [*PAGES, PREDICTIONS] if result.predictions else [*PAGES]
    mark(out, [*_unmarked(out), *own, *wanted])
    # The numbers first: they must be safe even when a drawing fails.
    result.save(out)
    files = []
    for key, name in tables.items():
        table = result.tables[key]
        for form, make in (("csv", partial(to_csv, table)), ("tex", partial(to_latex, table, label=name))):
            text = attempt(f"table {name} as {'CSV' if form == 'csv' else 'LaTeX'}", make, faults)
            if text is not None:
                write_text(out / "tables" / f"{name}.{form}", text)
                files.append(f"tables/{name}.{form}")
    for key, name in figures.items():
        canvas = attempt(f"figure {name}", partial(draw, result.figures[key]), faults)
        for image in FORMATS if canvas is not None else ():
            data = attempt(f"figure {name} as {image.upper()}", partial(to_bytes, canvas, image), faults)
            if data is not None:
                write_bytes(out / "figures" / f"{name}.{image}", standalone(data) if image == "svg" else data)
                files.append(f"figures/{name}.{image}")
    write_text(out / "index.html", render_page(result, linked=frozenset(files), faults=faults))
    clear(out, but=[*own, *files])
    seal(out)
    for fault in faults:
        log(fault)
    return out / "index.html"


def _unmarked(out: Path) -> list[str]:
    """What a version without markers wrote in `out`, by the result.json that it left there."""
    if (out / MARKER).is_file() or written_in(out) is None:
        return []
    try:
        body = json.loads((out / "result.json").read_text("utf-8"))
        if "sections" in body:
            keys = [[one["key"] for s in body["sections"] for one in s[what]] for what in ("tables", "figures")]
        else:  # schema 1
            keys = [list(body["tables"]), [f["name"] for f in body["figures"]]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    tables, figures = file_names(keys[0], "table"), file_names(keys[1], "figure")
    return [f"tables/{n}.{e}" for n in tables for e in TEXTS] + [f"figures/{n}.{e}" for n in figures for e in FORMATS]
