"""A map for paper: the same data as on the page, standing still."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.errors import DataError
from visus.figures import Map
from visus.report.palette import MUTED, class_style
from visus.report.style import note
from visus.report.text import line, shorten

LISTED = 120  # classes that the legend beside a printed map has room for
_TRUST = {"trustworthiness": "trustworthiness", "neighbours_kept": "10 nearest neighbours kept"}


def map_points(figure: Map) -> tuple[np.ndarray, np.ndarray]:
    """A map's points, float64 [n, 2], and labels, int64 [n]; a label outside the classes becomes -1.

    Raises DataError when points, labels and ids differ in number.
    """
    points, labels = located(figure.key, figure.points, figure.labels, len(figure.classes))
    if figure.ids and len(figure.ids) != len(points):
        raise DataError(f"map {figure.key!r}: {len(points)} points but {len(figure.ids)} ids")
    return points, labels


def located(key: str, points: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """points as float64 [n, 2] and labels as int64 [n], -1 where they name none of the classes. Raises DataError, naming the figure `key`."""
    points, labels = points.astype(np.float64), labels.astype(np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise DataError(f"map {key!r}: points {list(points.shape)} and labels {list(labels.shape)} do not match")
    return points, np.where((labels >= 0) & (labels < classes), labels, -1)


def trust_texts(trust: Mapping[str, float | None], names: Mapping[str, str] = _TRUST) -> list[str]:
    """'trustworthiness 0.96' and '10 nearest neighbours kept 0.41': how far a map may be believed."""
    return [
        f"{names.get(name, line(name).replace('_', ' '))} {'–' if value is None else f'{value:.2f}'}"
        for name, value in trust.items()
    ]


def scatter(figure: Map, width: float) -> Canvas:
    """A scatter by class with the legend beside it and the trust figures under it."""
    points, labels = map_points(figure)
    classes = figure.classes
    seen = [c for c in range(len(classes)) if (labels == c).any()]
    listed = seen[:LISTED]
    columns = max(1, -(-len(listed) // 28))
    small = columns > 2
    beside = min(columns * (1.05 if small else 1.5), 0.55 * width) if listed else 0.2
    canvas = Canvas((width, max(width - beside, 0.45 * width) + 0.25), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(9000 / max(len(points), 1), 3, 22))
    if (labels == -1).any():
        axes.scatter(*points[labels == -1].T, s=size, c=MUTED, linewidths=0, alpha=0.4, rasterized=len(points) > 5000)
    for c in seen:
        colour, marker = class_style(c)
        axes.scatter(
            *points[labels == c].T, s=size, c=colour, marker=marker, linewidths=0, alpha=0.85,
            rasterized=len(points) > 5000, label=shorten(classes[c], 16 if small else 22),
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(" · ".join(trust_texts(figure.trust)), color=MUTED, fontsize=8.5)
    if not np.isfinite(points).all(1).any():
        note(axes, "no points to show")
    if listed:
        handles, names = axes.get_legend_handles_labels()
        title = f"{len(seen)} classes, the first {LISTED} named" if len(seen) > LISTED else None
        legend = canvas.legend(
            handles[: len(listed)], names[: len(listed)], loc="outside right upper", ncols=columns, title=title,
            fontsize=6 if small else 8, title_fontsize=8, handletextpad=0.2, columnspacing=0.8, labelspacing=0.35,
        )  # fmt: skip
        for handle in legend.legend_handles:
            handle.set_sizes([22])
            handle.set_alpha(1)
    return canvas
