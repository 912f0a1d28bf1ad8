"""The page: one HTML file that works from a file, offline, in light and dark, on a phone and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from visus.formats import POINTS, format_cell, short_number, unit_text
from visus.report.page_figures import PageFigures
from visus.report.page_tables import PageTables
from visus.report.palette import SERIES, SERIES_DARK
from visus.report.text import clean, file_names, script_json
from visus.result import Finding, Metric, Result


def render_page(result: Result, *, linked: frozenset[str] | None = None, faults: Sequence[str] = ()) -> str:
    """The result as one HTML page that asks for nothing from outside.

    linked: where the page lies beside figures/ (see write_report), the files that lie there ('figures/NAME.png'), which it links to.
    faults: what is known to have failed. Deterministic. A figure or table that cannot be drawn is left out, and the warnings name it.
    """
    failed = list(faults)
    drawn = PageFigures(named_files(result.figures, "figure"), failed, linked=linked)
    tabled = PageTables(named_files(result.tables, "table"), failed)
    blocks = [(drawn.blocks(s.figures), tabled.blocks(s.tables)) for s in result.sections]
    anchors = file_names((s.key for s in result.sections), "section")
    sections = [
        {
            "id": f"section-{anchor}",
            "title": clean(section.title),
            "file": clean(section.file),
            "findings": [_finding(f, drawn.shown, tabled.shown) for f in section.findings],
            "figures": figures,
            "tables": tables,
            "metric": next((_value(m) for m in section.metrics if m.key in result.headline), ""),
        }
        for section, anchor, (figures, tables) in zip(result.sections, anchors, blocks, strict=True)
    ]
    partial = (
        (f"This result is not complete: {result.reason or 'no reason was given'}",)
        if result.status == "partial"
        else ()
    )
    assets = files("visus.report") / "assets"
    script = (assets / "page.js").read_text("utf-8")
    payload = drawn.payload()
    return _template().render(
        study=clean(result.study),
        title=clean(result.title),
        answer=clean(result.answer),
        tiles=[_tile(result.metrics[key]) for key in result.headline],
        warnings=[clean(w) for w in (*partial, *result.warnings, *_distinct(failed))],
        notes=[clean(n) for n in result.notes],
        sections=sections,
        provenance=_tree(result.provenance),
        summary=_summary(result.provenance),
        in_folder=linked is not None,
        predictions=bool(result.predictions),
        style=(assets / "style.css").read_text("utf-8"),
        colours=_colours(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        payload=None if payload is None else script_json(payload),
    )


def named_files(keys: Iterable[str], fallback: str) -> dict[str, str]:
    """The safe file name of each figure or table by its key, in order."""
    keys = list(keys)
    return dict(zip(keys, file_names(keys, fallback), strict=True))


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # For what we made ourselves: styles, script, JSON that script_json made safe, SVG that matplotlib escaped.
    environment.filters["ours"] = Markup
    source = (files("visus.report") / "assets" / "page.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _distinct(faults: Iterable[str]) -> list[str]:
    """Of what failed in several ways (for its files, and for the page) the first telling."""
    first: dict[str, str] = {}
    for fault in faults:
        first.setdefault(fault.partition(" (")[0], fault)
    return list(first.values())


def _finding(finding: Finding, *shown: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """A sentence with the links to what shows it on this page."""
    links = [places[key] for key in finding.shows for places in shown if key in places]
    return {"text": clean(finding.text), "kind": finding.kind, "links": links}


def _tile(metric: Metric) -> dict[str, str]:
    """A number of the headline: its name, its value, and its unit, interval and number of images."""
    parts = ["points"] if metric.unit == POINTS else []
    if metric.low is not None and metric.high is not None:
        undecided = metric.unit == POINTS and metric.low <= 0 <= metric.high
        ends = " to ".join(short_number(end, metric.unit) for end in (metric.low, metric.high))
        parts.append(f"{ends}: undecided" if undecided else ends)
    if metric.n is not None:
        parts.append(f"n\u00a0=\u00a0{metric.n:,}")
    return {
        "label": clean(metric.label or metric.key),
        "value": clean(_value(metric)),
        "small": clean(", ".join(parts)),
    }


def _value(metric: Metric) -> str:
    """'84.2 %', '+0.7' (points), '1.23 nats', '12.0 s'."""
    text = short_number(metric.value, metric.unit)
    if metric.value is None:
        return text
    if metric.unit == POINTS:
        return f"+{text}" if metric.value > 0 else text
    return f"{text} {unit_text(metric.unit)}".rstrip()


def _tree(value: Any) -> Any:
    """Provenance for the template: ('map', [(key, tree)]), ('list', [tree]) or ('text', str)."""
    if isinstance(value, Mapping):
        return ("map", [(clean(k).replace("_", " "), _tree(v)) for k, v in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ("list", [_tree(v) for v in value])
    if isinstance(value, float):
        return ("text", f"{value:.6g}")
    if value is None or isinstance(value, bool):
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
