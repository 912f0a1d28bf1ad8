"""What the page's script needs to draw maps: points, labels, names and thumbnails, each embedded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.report.pictures import map_points, pictures_of
from visus.report.sprites import packed, sprite_sheet
from visus.report.text import clean
from visus.studies.common.schema1 import Figure

_NONE = 65_535  # a label that names no class
_FULL = 65_535  # coordinates run from 0 to this


class MapData:
    """Collects the maps of a page; what several share (thumbnails, ids, labels) is kept once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._sprites: dict[str, dict[str, Any]] = {}
        self._shared: dict[Any, int] = {}
        self._pool: list[Any] = []
        self._links: dict[Any, int] = {}

    def add(self, figure: Figure) -> dict[str, Any]:
        """One map for the script; 'link' is equal for maps whose point i is the same picture. Raises DataError on bad data."""
        data = figure.data
        points, labels = map_points(data, self._arrays)
        ids = tuple(clean(i) for i in data.get("ids") or ())
        sprite = data.get("sprite")
        if sprite is not None and sprite not in self._sprites:
            images = pictures_of(self._arrays, sprite)
            self._sprites[sprite] = sprite_sheet(images) if len(images) else {}
            self._sprites[sprite]["count"] = len(images)
        if sprite is not None and self._sprites[sprite]["count"] != len(points):
            raise DataError(
                f"figure {figure.name!r}: {len(points)} points but {self._sprites[sprite]['count']} thumbnails in {sprite!r}"
            )
        wide = np.where(labels < 0, _NONE, labels)
        return {
            "name": clean(figure.name),
            "points": packed(_quantised(points)),
            "labels": self._share(packed(wide)),
            "ids": self._share(ids),
            "sprite": None if sprite is None else clean(sprite),
            "link": self._links.setdefault(sprite if sprite is not None else ids, len(self._links)),
            "count": len(points),
        }

    def payload(self, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Everything for the page's script. groups: maps with one legend, as the page shows them."""
        return {"sprites": {clean(k): v for k, v in self._sprites.items()}, "pool": self._pool, "groups": list(groups)}

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
