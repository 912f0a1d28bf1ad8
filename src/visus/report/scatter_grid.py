"""Small multiples of maps: many maps of the same images on the same axes, in rows and columns, with one legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from visus.errors import DataError
from visus.figures import Maps
from visus.report.palette import GRID, INK, MUTED, class_style
from visus.report.scatter import LISTED, located, trust_texts
from visus.report.style import note
from visus.report.text import line, shorten

_RASTER = 30_000  # points above which they are drawn as pixels, since a page must stay light
_TRUST = {"trustworthiness": "trustworthiness", "neighbours_kept": "neighbours kept"}
_CHARACTER = 0.066  # inches: the mean width of a character of the legend
_LEGEND_ROW = 0.155  # inches
_SIDE = 3.4  # inches: the largest panel

Panels = dict[tuple[str, str], tuple[np.ndarray, np.ndarray, Mapping[str, float | None]]]


def scatter_grid(figure: Maps, width: float) -> Canvas:
    """A grid of scatters by class, square, all with the same limits, each with its trust figures under it."""
    panels = _panels(figure)
    rows = list(dict.fromkeys(row for row, _ in panels)) or [""]
    columns = list(dict.fromkeys(column for _, column in panels)) or [""]
    classes, seen = figure.classes, sorted({int(c) for _, labels, _ in panels.values() for c in labels if c >= 0})
    listed = seen[:LISTED]
    longest = max((min(len(line(classes[c])), 22) for c in listed), default=0)
    across = max(1, min(int((width - 0.1) / (longest * _CHARACTER + 0.3)), len(listed) or 1))
    below = -(-len(listed) // across) * _LEGEND_ROW + (0.15 if listed else 0) + (0.2 if len(seen) > LISTED else 0)
    left = 0.27 if any(rows) else 0.05
    gap, under, top = 0.06, 0.34, 0.24
    side = min((width - left - 0.03 - gap * (len(columns) - 1)) / len(columns), _SIDE)
    # A single column stands in the middle.
    start = left + (width - left - 0.03 - len(columns) * (side + gap) + gap) / 2
    height = top + len(rows) * (side + under) + below
    canvas = Canvas((width, height))
    middle, half = _limits([points for points, _, _ in panels.values()])
    count = sum(len(points) for points, _, _ in panels.values())
    # The ink of all points takes the same share of a panel, whatever its side.
    size = float(np.clip(1500 * side**2 / max(count / max(len(panels), 1), 1), 2, 16))
    letters = 9.0 if side > 1.8 else 7.5
    fit = max(6, int(side / (0.0075 * letters)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            x, y = start + j * (side + gap), height - top - i * (side + under) - side
            axes = canvas.add_axes((x / width, y / height, side / width, side / height))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set(visible=True, color=GRID)
            axes.set_xlim(middle[0] - half, middle[0] + half)
            axes.set_ylim(middle[1] - half, middle[1] + half)
            if i == 0:
                axes.set_title(shorten(column, fit), fontsize=letters, pad=4)
            if j == 0:
                axes.set_ylabel(shorten(row, fit), fontsize=letters, color=INK, labelpad=4)
            if (row, column) not in panels:
                note(axes, "no map")
                continue
            points, labels, trust = panels[row, column]
            _scatter(axes, points, labels, seen, size=size, raster=count > _RASTER)
            # One under the other, since a panel is narrow.
            axes.set_xlabel(
                "\n".join(trust_texts(trust, _TRUST)), fontsize=6.5, color=MUTED, labelpad=2, linespacing=1.15
            )
    if listed:
        _legend(canvas, [(class_style(c), shorten(classes[c], 22)) for c in listed], columns=across, seen=len(seen))
    return canvas


def _panels(figure: Maps) -> Panels:
    """(row, column) -> points float64 [n, 2], labels int64 [n] (-1: no class), trust figures.

    Raises DataError where two panels claim one place, or as `located` does.
    """
    found: Panels = {}
    for panel in figure.panels:
        place = line(panel.row), line(panel.column)
        if place in found:
            raise DataError(
                f"two maps stand in row {place[0]!r}, column {place[1]!r}; give every map a place of its own"
            )
        found[place] = *located(figure.key, panel.points, figure.labels, len(figure.classes)), panel.trust
    return found


def _limits(maps: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """The middle [2] and half the side of the square that holds every point of every map, with a margin."""
    real = [points[np.isfinite(points).all(1)] for points in maps]
    every = np.concatenate(real) if real else np.zeros((0, 2))
    if not len(every):
        return np.zeros(2), 1.0
    low, high = every.min(0), every.max(0)
    return (low + high) / 2, (float((high - low).max()) / 2 or 1.0) * 1.04


def _scatter(axes: Any, points: np.ndarray, labels: np.ndarray, seen: list[int], *, size: float, raster: bool) -> None:
    """The points of one panel in the order of their classes; those of no class lie lowest and are grey."""
    if not np.isfinite(points).all(1).any():
        note(axes, "no points to show")
    for c in [-1, *seen]:
        mine = labels == c
        if not mine.any():
            continue
        colour, marker = (MUTED, "o") if c < 0 else class_style(c)
        alpha = 0.4 if c < 0 else 0.85
        # One style for all points of a class keeps the SVG small, which a scatter would not.
        axes.plot(
            *points[mine].T, ls="none", marker=marker, ms=np.sqrt(size), mfc=colour, mew=0, alpha=alpha,
            rasterized=raster, clip_on=False,
        )  # fmt: skip


def _legend(canvas: Canvas, entries: list[tuple[tuple[str, str], str]], *, columns: int, seen: int) -> None:
    """The classes under the panels, read row by row; says how many are named where it is not all of them."""
    handles = [
        Line2D([], [], ls="none", marker=m, ms=5, mfc=colour, mew=0, label=name) for (colour, m), name in entries
    ]
    rows = -(-len(handles) // columns)
    # matplotlib fills a legend column by column.
    order = [i * columns + j for j in range(columns) for i in range(rows) if i * columns + j < len(handles)]
    canvas.legend(
        [handles[k] for k in order], [entries[k][1] for k in order], loc="lower center", ncols=columns, fontsize=8,
        title=f"{seen} classes, the first {len(handles)} named" if seen > len(handles) else None, title_fontsize=8,
        handletextpad=0.1, columnspacing=0.8, labelspacing=0.35, borderaxespad=0.1, borderpad=0,
    )  # fmt: skip
