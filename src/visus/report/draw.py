"""Figures as data -> matplotlib figures -> bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Literal

from matplotlib.figure import Figure as Canvas

from visus.errors import DataError
from visus.figures import Curves, Figure, Front, Gallery, Heatmap, Intervals, Lines, Map, Maps
from visus.report.charts import intervals, lines
from visus.report.curves import curves
from visus.report.fonts import lean_fonts
from visus.report.front import front
from visus.report.gallery import gallery
from visus.report.heatmap import heatmap
from visus.report.scatter import scatter
from visus.report.scatter_grid import scatter_grid
from visus.report.style import style

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
WIDTH = 7.2  # inches: the text width of a page
DPI = 200
_LONGEST_SIDE = 30_000  # pixels; Agg refuses 2**16 and viewers long before

# One function draws one kind, from the figure alone: (figure, width in inches) -> a matplotlib figure.
DRAW: Mapping[type[Figure], Callable[[Any, float], Canvas]] = {
    Intervals: intervals,
    Lines: lines,
    Curves: curves,
    Heatmap: heatmap,
    Front: front,
    Map: scatter,
    Maps: scatter_grid,
    Gallery: gallery,
}


def draw(figure: Figure, *, width: float = WIDTH) -> Canvas:
    """Draw a figure `width` inches wide. Raises DataError, naming the figure, when its kind or its data cannot be drawn."""
    if type(figure) not in DRAW:
        known = ", ".join(kind.__name__ for kind in DRAW)
        raise DataError(
            f"figure {figure.key!r} is a {type(figure).__name__}, which nothing draws; known kinds: {known}"
        )
    with style():
        return _laid_out(DRAW[type(figure)](figure, width))


def _laid_out(canvas: Canvas) -> Canvas:
    """The same, every artist in its place: left on, the layout would be found anew, by a whole drawing more, for each file of the figure."""
    engine = canvas.get_layout_engine()
    if engine is not None:
        engine.execute(canvas)
        canvas.set_layout_engine(None)
    return canvas


def to_bytes(canvas: Canvas, form: Format) -> bytes:
    """The drawn figure as a PNG (200 dpi, white), SVG (text as text, transparent) or PDF file; the same bytes each time."""
    buffer = io.BytesIO()
    dpi = min(DPI, _LONGEST_SIDE / max(canvas.get_size_inches()))
    stamps: dict[Format, dict[str, Any]] = {
        "png": {"Software": "visus"},
        "svg": {"Date": None, "Creator": "visus", "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Creator": "visus", "Producer": "visus"},
    }
    with style(), lean_fonts():
        canvas.savefig(
            buffer, format=form, dpi=dpi, metadata=stamps[form], transparent=form == "svg", facecolor="none" if form == "svg" else "white"
        )  # fmt: skip
    return buffer.getvalue()
