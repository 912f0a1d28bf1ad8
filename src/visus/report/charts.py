"""Intervals, lines and heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.luma import luma
from visus.report.draw import draws, note, numbers
from visus.report.palette import GRID, INK, MUTED, PAPER, series
from visus.report.text import line, shorten

_DASHES = ((0, (4, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (8, 3)))
_CHARACTER = 0.078  # inches: the mean width of a character at the size of tick labels


@draws("intervals")
def intervals(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], width: float) -> Canvas:
    """Points with whiskers. Labels stand along x while there is room for them, else down the side."""
    groups = data["groups"]
    labels = list(dict.fromkeys(label for group in groups for label in group["labels"]))
    longest = max((len(line(label)) for label in labels), default=1)
    room = (width - 0.9) / max(len(labels), 1)
    side = len(labels) > 10 or min(longest, 24) * _CHARACTER > room
    row = max(0.3, 0.15 * len(groups) + 0.1)
    height = 1.1 + len(labels) * row if side else min(max(0.5 * width, 2.9), 3.7)
    canvas = Canvas((width, height), layout="constrained")
    axes = canvas.add_subplot()
    step = min(0.75 / max(len(groups), 1), 0.2)
    place = {label: i for i, label in enumerate(labels)}
    for index, group in enumerate(groups):
        colour, marker = series(index)
        at = np.array([place[label] for label in group["labels"]], float) + (index - (len(groups) - 1) / 2) * step
        value = numbers(group["values"])
        low, high = numbers(group["low"]), numbers(group["high"])
        for a, lo, hi in zip(at, low, high, strict=True):
            axes.plot(
                *(((lo, hi), (a, a)) if side else ((a, a), (lo, hi))), color=colour, lw=1.8, solid_capstyle="butt"
            )
        points = (value, at) if side else (at, value)
        axes.plot(*points, marker, color=colour, ms=6.5, mec=PAPER, mew=0.8, label=shorten(group["name"], 48), zorder=3)
    edge = (-0.6, len(labels) - 0.4) if labels else (0, 1)
    names = [shorten(label, 30 if side else 24) for label in labels]
    if side:
        axes.set_yticks(range(len(labels)), names)
        axes.set_ylim(edge[1], edge[0])
        axes.grid(axis="x")
        axes.set_xlabel(line(data.get("y_label", "")))
        axes.set_ylabel(line(data.get("x_label", "")))
    else:
        axes.set_xticks(range(len(labels)), names)
        axes.set_xlim(*edge)
        axes.grid(axis="y")
        axes.set_xlabel(line(data.get("x_label", "")))
        axes.set_ylabel(line(data.get("y_label", "")))
    _references(axes, data.get("reference") or (), along_x=side)
    if not labels:
        note(axes, "nothing to show")
    _legend(canvas, axes, width)
    return canvas


def _references(axes: Any, references: Sequence[Mapping[str, Any]], *, along_x: bool) -> None:
    """Dashed lines at known values; named where they stand while they are far enough apart, else in the legend."""
    known = [(line(r["label"]), float(v)) for r in references for v in numbers([r["value"]]) if np.isfinite(v)]
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


@draws("lines")
def lines(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], width: float) -> Canvas:
    """Curves, with a band where the series carries low and high."""
    canvas = Canvas((width, min(max(0.5 * width, 2.9), 3.7)), layout="constrained")
    axes = canvas.add_subplot()
    if data.get("x_log"):
        axes.set_xscale("log")
    if data.get("y_log"):
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, data.get("x_log")), (axes.yaxis, data.get("y_log"))):
        if logarithmic:
            axis.set_major_formatter(_power)
            axis.set_minor_formatter("")
    drawn = 0
    for index, one in enumerate(data["series"]):
        colour, marker = series(index)
        x, y = numbers(one["x"]), numbers(one["y"])
        drawn += int(np.isfinite(x * y).sum())
        shape = {"marker": marker, "ms": 5, "mec": PAPER, "mew": 0.7} if len(x) <= 25 else {}
        axes.plot(x, y, color=colour, lw=1.8, label=shorten(one["name"], 48), zorder=3, **shape)
        if one.get("low") is not None and one.get("high") is not None:
            axes.fill_between(x, numbers(one["low"]), numbers(one["high"]), color=colour, alpha=0.16, lw=0)
    for mark in data.get("marks") or ():
        at = numbers([mark["x"]])[0]
        if not np.isfinite(at):
            continue
        axes.axvline(at, color=MUTED, lw=1, ls=_DASHES[1], zorder=1)
        axes.annotate(
            shorten(mark["label"], 32), (at, 0), xycoords=("data", "axes fraction"), xytext=(4, 5),
            textcoords="offset points", color=MUTED, fontsize=8.5,
        )  # fmt: skip
    axes.grid(axis="y")
    axes.set_xlabel(line(data.get("x_label", "")))
    axes.set_ylabel(line(data.get("y_label", "")))
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


def legend_above(canvas: Canvas, handles: Sequence[Any], labels: Sequence[str], width: float) -> None:
    """A legend above the plots of a figure `width` inches wide, in as many columns as fit."""
    room = int((width - 0.6) / (max(map(len, labels)) * _CHARACTER + 0.5))
    canvas.legend(handles, labels, loc="outside upper left", ncols=max(1, min(room, len(labels), 5)))


@draws("heatmap")
def heatmap(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], width: float) -> Canvas:
    """A matrix in colour, its numbers printed while they fit; missing cells stay empty with a dash."""
    from matplotlib import colormaps

    rows = [shorten(r, 26) for r in data["rows"]]
    columns = [shorten(c, 26) for c in data["columns"]]
    values = np.array([numbers(row) for row in data["values"]], dtype=np.float64).reshape(len(rows), len(columns))
    left = min(max(map(len, rows), default=1) * _CHARACTER + 0.3, 0.45 * width)
    cell = (width - left - 0.9) / max(len(columns), 1)
    tilt = max(map(len, columns), default=1) * _CHARACTER > cell
    below = min(max(map(len, columns), default=1) * _CHARACTER, 2.2) * 0.8 + 0.2 if tilt else 0.35
    tall = min(max(cell if len(columns) > 2 else 0.4, 0.3 if len(rows) <= 40 else 0.16), 0.75)
    canvas = Canvas((width, min(tall * max(len(rows), 1) + below + 0.2, 20)), layout="constrained")
    axes = canvas.add_subplot()
    finite = values[np.isfinite(values)]
    if not finite.size:
        note(axes, "nothing to show")
        axes.set_axis_off()
        return canvas
    low = finite.min() if data.get("low") is None else float(data["low"])
    high = finite.max() if data.get("high") is None else float(data["high"])
    if high <= low:
        low, high = low - 0.5, low + 0.5
    # Signed values get a diverging scale that is pale at nought; others a sequential one. Both are safe for the colour-blind.
    signed = low < 0 < high
    if signed:
        low, high = -max(-low, high), max(-low, high)
    colours = colormaps["RdBu" if signed else "viridis"]
    many = values.size > 2500
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, edgecolors="none" if many else PAPER,
        linewidth=0 if many else 0.8, rasterized=many,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xticks(_thinned(len(columns), cell, 0.14), [columns[i] for i in _ticks(len(columns), cell, 0.14)])
    axes.set_yticks(_thinned(len(rows), tall, 0.14), [rows[i] for i in _ticks(len(rows), tall, 0.14)])
    axes.tick_params(length=0)
    if tilt:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    if cell >= 0.36 and tall >= 0.2:
        digits = 2 if np.abs(finite).max() < 100 else 0
        for (i, j), value in np.ndenumerate(values):
            shown = f"{value:.{digits}f}" if np.isfinite(value) else "–"
            colour = colours((value - low) / (high - low)) if np.isfinite(value) else (1, 1, 1, 1)
            # These two are not swapped for the theme: what matters is the cell behind them.
            dark = luma(np.array(colour[:3], np.float64)) < 0.53
            ink = MUTED if not np.isfinite(value) else "#fbfbfc" if dark else "#101214"
            axes.text(j + 0.5, i + 0.5, shown, ha="center", va="center", color=ink, fontsize=8.5 if cell >= 0.45 else 7)
    bar = canvas.colorbar(mesh, ax=axes, label=line(data.get("label", "")), fraction=0.04, pad=0.02, aspect=30)
    bar.solids.set_rasterized(True)
    bar.solids.set_edgecolor("face")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, color=GRID, labelcolor=INK)
    return canvas


def _ticks(count: int, size: float, least: float) -> range:
    """Which of `count` cells of `size` inches carry a name, when names need `least` inches each."""
    return range(0, count, max(1, int(np.ceil(least / size))))


def _thinned(count: int, size: float, least: float) -> list[float]:
    """The centres of those cells."""
    return [i + 0.5 for i in _ticks(count, size, least)]
