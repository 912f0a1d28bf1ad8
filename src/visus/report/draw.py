"""Figures as data -> matplotlib figures -> bytes. Each kind has one drawing function, found by name in `DRAW`."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas

from visus.errors import DataError
from visus.report.palette import GRID, INK, MUTED, PAPER
from visus.studies.common.schema1 import Figure

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
Draw = Callable[[Mapping[str, Any], Mapping[str, np.ndarray], float], Canvas]
DRAW: dict[str, Draw] = {}
WIDTH = 7.2  # inches: the text width of a page
DPI = 200
_LONGEST_SIDE = 30_000  # pixels; Agg refuses 2**16 and viewers long before
# Scripts that DejaVu Sans lacks; those that this machine has are used.
_FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS", "WenQuanYi Zen Hei", "Symbola",
)  # fmt: skip
# matplotlib's settings belong to the process: one figure is drawn at a time.
_LOCK = threading.RLock()


def draws(kind: str) -> Callable[[Draw], Draw]:
    """Register a function as the one that draws figures of this kind."""

    def register(function: Draw) -> Draw:
        DRAW[kind] = function
        return function

    return register


def draw(figure: Figure, arrays: Mapping[str, np.ndarray], *, width: float = WIDTH) -> Canvas:
    """Draw a figure `width` inches wide. Raises DataError, naming the figure, when its kind or its data cannot be drawn."""
    # Imported for their registration, and here because they import this module.
    from visus.report import charts, curves, front, multiples, pictures  # noqa: F401

    if figure.kind not in DRAW:
        raise DataError(
            f"figure {figure.name!r} is of unknown kind {figure.kind!r}; known kinds: {', '.join(sorted(DRAW))}"
        )
    try:
        with style():
            return DRAW[figure.kind](figure.data, arrays, width)
    except KeyError as error:
        raise DataError(f"figure {figure.name!r} ({figure.kind}) lacks {error}; see visus.result.Figure") from error


def to_bytes(canvas: Canvas, form: Format) -> bytes:
    """The drawn figure as a PNG (200 dpi, white), SVG (text as text, transparent) or PDF file; the same bytes each time."""
    buffer = io.BytesIO()
    dpi = min(DPI, _LONGEST_SIDE / max(canvas.get_size_inches()))
    stamps: dict[Format, dict[str, Any]] = {
        "png": {"Software": "visus"},
        "svg": {"Date": None, "Creator": "visus", "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Creator": "visus", "Producer": "visus"},
    }
    with style():
        canvas.savefig(
            buffer, format=form, dpi=dpi, metadata=stamps[form], transparent=form == "svg", facecolor="none" if form == "svg" else "white"
        )  # fmt: skip
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The journal look, without touching anybody else's matplotlib: settings come back, missing glyphs are not news."""
    settings = {
        "font.family": _fonts(),
        "font.size": 9.5,
        "axes.labelsize": 9.5,
        "axes.titlesize": 10,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "text.color": INK,
        "text.parse_math": False,
        "text.usetex": False,
        "axes.unicode_minus": True,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "axes.formatter.useoffset": False,
        "axes.formatter.use_mathtext": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.6,
        "patch.edgecolor": PAPER,
        "svg.fonttype": "none",
        "svg.hashsalt": "visus",
        "svg.image_inline": True,
        "pdf.fonttype": 42,
        "path.simplify": True,
    }
    fonts = logging.getLogger("matplotlib.font_manager")
    subset = logging.getLogger("fontTools")
    with _LOCK, matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        warnings.filterwarnings("ignore", message=r".*constrained_layout not applied.*")
        warnings.filterwarnings("ignore", message=r".*Attempt to set non-positive .*lim on a log-scaled axis.*")
        warnings.filterwarnings("ignore", message=r"Data has no positive values.*")
        levels = fonts.level, subset.level
        fonts.setLevel(logging.ERROR)
        subset.setLevel(logging.ERROR)
        try:
            yield
        finally:
            fonts.setLevel(levels[0])
            subset.setLevel(levels[1])


@cache
def _fonts() -> list[str]:
    """DejaVu Sans, which ships with matplotlib, and whichever fallbacks this machine has."""
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in known)]


def numbers(values: Any) -> np.ndarray:
    """A sequence of numbers as float64 [n]; None and infinities become NaN, which is drawn as a gap."""
    array = np.array([np.nan if v is None else v for v in values] if values is not None else [], dtype=np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


def note(axes: Any, text: str) -> None:
    """Write a quiet line in the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
