"""The page: one HTML file that works from a file, offline, in light and dark, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np

from visus.report.draw import FORMATS, draw, to_bytes
from visus.report.faults import attempt
from visus.report.maps import MapData
from visus.report.palette import SERIES, SERIES_DARK
from visus.report.pictures import columns_of, gallery_rows, map_points, pictures_of, trust_line
from visus.report.sprites import picture
from visus.report.svg import inline
from visus.report.tables import best_cells, full_rows, is_number, numeric_columns, to_csv, to_latex
from visus.report.text import clean, file_names, line, script_json
from visus.studies.common.schema1 import Figure, Result, Table, format_cell

_WIDE, _NARROW = 7.6, 4.1  # inches: a chart is drawn for the desk and for the phone
_TALL = 16  # rows above which a table scrolls in its own box


def render_page(result: Result, *, in_folder: bool = False, present: frozenset[str] | None = None) -> str:
    """The result as one HTML page that asks for nothing from outside.

    in_folder: the page lies beside figures/ (see write_report) and links to their files. present: those that lie there (default all).
    Deterministic. A figure or table that cannot be drawn is left out, and the warnings name it.
    """
    maps = MapData(result.arrays)
    faults: list[str] = []
    blocks, groups = _blocks(result, maps, faults, in_folder=in_folder, present=present)
    tables = _tables(result.tables, faults)
    told = {w.partition(" (")[0] for w in result.warnings}
    assets = files("visus.report") / "assets"
    script = (assets / "page.js").read_text("utf-8")
    text: str = _template().render(
        study=clean(result.study),
        title=clean(result.title),
        findings=[clean(f) for f in result.findings],
        warnings=[clean(w) for w in (*result.warnings, *(f for f in faults if f.partition(" (")[0] not in told))],
        notes=[clean(n) for n in result.notes],
        blocks=blocks,
        tables=tables,
        provenance=_tree(result.provenance),
        summary=_summary(result.provenance),
        in_folder=in_folder,
        style=(assets / "style.css").read_text("utf-8"),
        colours=_colours(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        payload=script_json(maps.payload(groups)) if groups else None,
    )
    return text


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # For what we made ourselves: styles, script, JSON that script_json made safe, SVG that matplotlib escaped.
    environment.filters["ours"] = Markup
    source = (files("visus.report") / "assets" / "page.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _blocks(
    result: Result, maps: MapData, faults: list[str], *, in_folder: bool, present: frozenset[str] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The page's figures in order, and the map groups for the script: maps in a row with equal classes share a legend."""
    blocks: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    names = file_names((f.name for f in result.figures), "figure")
    for number, (figure, file) in enumerate(zip(result.figures, names, strict=True), 1):
        block = attempt(f"figure {file}", partial(_block, figure, number, result.arrays, maps), faults)
        if block is None:
            continue
        block["file"] = file if in_folder else None
        block["forms"] = [f for f in FORMATS if present is None or f"figures/{file}.{f}" in present]
        if figure.kind == "map":
            classes, one = block.pop("classes"), block.pop("map")
            if not (blocks and blocks[-1]["kind"] == "maps" and blocks[-1]["classes"] == classes):
                blocks.append({"kind": "maps", "maps": [], "classes": classes, "group": len(groups)})
                groups.append({"classes": classes, "maps": []})
            blocks[-1]["maps"].append(block)
            groups[-1]["maps"].append(one)
            continue
        blocks.append(block)
    return blocks, groups


def _block(figure: Figure, number: int, arrays: Mapping[str, np.ndarray], maps: MapData) -> dict[str, Any]:
    """One figure as the template reads it. Raises whatever drawing it raises."""
    block: dict[str, Any] = {
        "kind": figure.kind,
        "number": number,
        "title": clean(figure.title),
        "caption": clean(figure.caption),
    }
    if figure.kind == "map":
        return block | {
            "trust": trust_line(figure.data.get("trust")),
            "label": _map_label(figure, arrays),
            "classes": [line(c) for c in figure.data["classes"]],
            "map": maps.add(figure),
        }
    if figure.kind == "gallery":
        return block | _gallery(figure, arrays)
    # One look for all that stands still; 'maps' also names the groups of maps that move.
    label = line(f"{figure.title or figure.name}. {figure.caption}")
    svgs = [
        (size, inline(to_bytes(draw(figure, arrays, width=width), "svg"), prefix=f"f{number}{size[0]}-", label=label))
        for size, width in (("wide", _WIDE), ("narrow", _NARROW))
    ]
    return block | {"kind": "chart", "svgs": svgs}


def _map_label(figure: Figure, arrays: Mapping[str, np.ndarray]) -> str:
    """What a screen reader says of a map."""
    points, labels = map_points(figure.data, arrays)
    seen = len(np.unique(labels[labels >= 0]))
    return line(
        f"{figure.title or figure.name}: map of {len(points)} images coloured by {seen} classes. {figure.caption}"
    )


def _gallery(figure: Figure, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The gallery's rows with its pictures as data URIs."""
    images = pictures_of(arrays, figure.data["images"])
    captions = figure.data["captions"]
    rows = [
        (name, [{"src": picture(images[i]), "caption": clean(captions[i]), "alt": line(captions[i])} for i in members])
        for name, members in gallery_rows(figure.data, len(images))
    ]
    return {
        "rows": rows,
        "pixelated": max(images.shape[1:3]) <= 64,
        "columns": columns_of(figure.data),
        "size": f"{images.shape[2]} {images.shape[1]}".split(),
    }


def _tables(tables: Mapping[str, Table], faults: list[str]) -> list[dict[str, Any]]:
    """Tables as the template reads them: head, cells as people read them with the value they sort by, files to download."""
    shown = []
    for file, (name, table) in zip(file_names(tables, "table"), tables.items(), strict=True):
        one = attempt(f"table {file}", partial(_table, file, name, table), faults)
        if one is None:
            continue
        for kind, form, make in (
            ("text/csv", "csv", partial(to_csv, table)),
            ("application/x-tex", "tex", partial(to_latex, table, label=file)),
        ):
            text = attempt(f"table {file} as {'CSV' if form == 'csv' else 'LaTeX'}", make, faults)
            one[form] = None if text is None else f"data:{kind};charset=utf-8,{quote(text, safe='')}"
        shown.append(one)
    return shown


def _table(file: str, name: str, table: Table) -> dict[str, Any]:
    columns, rows = full_rows(table)
    best, numeric = best_cells(table), numeric_columns(table)
    return {
        "file": file,
        "title": clean(table.title or name),
        "note": clean(table.note),
        "head": list(zip(columns, numeric, strict=True)),
        "rows": [
            [
                {"text": clean(format_cell(cell, table.digits)), "value": _sort_value(cell), "best": (i, j) in best}
                for j, cell in enumerate(row)
            ]
            for i, row in enumerate(rows)
        ],
        "numeric": numeric,
        "tall": len(rows) > _TALL,
    }


def _sort_value(cell: Any) -> str | None:
    """What a numeric cell sorts by; None for texts, and for NaN, which sorts last."""
    return repr(float(cell)) if is_number(cell) and cell == cell else None


def _tree(value: Any) -> Any:
    """Provenance for the template: ('map', [(key, tree)]), ('list', [tree]) or ('text', str)."""
    if isinstance(value, Mapping):
        return ("map", [(clean(k).replace("_", " "), _tree(v)) for k, v in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ("list", [_tree(v) for v in value])
    if isinstance(value, np.ndarray):
        return _tree(value.tolist())
    if isinstance(value, float | np.floating):
        return ("text", f"{value:.6g}")
    if value is None or isinstance(value, bool | np.bool_):
        return ("text", format_cell(value))
    # Not format_cell: a seed or a year takes no thousands separator.
    return ("text", clean(value))


def _summary(provenance: Mapping[str, Any]) -> str:
    """The few facts that stand on the closed provenance section: seed, device, wall time."""
    parts = [f"{key} {clean(provenance[key])}" for key in ("seed", "device") if provenance.get(key) is not None]
    seconds = provenance.get("wall_seconds")
    if isinstance(seconds, int | float):
        parts.append(f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min")
    return " · ".join(parts)


def _colours() -> dict[str, str]:
    """The series colours as CSS declarations, for light and for dark paper."""
    return {
        theme: "".join(f"--c{i}:{colour};" for i, colour in enumerate(colours))
        for theme, colours in (("light", SERIES), ("dark", SERIES_DARK))
    }
