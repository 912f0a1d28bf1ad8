"""A matrix in colour."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure as Canvas

from visus.figures import Heatmap
from visus.formats import SCALED, SCALED_DIGITS, with_unit
from visus.luma import luma
from visus.report.palette import GRID, INK, MUTED, PAPER
from visus.report.style import CHARACTER, note, numbers
from visus.report.text import line, shorten


def heatmap(figure: Heatmap, width: float) -> Canvas:
    """A matrix in colour, its numbers printed while they fit; missing cells stay empty with a dash."""
    rows = [shorten(r, 26) for r in figure.rows]
    columns = [shorten(c, 26) for c in figure.columns]
    values = np.array([numbers(row, figure.unit) for row in figure.values], dtype=np.float64).reshape(
        len(rows), len(columns)
    )
    left = min(max(map(len, rows), default=1) * CHARACTER + 0.3, 0.45 * width)
    cell = (width - left - 0.9) / max(len(columns), 1)
    tilt = max(map(len, columns), default=1) * CHARACTER > cell
    below = min(max(map(len, columns), default=1) * CHARACTER, 2.2) * 0.8 + 0.2 if tilt else 0.35
    tall = min(max(cell if len(columns) > 2 else 0.4, 0.3 if len(rows) <= 40 else 0.16), 0.75)
    canvas = Canvas((width, min(tall * max(len(rows), 1) + below + 0.2, 20)), layout="constrained")
    axes = canvas.add_subplot()
    finite = values[np.isfinite(values)]
    if not finite.size:
        note(axes, "nothing to show")
        axes.set_axis_off()
        return canvas
    low, high = numbers([figure.low, figure.high], figure.unit)
    low, high = finite.min() if np.isnan(low) else low, finite.max() if np.isnan(high) else high
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
        digits = SCALED_DIGITS if figure.unit in SCALED else 2 if np.abs(finite).max() < 100 else 0
        for (i, j), value in np.ndenumerate(values):
            shown = f"{value:.{digits}f}" if np.isfinite(value) else "–"
            colour = colours((value - low) / (high - low)) if np.isfinite(value) else (1, 1, 1, 1)
            # These two are not swapped for the theme: what matters is the cell behind them.
            dark = luma(np.array(colour[:3], np.float64)) < 0.53
            ink = MUTED if not np.isfinite(value) else "#fbfbfc" if dark else "#101214"
            axes.text(j + 0.5, i + 0.5, shown, ha="center", va="center", color=ink, fontsize=8.5 if cell >= 0.45 else 7)
    bar = canvas.colorbar(
        mesh, ax=axes, label=line(with_unit(figure.label, figure.unit)), fraction=0.04, pad=0.02, aspect=30
    )
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
