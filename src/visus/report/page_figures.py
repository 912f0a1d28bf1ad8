"""Figures as the page's template reads them: drawn for the desk and for the phone, maps as data for the script, galleries as images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from visus.figures import Figure, Gallery, Map
from visus.report.draw import FORMATS, draw, to_bytes
from visus.report.faults import attempt
from visus.report.gallery import checked_images, columns_of, gallery_rows
from visus.report.map_data import MapData
from visus.report.scatter import map_points, trust_texts
from visus.report.sprites import image_uri
from visus.report.svg import inline
from visus.report.text import clean, line

_WIDE, _NARROW = 7.6, 4.1  # inches: a chart is drawn for the desk and for the phone

Block = dict[str, Any]


class PageFigures:
    """The figures of one page: numbered, the data of its maps collected, what could not be drawn noted in `faults`.

    files: the file name of each figure by its key, in reading order. linked: what lies beside the page ('figures/NAME.png'), None for
    a page that stands alone.
    """

    def __init__(self, files: Mapping[str, str], faults: list[str], *, linked: frozenset[str] | None) -> None:
        self._files = files
        self._numbers = {key: number for number, key in enumerate(files, 1)}
        self._faults, self._linked = faults, linked
        self._maps = MapData()
        self._groups: list[dict[str, Any]] = []
        self.shown: dict[str, tuple[str, str]] = {}  # by key: where it stands on the page, and what it is called

    def blocks(self, figures: Iterable[Figure]) -> list[Block]:
        """The figures of a section in order; maps in a row with equal classes share a legend."""
        blocks: list[Block] = []
        for figure in figures:
            file = self._files[figure.key]
            block = attempt(f"figure {file}", partial(self._block, figure), self._faults)
            if block is None:
                continue
            self.shown[figure.key] = f"#{block['id']}", f"figure {block['number']}"
            if isinstance(figure, Map):
                classes, one = block.pop("classes"), block.pop("map")
                if not (blocks and blocks[-1]["kind"] == "maps" and blocks[-1]["classes"] == classes):
                    blocks.append({"kind": "maps", "maps": [], "classes": classes, "group": len(self._groups)})
                    self._groups.append({"classes": classes, "maps": []})
                blocks[-1]["maps"].append(block)
                self._groups[-1]["maps"].append(one)
            else:
                blocks.append(block)
        return blocks

    def payload(self) -> dict[str, Any] | None:
        """What the page's script needs to draw the maps; None where there are none."""
        return self._maps.payload(self._groups) if self._groups else None

    def _block(self, figure: Figure) -> Block:
        """One figure as the template reads it. Raises whatever drawing it raises."""
        file, number = self._files[figure.key], self._numbers[figure.key]
        linked = self._linked or frozenset()
        block: Block = {
            "number": number,
            "id": f"figure-{file}",
            "title": clean(figure.title),
            "caption": clean(figure.caption),
            "file": file,
            "forms": [form for form in FORMATS if f"figures/{file}.{form}" in linked],
        }
        if isinstance(figure, Map):
            classes = [line(c) for c in figure.classes]
            more = {"trust": " · ".join(trust_texts(figure.trust)), "label": _map_label(figure)}
            return block | more | {"kind": "map", "classes": classes, "map": self._maps.add(figure)}
        if isinstance(figure, Gallery):
            return block | {"kind": "gallery"} | _gallery(figure)
        # One look for all that stands still.
        label = line(f"{figure.title or figure.key}. {figure.caption}")
        svgs = [
            (size, inline(to_bytes(draw(figure, width=width), "svg"), prefix=f"f{number}{size[0]}-", label=label))
            for size, width in (("wide", _WIDE), ("narrow", _NARROW))
        ]
        return block | {"kind": "chart", "svgs": svgs}


def _map_label(figure: Map) -> str:
    """What a screen reader says of a map."""
    points, labels = map_points(figure)
    seen = len(np.unique(labels[labels >= 0]))
    return line(
        f"{figure.title or figure.key}: map of {len(points)} images coloured by {seen} classes. {figure.caption}"
    )


def _gallery(figure: Gallery) -> dict[str, Any]:
    """The gallery's rows with its images as data URIs."""
    images, captions = checked_images(figure.images, figure.key), figure.captions
    rows = [
        (
            name,
            [{"src": image_uri(images[i]), "caption": clean(captions[i]), "alt": line(captions[i])} for i in members],
        )
        for name, members in gallery_rows(figure)
    ]
    return {
        "rows": rows,
        "pixelated": max(images.shape[1:3]) <= 64,
        "columns": columns_of(figure),
        "size": f"{images.shape[2]} {images.shape[1]}".split(),
    }
