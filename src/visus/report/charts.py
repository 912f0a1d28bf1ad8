"""Points with intervals, and lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.figures import Intervals, Lines, Reference
from visus.formats import with_unit
from visus.report.palette import MUTED, PAPER, series
from visus.report.style import CHARACTER, legend_above, note, numbers
from visus.report.text import line, shorten

_DASHES = ((0, (4, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (8, 3)))


def intervals(figure: Intervals, width: float) -> Canvas:
    """Points with whiskers. Labels stand along x while there is room for them, else down the side."""
    groups = figure.groups
    labels = list(dict.fromkeys(label for group in groups for label in group.labels))
    longest = max((len(line(label)) for label in labels), default=1)
    room = (width - 0.9) / max(len(labels), 1)
    side = len(labels) > 10 or min(longest, 24) * CHARACTER > room
    row = max(0.3, 0.15 * len(groups) + 0.1)
    height = 1.1 + len(labels) * row if side else min(max(0.5 * width, 2.9), 3.7)
    canvas = Canvas((width, height), layout="constrained")
    axes = canvas.add_subplot()
    step = min(0.75 / max(len(groups), 1), 0.2)
    place = {label: i for i, label in enumerate(labels)}
    for index, group in enumerate(groups):
        colour, marker = series(index)
        at = np.array([place[label] for label in group.labels], float) + (index - (len(groups) - 1) / 2) * step
        value = numbers(group.values, figure.unit)
        low, high = numbers(group.low, figure.unit), numbers(group.high, figure.unit)
        for a, lo, hi in zip(at, low, high, strict=True):
            axes.plot(
                *(((lo, hi), (a, a)) if side else ((a, a), (lo, hi))), color=colour, lw=1.8, solid_capstyle="butt"
            )
        points = (value, at) if side else (at, value)
        axes.plot(*points, marker, color=colour, ms=6.5, mec=PAPER, mew=0.8, label=shorten(group.name, 48), zorder=3)
    edge = (-0.6, len(labels) - 0.4) if labels else (0, 1)
    names = [shorten(label, 30 if side else 24) for label in labels]
    if side:
        axes.set_yticks(range(len(labels)), names)
        axes.set_ylim(edge[1], edge[0])
        axes.grid(axis="x")
        axes.set_xlabel(line(with_unit(figure.y_label, figure.unit)))
        axes.set_ylabel(line(figure.x_label))
    else:
        axes.set_xticks(range(len(labels)), names)
        axes.set_xlim(*edge)
        axes.grid(axis="y")
        axes.set_xlabel(line(figure.x_label))
        axes.set_ylabel(line(with_unit(figure.y_label, figure.unit)))
    _references(axes, figure.reference, figure.unit, along_x=side)
    if not labels:
        note(axes, "nothing to show")
    _legend(canvas, axes, width)
    return canvas


def _references(axes: Any, references: Sequence[Reference], unit: str, *, along_x: bool) -> None:
    """Dashed lines at known values; named where they stand while they are far enough apart, else in the legend."""
    known = [(line(r.label), float(v)) for r in references for v in numbers([r.value], unit) if np.isfinite(v)]
    for index, (_, value) in enumerate(known):
        draw_line = axes.axvline if along_x else axes.axhline
        draw_line(value, color=MUTED, lw=1, ls=_DASHES[index % len(_DASHES)], zorder=1)
    axes.autoscale_view()
    low, high = axes.get_xlim() if along_x else axes.get_ylim()
    values = sorted(value for _, value in known)
    apart = all(b - a > 0.08 * (high - low) for a, b in pairwise(values))
    for index, (label, value) in enumerate(known):
        if apart and not along_x:
            axes.annotate(
                label, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
                ha="right", va="bottom", color=MUTED, fontsize=8.5,
            )  # fmt: skip
        else:
            axes.plot([], [], color=MUTED, lw=1, ls=_DASHES[index % len(_DASHES)], label=label)


def lines(figure: Lines, width: float) -> Canvas:
    """Curves, with a band where the series carries low and high."""
    canvas = Canvas((width, min(max(0.5 * width, 2.9), 3.7)), layout="constrained")
    axes = canvas.add_subplot()
    if figure.x_log:
        axes.set_xscale("log")
    if figure.y_log:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, figure.x_log), (axes.yaxis, figure.y_log)):
        if logarithmic:
            axis.set_major_formatter(_power)
            axis.set_minor_formatter("")
    drawn = 0
    for index, one in enumerate(figure.series):
        colour, marker = series(index)
        x, y = numbers(one.x, figure.x_unit), numbers(one.y, figure.unit)
        drawn += int(np.isfinite(x * y).sum())
        shape = {"marker": marker, "ms": 5, "mec": PAPER, "mew": 0.7} if len(x) <= 25 else {}
        axes.plot(x, y, color=colour, lw=1.8, label=shorten(one.name, 48), zorder=3, **shape)
        if one.low is not None and one.high is not None:
            low, high = numbers(one.low, figure.unit), numbers(one.high, figure.unit)
            axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
    for mark in figure.marks:
        at = numbers([mark.x], figure.x_unit)[0]
        if not np.isfinite(at):
            continue
        axes.axvline(at, color=MUTED, lw=1, ls=_DASHES[1], zorder=1)
        axes.annotate(
            shorten(mark.label, 32), (at, 0), xycoords=("data", "axes fraction"), xytext=(4, 5),
            textcoords="offset points", color=MUTED, fontsize=8.5,
        )  # fmt: skip
    axes.grid(axis="y")
    axes.set_xlabel(line(with_unit(figure.x_label, figure.x_unit)))
    axes.set_ylabel(line(with_unit(figure.y_label, figure.unit)))
    if not drawn:
        note(axes, "nothing to show")
    _legend(canvas, axes, width)
    return canvas


def _power(value: float, _: object = None) -> str:
    """A tick of a logarithmic axis, without mathtext (which is off, since names may hold dollar signs): '10⁻³', '0.5'."""
    exponent = round(float(np.log10(value))) if value > 0 else 0
    if value <= 0 or abs(exponent) < 3 or not np.isclose(value, 10.0**exponent):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _legend(canvas: Canvas, axes: Any, width: float) -> None:
    """Above the plot; none for a single unnamed series."""
    handles, labels = axes.get_legend_handles_labels()
    if labels and labels != [""]:
        legend_above(canvas, handles, labels, width)
