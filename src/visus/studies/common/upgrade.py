"""Results of schema 1 as schema 2, while studies are being moved: one section with everything in it. Goes when the last study has moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visus import figures as two
from visus.result import Column, Finding, Result, Section, Table, key_of
from visus.studies.common import schema1


def upgraded(old: schema1.Result | Result) -> Result:
    """The same findings, tables and figures in one section; a result of schema 2 as it is."""
    if isinstance(old, Result):
        return old
    section = Section(
        key=key_of(old.study),
        title="What was found?",
        source=f"visus.studies.{old.study}",
        findings=tuple(Finding(text) for text in old.findings),
        tables=tuple(_table(name, t) for name, t in old.tables.items()),
        figures=tuple(upgraded_figure(f, old.arrays) for f in old.figures),
    )
    return Result(
        study=old.study, title=old.title, sections=(section,), warnings=old.warnings, notes=old.notes,
        provenance=old.provenance, page=old.page,
    )  # fmt: skip


def _table(name: str, old: schema1.Table) -> Table:
    width = max([len(old.columns), *map(len, old.rows)])
    labels = [*old.columns, *[""] * (width - len(old.columns))]
    direction: dict[str, Any] = {"max": "higher", "min": "lower"}
    columns = tuple(
        Column(key_of(f"{i}-{label}"), label, digits=old.digits, better=direction.get(old.bold.get(label, "")))
        for i, label in enumerate(labels)
    )
    rows = [[*row, *[None] * (width - len(row))] for row in old.rows]
    return Table(key=key_of(name), title=old.title or name, columns=columns, rows=rows, note=old.note)


def upgraded_figure(old: schema1.Figure, arrays: Mapping[str, np.ndarray]) -> two.AnyFigure:
    data = dict(old.data)
    head: dict[str, Any] = {"key": key_of(old.name), "title": old.title, "caption": old.caption}
    if old.kind == "intervals":
        groups = tuple(two.Group(**g) for g in data["groups"])
        reference = tuple(two.Reference(**r) for r in data.get("reference") or ())
        return two.Intervals(**head, **_labels(data), groups=groups, reference=reference)
    if old.kind == "lines":
        marks = tuple(two.Mark(**m) for m in data.get("marks") or ())
        return two.Lines(**head, **_labels(data), series=tuple(two.Series(**s) for s in data["series"]), marks=marks)
    if old.kind == "curves":
        panels = tuple(
            two.CurvePanel(
                title=p["title"],
                series=tuple(two.Series(**s) for s in p["series"]),
                marks=tuple(two.Mark(**m) for m in p.get("marks") or ()),
            )
            for p in data["panels"]
        )
        return two.Curves(**head, **_labels(data), own_y=bool(data.get("own_y")), panels=panels)
    if old.kind == "heatmap":
        return two.Heatmap(
            **head, **{k: data[k] for k in ("values", "rows", "columns", "label", "low", "high") if k in data}
        )
    if old.kind == "front":
        points = tuple(two.FrontPoint(**p) for p in data["points"])
        fronts = tuple(two.FrontPanel(**{**p, "front": tuple(map(bool, p["front"]))}) for p in data["panels"])
        return two.Front(**head, y_label=data.get("y_label", ""), points=points, panels=fronts)
    if old.kind == "gallery":
        return two.Gallery(
            **head,
            images=arrays[data["images"]],
            captions=data["captions"],
            groups=data.get("groups"),
            columns=data.get("columns"),
        )
    if old.kind == "maps":
        maps = tuple(
            two.MapPanel(row=p["row"], column=p["column"], points=arrays[p["points"]], trust=p.get("trust") or {})
            for p in data["panels"]
        )
        return two.Maps(**head, panels=maps, labels=arrays[data["labels"]], classes=data["classes"])
    sprite = data.get("sprite")
    return two.Map(
        **head, points=arrays[data["points"]], labels=arrays[data["labels"]], classes=data["classes"], ids=data.get("ids") or (),
        sprite=None if sprite is None else arrays[sprite], trust=data.get("trust") or {},
    )  # fmt: skip


def _labels(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: data[k] for k in ("x_label", "y_label", "x_log", "y_log") if k in data}
