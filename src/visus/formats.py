"""Numbers as people read them. Data holds fractions; percent and points are made here and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np

SHARE, POINTS = "share", "points"  # units: a proportion in [0, 1], and a difference of two of them
SCALED = {
    SHARE: ("%", 100.0),
    POINTS: ("points", 100.0),
}  # what is written behind a number of that unit, and its factor
DIGITS, SCALED_DIGITS = 3, 1


def percent(value: float, digits: int = 1) -> str:
    """0.8312 -> '83.1 %'."""
    return f"{100 * value:.{digits}f} %"


def interval_text(low: float, high: float) -> str:
    """The interval of a proportion: '95 % interval 81.0 to 85.2 %'."""
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"


def signed(value: float, digits: int = 1) -> str:
    """2.13 -> '+2.1'; what rounds to nought has no minus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def points_text(difference: float, low: float, high: float) -> str:
    """The difference of two proportions with its interval: '+2.1 points, 95 % interval -0.3 to +4.5'."""
    return f"{signed(100 * difference)} points, 95 % interval {signed(100 * low)} to {signed(100 * high)}"


def factor(unit: str) -> float:
    """What a number of data is multiplied by where it is written: 100 for shares and points."""
    return SCALED[unit][1] if unit in SCALED else 1.0


def scaled(value: Any, unit: str) -> Any:
    """A number of data as it is written: shares and points times 100; whatever is no number comes back as it is."""
    if unit not in SCALED or isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return value
    return factor(unit) * float(value)


def unit_text(unit: str) -> str:
    """A unit as it is written: '%' for shares, 'points', 's'."""
    return SCALED[unit][0] if unit in SCALED else unit


def with_unit(label: str, unit: str) -> str:
    """A column's or axis's name with its unit: 'accuracy, %', 'time, s'."""
    written = unit_text(unit)
    return f"{label}, {written}" if written and label else label or written


def format_cell(cell: Any, digits: int | None = None, unit: str = "") -> str:
    """A table cell as people read it: shares and points as percent, floats with `digits` decimals (default 3; 1 for shares and points),
    None and NaN as a dash, thousands separated."""
    cell = scaled(cell, unit)
    if digits is None:
        digits = SCALED_DIGITS if unit in SCALED else DIGITS
    if cell is None or (isinstance(cell, float | np.floating) and cell != cell):
        return "–"
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, int | np.integer):
        return f"{int(cell):,}"
    if isinstance(cell, float | np.floating):
        small = cell != 0 and abs(cell) < 0.5 * 10**-digits and unit not in SCALED
        return f"{float(cell):.1e}" if small else f"{float(cell):.{digits}f}"
    return str(cell)


def short_number(value: float | None, unit: str = "") -> str:
    """A number that stands alone: shares and points as in a table, others with three digits ('0.123', '12.0', '4,812')."""
    if value is None or unit in SCALED:
        return format_cell(value, unit=unit)
    size = abs(value)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{digits}f}" if size >= 0.0005 or size == 0 else format_cell(value)
