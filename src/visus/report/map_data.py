"""What the page's script needs to draw maps: points, labels, names and thumbnails, each embedded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.figures import Map
from visus.report.gallery import checked_images
from visus.report.scatter import map_points
from visus.report.sprites import packed, sprite_sheet
from visus.report.text import clean

_NONE = 65_535  # a label that names no class
_FULL = 65_535  # coordinates run from 0 to this


class MapData:
    """Collects the maps of a page; what several share (thumbnails, ids, labels) is kept once."""

    def __init__(self) -> None:
        self._sheets: dict[
            int, int
        ] = {}  # which sheet shows the thumbnails of this id; they live as long as their result
        self._sprites: list[dict[str, Any]] = []
        self._shared: dict[Any, int] = {}
        self._pool: list[Any] = []
        self._links: dict[Any, int] = {}

    def add(self, figure: Map) -> dict[str, Any]:
        """One map for the script; 'link' is equal for maps whose point i is the same image. Raises DataError on bad data."""
        points, labels = map_points(figure)
        ids = tuple(clean(i) for i in figure.ids)
        sprite = None if figure.sprite is None else self._sheet(figure.sprite, figure.key)
        if sprite is not None and self._sprites[sprite]["count"] != len(points):
            raise DataError(
                f"figure {figure.key!r}: {len(points)} points but {self._sprites[sprite]['count']} thumbnails"
            )
        wide = np.where(labels < 0, _NONE, labels)
        return {
            "name": clean(figure.key),
            "points": packed(_quantised(points)),
            "labels": self._share(packed(wide)),
            "ids": self._share(ids),
            "sprite": sprite,
            "link": self._links.setdefault(sprite if sprite is not None else ids, len(self._links)),
            "count": len(points),
        }

    def payload(self, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Everything for the page's script. groups: maps with one legend, as the page shows them."""
        return {"sprites": self._sprites, "pool": self._pool, "groups": list(groups)}

    def _sheet(self, images: np.ndarray, key: str) -> int:
        """The number of the sheet that shows these thumbnails, made on their first use."""
        if id(images) not in self._sheets:
            checked = checked_images(images, key)
            sheet = sprite_sheet(checked) if len(checked) else {}
            self._sprites.append(sheet | {"count": len(images)})
            self._sheets[id(images)] = len(self._sprites) - 1
        return self._sheets[id(images)]

    def _share(self, value: Any) -> int:
        if value not in self._shared:
            self._shared[value] = len(self._pool)
            self._pool.append(value)
        return self._shared[value]


def _quantised(points: np.ndarray) -> np.ndarray:
    """Points on a square grid, uint16 [n, 2], proportions kept, y downwards; (65535, 65535) marks a point without a place."""
    grid = np.full(points.shape, _FULL, np.uint16)
    real = np.isfinite(points).all(1)
    if real.any():
        low, high = points[real].min(0), points[real].max(0)
        span = float((high - low).max()) or 1.0
        unit = (points[real] - (low + high) / 2) / span + 0.5
        unit[:, 1] = 1 - unit[:, 1]
        # One step below full, so that no real point reads as missing.
        grid[real] = np.clip(np.round(unit * (_FULL - 1)), 0, _FULL - 1).astype(np.uint16)
    return grid
