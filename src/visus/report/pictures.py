"""Maps and galleries for paper: the same data as on the page, standing still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.errors import DataError
from visus.report.draw import draws, note
from visus.report.palette import INK, MUTED, class_style
from visus.report.text import line, shorten

_LISTED = 120  # classes that the legend beside a printed map has room for
_TRUST = {"trustworthiness": "trustworthiness", "neighbours_kept": "10 nearest neighbours kept"}


def array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The named array of the result; raises DataError when the result does not hold it."""
    if name not in arrays:
        raise DataError(f"a figure names the array {name!r}, which the result does not hold; it holds {sorted(arrays)}")
    return np.asarray(arrays[name])


def pictures_of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The named array as pictures, uint8 [n, h, w, 3]; raises DataError when it is something else."""
    found = array(arrays, name)
    if found.ndim != 4 or found.shape[3] != 3 or found.dtype != np.uint8 or 0 in found.shape[1:]:
        raise DataError(f"array {name!r} must be uint8 [n, height, width, 3], not {found.dtype} {list(found.shape)}")
    return found


def map_points(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A map's points, float64 [n, 2], and labels, int64 [n]; a label outside the classes becomes -1.

    Raises DataError when points, labels and ids differ in number.
    """
    points = array(arrays, data["points"]).astype(np.float64)
    labels = array(arrays, data["labels"]).astype(np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or len(labels) != len(points):
        raise DataError(
            f"map {data['points']!r}: points {list(points.shape)} and labels {list(labels.shape)} do not match"
        )
    ids = data.get("ids") or ()
    if ids and len(ids) != len(points):
        raise DataError(f"map {data['points']!r}: {len(points)} points but {len(ids)} ids")
    return points, np.where((labels >= 0) & (labels < len(data["classes"])), labels, -1)


def trust_line(trust: Mapping[str, Any] | None) -> str:
    """'trustworthiness 0.96 · 10 nearest neighbours kept 0.41': how far a map may be believed."""
    parts = []
    for name, value in (trust or {}).items():
        shown = f"{value:.2f}" if isinstance(value, int | float) and value == value else "–"
        parts.append(f"{_TRUST.get(name, line(name).replace('_', ' '))} {shown}")
    return " · ".join(parts)


@draws("map")
def point_map(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], width: float) -> Canvas:
    """A scatter by class with the legend beside it and the trust figures under it."""
    points, labels = map_points(data, arrays)
    classes: Sequence[str] = data["classes"]
    seen = [c for c in range(len(classes)) if (labels == c).any()]
    listed = seen[:_LISTED]
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
    axes.set_xlabel(trust_line(data.get("trust")), color=MUTED, fontsize=8.5)
    if not np.isfinite(points).all(1).any():
        note(axes, "no points to show")
    if listed:
        handles, names = axes.get_legend_handles_labels()
        title = f"{len(seen)} classes, the first {_LISTED} named" if len(seen) > _LISTED else None
        legend = canvas.legend(
            handles[: len(listed)], names[: len(listed)], loc="outside right upper", ncols=columns, title=title,
            fontsize=6 if small else 8, title_fontsize=8, handletextpad=0.2, columnspacing=0.8, labelspacing=0.35,
        )  # fmt: skip
        for handle in legend.legend_handles:
            handle.set_sizes([22])
            handle.set_alpha(1)
    return canvas


def gallery_rows(data: Mapping[str, Any], count: int) -> list[tuple[str | None, list[int]]]:
    """The gallery's rows: (name, image numbers), by group in order of first appearance, or all in one unnamed row.

    Raises DataError when captions or groups differ in number from the images.
    """
    captions, groups = data["captions"], data.get("groups")
    if len(captions) != count or (groups is not None and len(groups) != count):
        raise DataError(f"gallery {data['images']!r}: {count} images need as many captions and groups")
    if groups is None:
        return [(None, list(range(count)))] if count else []
    rows: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        rows.setdefault(line(group), []).append(i)
    return list(rows.items())


def columns_of(data: Mapping[str, Any]) -> int | None:
    """How many pictures stand in a row of the gallery, from 2 to 24; None: as many as fit."""
    asked = data.get("columns")
    return None if asked is None else min(max(int(asked), 2), 24)


@draws("gallery")
def gallery(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray], width: float) -> Canvas:
    """Pictures in rows, each with its caption; a group of its own row starts with its name."""
    images = pictures_of(arrays, data["images"])
    across = columns_of(data) or max(2, int(width / 1.15))
    step = min(width / across, 1.6)
    side = step * 0.9
    # A cell is the picture at its true proportions and two lines of caption under it.
    high = side * images.shape[1] / images.shape[2]
    placed: list[tuple[int, float, float]] = []
    titles: list[tuple[str, float]] = []
    y = 0.05
    for name, members in gallery_rows(data, len(images)):
        if name is not None:
            titles.append((name, y + 0.17))
            y += 0.27
        for k, i in enumerate(members):
            placed.append((i, (k % across) * step, y + (k // across) * (high + 0.42)))
        y += -(-len(members) // across) * (high + 0.42) + 0.06
    height = max(y, 0.6)
    canvas = Canvas((width, height))
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for i, x, top in placed:
        axes.imshow(images[i], extent=(x, x + side, top + high, top), interpolation="nearest", aspect="auto")
        caption = "\n".join(
            shorten(part, max(8, int(side / 0.066))) for part in str(data["captions"][i]).split("\n")[:2]
        )
        axes.text(x, top + high + 0.04, caption, fontsize=7.5, va="top", color=INK, linespacing=1.15)
    for name, at in titles:
        axes.text(0, at, shorten(name, int(width / 0.085)), fontsize=9.5, fontweight="bold", color=INK)
    # imshow moves the limits; set last, one unit an inch.
    axes.set_xlim(-0.03, width - 0.03)
    axes.set_ylim(height, 0)
    if not len(images):
        note(axes, "no pictures")
    return canvas
