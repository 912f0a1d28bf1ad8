"""Galleries of a VAE study, row by row, and the columns that its tables share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import Gallery
from visus.result import Column
from visus.studies.vae.inputs import as_rgb

NAME = Column("vae", "VAE")


def nats(key: str, label: str, digits: int = 2) -> Column:
    """A column of nats per image."""
    return Column(key, label, "nats", digits)


@dataclass(frozen=True)
class ImageRow:
    """A row of images, uint8 [n, h, w, c], under a name. values: a number an image, or none."""

    name: str
    images: np.ndarray
    values: tuple[float, ...] = ()


def gallery(key: str, title: str, caption: str, rows: Sequence[tuple[ImageRow, Sequence[str]]]) -> Gallery:
    """A gallery of rows with their captions (none where there are none to give)."""
    return Gallery(
        key=key,
        title=title,
        caption=caption,
        images=np.concatenate([as_rgb(row.images) for row, _ in rows]),
        captions=[text for row, texts in rows for text in texts or [""] * len(row.images)],
        groups=[row.name for row, _ in rows for _ in row.images],
        columns=max(len(row.images) for row, _ in rows),
    )
