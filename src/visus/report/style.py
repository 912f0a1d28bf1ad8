"""The journal look of every chart, and what all charts share: numbers as drawn, quiet notes, legends above the plot."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import fontManager

from visus.formats import factor
from visus.report.palette import GRID, INK, MUTED, PAPER

CHARACTER = 0.078  # inches: the mean width of a character at the size of tick labels
# Scripts that DejaVu Sans lacks; those that this machine has are used.
_FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS", "WenQuanYi Zen Hei", "Symbola",
)  # fmt: skip
# matplotlib's settings belong to the process: one figure is drawn at a time.
_LOCK = threading.RLock()


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
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
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
    known = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in known)]


def numbers(values: Iterable[float | None], unit: str = "") -> np.ndarray:
    """Numbers of a figure as they are drawn, float64 [n]: shares and points in percent; None and infinities become NaN, a gap."""
    array = np.array([np.nan if v is None else v for v in values], dtype=np.float64) * factor(unit)
    array[~np.isfinite(array)] = np.nan
    return array


def note(axes: Any, text: str) -> None:
    """Write a quiet line in the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def legend_above(canvas: Canvas, handles: Sequence[Any], labels: Sequence[str], width: float) -> None:
    """A legend above the plots of a figure `width` inches wide, in as many columns as fit."""
    room = int((width - 0.6) / (max(map(len, labels)) * CHARACTER + 0.5))
    canvas.legend(handles, labels, loc="outside upper left", ncols=max(1, min(room, len(labels), 5)))
