"""Colours and markers that colour-blind readers can tell apart, for matplotlib, for the page's SVG and for its maps."""

from __future__ import annotations

INK, MUTED, GRID, PAPER = "#1c2024", "#5f6770", "#e1e4e8", "#fefefe"

# Okabe and Ito 2008 without black; its yellow darkened to be seen on white; then violet, grey and wine.
SERIES = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b3a125", "#7a5ea8", "#808589", "#8c2d5a",
)  # fmt: skip
# The same hues lifted for dark paper.
SERIES_DARK = (
    "#4aa3df", "#f0b13c", "#2fc79a", "#dd94ba", "#f2803a", "#86caf2", "#d6c548", "#a990d8", "#a3a9af", "#d4709d",
)  # fmt: skip
# matplotlib's names; page.js draws the same shapes in the same order.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--c{i}" for i, colour in enumerate(SERIES)},
}


def series(index: int) -> tuple[str, str]:
    """Colour and marker of the index-th group: a hundred pairs that all differ, shape changing from the first."""
    return SERIES[index % len(SERIES)], MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def class_style(index: int) -> tuple[str, str]:
    """Colour and marker of the index-th class on a map: circles while colours last, then the next shape."""
    return SERIES[index % len(SERIES)], MARKERS[index // len(SERIES) % len(MARKERS)]
