"""Images with their captions, in rows."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.errors import DataError
from visus.figures import Gallery
from visus.report.palette import INK
from visus.report.style import note
from visus.report.text import line, shorten


def checked_images(images: np.ndarray, key: str) -> np.ndarray:
    """The images of the figure `key`; raises DataError when they are not uint8 [n, h, w, 3]."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or 0 in images.shape[1:]:
        raise DataError(
            f"figure {key!r}: images must be uint8 [n, height, width, 3], not {images.dtype} {list(images.shape)}"
        )
    return images


def gallery_rows(figure: Gallery) -> list[tuple[str | None, list[int]]]:
    """The gallery's rows: (name, image numbers), by group in order of first appearance, or all in one unnamed row.

    Raises DataError when captions or groups differ in number from the images.
    """
    count, groups = len(figure.images), figure.groups
    if len(figure.captions) != count or (groups is not None and len(groups) != count):
        raise DataError(f"gallery {figure.key!r}: {count} images need as many captions and groups")
    if groups is None:
        return [(None, list(range(count)))] if count else []
    rows: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        rows.setdefault(line(group), []).append(i)
    return list(rows.items())


def columns_of(figure: Gallery) -> int | None:
    """How many images stand in a row of the gallery, from 2 to 24; None: as many as fit."""
    return None if figure.columns is None else min(max(figure.columns, 2), 24)


def gallery(figure: Gallery, width: float) -> Canvas:
    """Images in rows, each with its caption; a group of its own row starts with its name."""
    images = checked_images(figure.images, figure.key)
    across = columns_of(figure) or max(2, int(width / 1.15))
    step = min(width / across, 1.6)
    side = step * 0.9
    # A cell is the image at its true proportions and two lines of caption under it.
    high = side * images.shape[1] / images.shape[2]
    placed: list[tuple[int, float, float]] = []
    titles: list[tuple[str, float]] = []
    y = 0.05
    for name, members in gallery_rows(figure):
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
        caption = "\n".join(shorten(part, max(8, int(side / 0.066))) for part in figure.captions[i].split("\n")[:2])
        axes.text(x, top + high + 0.04, caption, fontsize=7.5, va="top", color=INK, linespacing=1.15)
    for name, at in titles:
        axes.text(0, at, shorten(name, int(width / 0.085)), fontsize=9.5, fontweight="bold", color=INK)
    # imshow moves the limits; set last, one unit an inch.
    axes.set_xlim(-0.03, width - 0.03)
    axes.set_ylim(height, 0)
    if not len(images):
        note(axes, "no images")
    return canvas
