"""What each choice costs against what it is worth: points with whiskers, labelled where there is room, and their front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, NullLocator

from visus.figures import Front
from visus.formats import with_unit
from visus.report.palette import INK, MUTED, PAPER, series
from visus.report.style import legend_above, note, numbers
from visus.report.text import line, shorten

_SIDE_BY_SIDE = 5.5  # inches from which panels stand beside each other
_MARKER = 4.5  # points: half a marker and the air around it
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# Where a label may stand, as (x, y) direction and (ha, va); the nearest free place wins, in this order.
_PLACES = (
    (1, 0, "left", "center"), (-1, 0, "right", "center"), (0.8, 0.8, "left", "bottom"), (0.8, -0.8, "left", "top"),
    (-0.8, 0.8, "right", "bottom"), (-0.8, -0.8, "right", "top"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
)  # fmt: skip
_RINGS = (7, 15, 25, 37, 52)  # points between the marker and its label

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def front(figure: Front, width: float) -> Canvas:
    """A panel for each cost, sharing y: side by side where there is room, else one under the other."""
    panels, points = figure.panels, figure.points
    beside = width >= _SIDE_BY_SIDE and len(panels) > 1
    shape = (1, max(len(panels), 1)) if beside else (max(len(panels), 1), 1)
    tall = 3.7 if beside else min(max(0.55 * width, 2.9), 3.9)
    canvas = Canvas((width, tall * shape[0] + 0.35), layout="constrained")
    grid = canvas.subplots(*shape, sharey=True, squeeze=False).ravel()
    groups = list(dict.fromkeys(line(p.group) for p in points))
    y, low, high = (numbers([getattr(p, name) for p in points], figure.unit) for name in ("y", "low", "high"))
    handles: dict[str, Any] = {}
    shown = []
    for index, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
        x = numbers(panel.x)
        x[~(x > 0)] = np.nan
        keep = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        axes.set_xscale("log")
        axes.margins(y=0.1)
        axes.grid(axis="y")
        axes.set_xlabel(line(panel.x_label))
        if not beside or index == 0:
            axes.set_ylabel(line(with_unit(figure.y_label, figure.unit)))
        if not len(keep):
            axes.set_xticks([])
            note(axes, "nothing to show")
            continue
        _ticks(axes, x[keep], si=panel.si)
        steps = _steps(axes, x[keep], y[keep], np.array(panel.front, bool)[keep])
        if steps is not None:
            handles.setdefault("Pareto front", steps)
        for i in keep:
            colour, marker = series(groups.index(line(points[i].group)))
            axes.plot((x[i], x[i]), (low[i], high[i]), color=colour, lw=1.6, solid_capstyle="butt", zorder=2)
            (point,) = axes.plot(x[i], y[i], marker, color=colour, ms=7, mec=PAPER, mew=0.8, zorder=3)
            if len(groups) > 1:
                handles.setdefault(shorten(points[i].group, 48), point)
        shown.append((axes, panel, x, keep))
    if handles:
        legend_above(canvas, list(handles.values()), list(handles), width)
    # Labels are placed in pixels, which are known once the layout is; after that it must not move.
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    for axes, panel, x, keep in shown:
        on = np.array(panel.front, bool)[keep]
        _label(axes, [shorten(points[i].label, 22) for i in keep], x[keep], y[keep], low[keep], high[keep], on)
    return canvas


def _ticks(axes: Any, x: np.ndarray, *, si: bool) -> None:
    """Limits with room for labels at both ends, and ticks that people read: at least two, at 1, or at 1, 2, 5 where few decades show."""
    decades = float(np.log10(x.max() / x.min()))
    room = max(0.16 * decades, 0.35)
    low, high = x.min() / 10**room, x.max() * 10**room
    axes.set_xlim(low, high)
    shown = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    span = decades + 2 * room
    among = (1, 2, 5) if span < 2.5 else (1,)
    every = max(1, int(np.ceil(span / 5)))
    ticks = [m * 10.0**e for e in shown if e % every == 0 for m in among if low <= m * 10.0**e <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [_quantity(t) if si else f"{t:,.0f}" if t >= 1 else f"{t:g}" for t in ticks])


def _quantity(value: float) -> str:
    """2e12 -> '2 T'."""
    for size, prefix in _PREFIXES:
        if value >= size * (1 - 1e-9):
            return f"{value / size:g} {prefix}"
    return f"{value:g}"


def _steps(axes: Any, x: np.ndarray, y: np.ndarray, on: np.ndarray) -> Any:
    """The front as a step line from its cheapest point to the right edge: the most that this much buys. None for one point."""
    if len(x) < 2 or not on.any():
        return None
    order = np.argsort(x[on], kind="stable")
    at, value = x[on][order], y[on][order]
    at, value = np.append(at, axes.get_xlim()[1]), np.append(value, value[-1])
    (handle,) = axes.plot(at, value, color=MUTED, lw=1.1, ls=(0, (4, 3)), drawstyle="steps-post", zorder=1)
    return handle


def _label(
    axes: Any, texts: Sequence[str], x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, on: np.ndarray
) -> None:
    """Put each text where it covers least, from left to right; a text that had to move away
    keeps a thin line to its point, but for one above or below, whose whisker leads to it."""
    pixel = axes.figure.dpi / 72
    centre = axes.transData.transform(np.column_stack([x, y]))
    ends = [axes.transData.transform(np.column_stack([x, np.where(np.isfinite(v), v, y)]))[:, 1] for v in (low, high)]
    r = _MARKER * pixel
    markers: list[Box] = [(cx - r, cy - r, cx + r, cy + r) for cx, cy in centre]
    stems: list[Box] = [(cx, min(a, cy), cx, max(b, cy)) for (cx, cy), a, b in zip(centre, *ends, strict=True)]
    lines: list[Box] = [(cx - pixel, a, cx + pixel, b) for (cx, _), a, b in zip(centre, *ends, strict=True)]
    lines += _step_boxes(centre[on], float(axes.bbox.x1), pixel)
    frame: Box = (axes.bbox.x0, axes.bbox.y0, axes.bbox.x1, axes.bbox.y1)
    chosen: dict[int, tuple[int, int, Box]] = {}
    # Placed from left to right, then each once more, knowing where all others went.
    for i in [*np.argsort(centre[:, 0], kind="stable")] * 3:
        text = axes.text(x[i], y[i], texts[i], fontsize=8.5)
        size = text.get_window_extent()
        text.remove()
        placed = [box for j, (*_, box) in chosen.items() if j != i]
        # The page sets its own font, which may run wider.
        spots = [(ring, place, _box(centre[i], place, _RINGS[ring] * pixel, 1.08 * size.width, size.height))
                 for ring in range(len(_RINGS)) for place in range(len(_PLACES))]  # fmt: skip
        chosen[i] = min(spots, key=lambda spot: _cost(spot, i, frame, placed, markers, lines, stems))
    for i, (ring, place, _) in chosen.items():
        dx, dy, ha, va = _PLACES[place]
        axes.annotate(
            texts[i], (x[i], y[i]), xytext=(dx * _RINGS[ring], dy * _RINGS[ring]), textcoords="offset points", ha=ha, va=va,
            fontsize=8.5, color=INK, zorder=5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": MUTED, "shrinkA": 1, "shrinkB": _MARKER} if ring and dx else None,
        )  # fmt: skip


def _box(centre: np.ndarray, place: int, distance: float, wide: float, tall: float) -> Box:
    """The pixels that a text of this size covers when it stands at that place of a point."""
    dx, dy, ha, va = _PLACES[place]
    left = float(centre[0]) + dx * distance - {"left": 0.0, "center": 0.5, "right": 1.0}[ha] * wide
    bottom = float(centre[1]) + dy * distance - {"bottom": 0.0, "center": 0.5, "top": 1.0}[va] * tall
    return left, bottom, left + wide, bottom + tall


def _cost(
    spot: tuple[int, int, Box],
    own: int,
    frame: Box,
    placed: Sequence[Box],
    markers: Sequence[Box],
    lines: Sequence[Box],
    stems: Sequence[Box],
) -> float:
    """How bad a place is: leaving the axes, covering texts, markers, whiskers and the front, in this order; then distance.

    A text that stands almost as near to another whisker as to its own (number `own`) would be read as that one's name.
    """
    ring, place, box = spot
    area = (box[2] - box[0]) * (box[3] - box[1])
    covered = 30 * (area - _overlap(box, frame))
    for weight, others in ((30, placed), (25, markers), (15, lines)):
        covered += weight * sum(_overlap(box, other) for other in others)
    mine = _distance(box, stems[own])
    away = [_distance(box, other) for i, other in enumerate(stems) if i != own]
    strangers = sum(0.6 * (d < 1.6 * mine) + 1.4 * (d < mine + 1) for d in away)
    return covered / area + strangers + 0.25 * ring + 0.02 * place


def _overlap(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _distance(a: Box, b: Box) -> float:
    return float(np.hypot(max(a[0] - b[2], b[0] - a[2], 0.0), max(a[1] - b[3], b[1] - a[3], 0.0)))


def _step_boxes(on: np.ndarray, right: float, pixel: float) -> list[Box]:
    """The front's lines as thin boxes; on: [n, 2] pixels of its points."""
    points = on[np.argsort(on[:, 0], kind="stable")]
    boxes: list[Box] = []
    for i, (cx, cy) in enumerate(points):
        until, above = points[i + 1] if i + 1 < len(points) else (right, cy)
        boxes += [(cx, cy - pixel, until, cy + pixel), (until - pixel, min(cy, above), until + pixel, max(cy, above))]
    return boxes
