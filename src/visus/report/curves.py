"""Small multiples: the same curves for each of several cases, on the same axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from visus.figures import Curves
from visus.formats import with_unit
from visus.report.palette import INK, SERIES
from visus.report.style import legend_above, note, numbers
from visus.report.text import line, shorten

_LEAST = 2.1  # inches: the least width of a panel
_NAMED = 6  # whole numbers along a logarithmic axis that are all written at it
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def curves(figure: Curves, width: float) -> Canvas:
    """A panel for each case with shared axes; names keep colour and dash throughout, marks are rings named in the legend."""
    panels = figure.panels
    count = max(len(panels), 1)
    rows = -(-count // max(1, min(count, int(width / _LEAST))))
    across = -(-count // rows)
    high = 1.75 if rows > 1 else min(0.62 * width / across + 0.3, 2.9)
    canvas = Canvas((width, rows * high + 0.7), layout="constrained")
    grid = canvas.subplots(rows, across, sharex=True, sharey=not figure.own_y, squeeze=False)
    names = list(dict.fromkeys(line(one.name) for panel in panels for one in panel.series))
    handles: dict[str, Any] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        drawn = 0
        for one in panel.series:
            index = names.index(line(one.name))
            x, y = numbers(one.x, figure.x_unit), numbers(one.y, figure.unit)
            drawn += int(np.isfinite(x * y).sum())
            # A single epoch is a point, not a line.
            shape = {"marker": ".", "ms": 6} if len(x) == 1 else {}
            (handle,) = axes.plot(
                x, y, color=SERIES[index % len(SERIES)], ls=_DASHES[index % len(_DASHES)], lw=1.6, zorder=3, **shape
            )
            handles.setdefault(shorten(names[index], 48), handle)
        for mark in panel.marks:
            at = np.append(numbers([mark.x], figure.x_unit), numbers([mark.y], figure.unit))
            (ring,) = axes.plot(*at[:, None], "o", ms=7, mfc="none", mec=INK, mew=1.2, zorder=4)
            handles.setdefault(shorten(mark.label, 48), ring)
        axes.set_title(shorten(panel.title, max(12, int(width / across / 0.085))), loc="left", color=INK)
        axes.grid(axis="y")
        if figure.x_log:
            axes.set_xscale("log")
        if figure.y_log:
            axes.set_yscale("log")
            _plain_ticks(axes)
        if not drawn:
            note(axes, "nothing to show")
    if figure.x_log:
        low, high = grid[0, 0].get_xlim()
        shown = sorted({float(x) for panel in panels for one in panel.series for x in numbers(one.x, figure.x_unit)})
        if 1 < len(shown) <= _NAMED and all(x.is_integer() for x in shown):
            grid[0, 0].xaxis.set_major_locator(FixedLocator(shown))
            grid[0, 0].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        else:
            grid[0, 0].xaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 20 * low else (1,)))
            grid[0, 0].xaxis.set_major_formatter(_scientific)
        grid[0, 0].xaxis.set_minor_locator(NullLocator())
    elif all(float(x).is_integer() for panel in panels for one in panel.series for x in numbers(one.x, figure.x_unit)):
        grid[0, 0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    # A column that ends above the last row has its numbers under its own last panel.
    for column in range(across):
        last = max((r for r in range(rows) if r * across + column < len(panels)), default=0)
        grid[last, column].tick_params(labelbottom=True)
    canvas.supxlabel(line(with_unit(figure.x_label, figure.x_unit)), fontsize=9.5, color=INK)
    canvas.supylabel(line(with_unit(figure.y_label, figure.unit)), fontsize=9.5, color=INK)
    if not panels:
        note(grid[0, 0], "nothing to show")
    if handles:
        legend_above(canvas, list(handles.values()), list(handles), width)
    return canvas


def _plain_ticks(axes: Any) -> None:
    """Ticks of a logarithmic y axis at 1, 2 and 5 where few decades show, in plain numbers."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_major_formatter(_scientific)
    axes.yaxis.set_minor_locator(NullLocator())


def _scientific(value: float, _: object = None) -> str:
    """A tick that fits under a small panel: 0.0003 -> '3e-4', 0.1 -> '0.1'."""
    if 0.01 <= value < 1000:
        return f"{value:g}"
    digits, exponent = f"{value:.0e}".split("e")
    return f"{digits}e{int(exponent)}"
