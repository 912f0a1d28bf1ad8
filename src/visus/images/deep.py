"""Pictures of more than 8 bits: which values are black and white, by one rule for all pictures of a set.

Most 16-bit files hold 10, 12 or 14 bits, and few say so. A file that says what white is, is taken at its word. The others are
judged together, by the smallest and the largest value among all deep pictures of the set, so that a dark picture stays darker than its
neighbours. `limits` is the whole rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BITS = (8, 10, 12, 14, 16)
FLAT = 1 / 8  # of the scale: what uses less of it comes out as one grey
RARE = 1e-3  # of all values: so few of them do not make a picture


@dataclass(frozen=True)
class Deep:
    """Values of more than 8 bits. values: [h, w], [h, w, 3] or, with alpha, [h, w, 2] or [h, w, 4]; NaN where there is none.

    limits: (black, white) where the file says what they are. inverted: black is white.
    """

    values: np.ndarray
    limits: tuple[float, float] | None = None
    inverted: bool = False
    floating: bool = False

    @property
    def plain(self) -> bool:
        """Whether the values are bytes already, to be shown as they are."""
        return self.values.dtype == np.uint8 and self.limits is None and not self.inverted

    @property
    def alpha(self) -> np.ndarray | None:
        """The last of two or four channels."""
        return self.values[..., -1] if self.values.ndim == 3 and self.values.shape[2] in (2, 4) else None

    @property
    def light(self) -> np.ndarray:
        """Everything but alpha."""
        return self.values if self.alpha is None else self.values[..., :-1]

    def range(self) -> ValueRange:
        """The smallest and largest value, without alpha; an empty range where the file says what black and white are."""
        if self.limits is not None:
            return ValueRange()
        finite = self.light[np.isfinite(self.light)] if self.light.dtype.kind == "f" else self.light
        finite = finite.astype(np.float32) if finite.dtype == np.float16 else finite  # which does not hold 65,535
        if not finite.size:
            return ValueRange()
        found = (float(finite.min()), float(finite.max()))
        above = tuple(int(np.count_nonzero(finite > 2**b - 1)) for b in BITS)
        whole, floats = (None, found) if self.floating else (found, None)
        return ValueRange(whole, floats, 1, int(finite.size), above)

    def to_bytes(self, known: ValueRange | None) -> np.ndarray:
        """uint8 of the same shape (grey with alpha as [h, w, 4]). known: of the set; None: this picture stands alone."""
        black, white = self.limits or limits_of(known or self.range(), floating=self.floating) or (0.0, 1.0)
        out = _scaled(self.light, black, white)
        if self.inverted:
            out = 255 - out
            out[np.isnan(self.light)] = 0  # what is no number is black either way
        if self.alpha is None:
            return out
        top = limits(0.0, float(np.nanmax(self.alpha)), floating=self.floating)[1]
        colour = np.repeat(out, 3, axis=2) if out.shape[2] == 1 else out
        return np.dstack([colour, _scaled(self.alpha, 0.0, top)])


@dataclass(frozen=True)
class ValueRange:
    """Smallest and largest values of deep pictures. whole: of integers, floats: of floats, None where there were none. values: how many
    there are; above: how many of them exceed each of BITS."""

    whole: tuple[float, float] | None = None
    floats: tuple[float, float] | None = None
    pictures: int = 0
    values: int = 0
    above: tuple[int, ...] = (0,) * len(BITS)

    def words(self) -> str:
        """What was taken, for the page."""
        said = []
        for found, floating in ((self.whole, False), (self.floats, True)):
            if found is None:
                continue
            black, white = limits(*found, floating=floating)
            kind = "floats" if floating else "integers of more than 8 bits"
            bits = "" if floating or black else f" ({math.ceil(math.log2(white + 1))} bits)"
            said.append(
                f"{kind} from {found[0]:,.6g} to {found[1]:,.6g}, so that {black:,.6g} is black and {white:,.6g} white{bits}"
            )
        return "; ".join(said)

    def flat(self) -> bool:
        """Whether the values use so little of the scale that the pictures come out as one grey."""
        found = [(pair, limits(*pair, floating=f)) for pair, f in ((self.whole, False), (self.floats, True)) if pair]
        return any(high > low and high - low < FLAT * (white - black) for (low, high), (black, white) in found)

    def outliers(self) -> tuple[int, int] | None:
        """(how many values exceed, these bits) where a handful alone make the scale, and all others come out nearly black."""
        tops = [limits(*pair, floating=f) for pair, f in ((self.whole, False), (self.floats, True)) if pair]
        white = max((w for black, w in tops if black == 0), default=0.0)
        for bits, n in zip(BITS, self.above, strict=True):
            if 0 < n <= RARE * self.values and 2**bits - 1 < FLAT * white:
                return n, bits
        return None


def merge_ranges(ranges: Iterable[ValueRange]) -> ValueRange:
    """The range of all pictures together."""
    whole: tuple[float, float] | None = None
    floats: tuple[float, float] | None = None
    n, values, above = 0, 0, np.zeros(len(BITS), np.int64)
    for r in ranges:
        n, values, above = n + r.pictures, values + r.values, above + np.array(r.above, np.int64)
        whole, floats = _wider(whole, r.whole), _wider(floats, r.floats)
    return ValueRange(whole, floats, n, values, tuple(above.tolist()))


def limits(low: float, high: float, *, floating: bool) -> tuple[float, float]:
    """Which values are black and white, where values go from `low` to `high`: the whole rule.

    Values of at least 0: white is the top of the fewest bits that hold them all, of 8, 10, 12, 14 and 16; of floats 1 where they fit.
    Negative or larger values: from the smallest to the largest.
    """
    tops = [2.0**b - 1 for b in BITS]
    top = next((t for t in ([1.0, *tops] if floating else tops) if low >= 0 and high <= t), None)
    if top is not None:
        return 0.0, top
    return (low, high) if high > low else (low, low + 1.0)


def limits_of(known: ValueRange, *, floating: bool) -> tuple[float, float] | None:
    """Black and white of a set's integers or floats; None where it has none."""
    found = known.floats if floating else known.whole
    return None if found is None else limits(*found, floating=floating)


def _wider(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[float, float] | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def _scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """uint8: black becomes 0 and white 255, rounded; what lies beyond is cut, what is no number is black."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2 and black == 0 and white == 65535:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    wide = np.nan_to_num(values.astype(np.float64), nan=black, posinf=white, neginf=black)
    return np.rint(np.clip((wide - black) * (255.0 / (white - black)), 0, 255)).astype(np.uint8)


def of_array(x: np.ndarray) -> Deep:
    """An array of more than 8 bits as deep values."""
    return Deep(x, floating=x.dtype.kind == "f")
