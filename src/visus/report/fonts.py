"""Fonts for PDF files, without what only shaping text needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fontTools import subset

# matplotlib has chosen and placed every glyph by then, and a reader of PDF takes none of these from an embedded font (PDF 1.7, 9.9).
# Cutting them down to the glyphs of a figure is what embedding a font costs.
_SHAPING = ("GSUB", "GPOS", "GDEF", "kern", "MATH", "BASE", "JSTF")


@contextmanager
def lean_fonts() -> Iterator[None]:
    """Let fonts be embedded (TrueType, text stays text) without their tables for shaping. To be used inside `style`, one thread at a time."""
    load = subset.load_font

    def lean(*args: Any, **kwargs: Any) -> Any:
        font = load(*args, **kwargs)
        for table in _SHAPING:
            if table in font:
                del font[table]
        return font

    subset.load_font = lean
    try:
        yield
    finally:
        subset.load_font = load
