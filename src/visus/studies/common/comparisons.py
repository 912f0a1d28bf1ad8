"""Paired comparisons on the same test images, and the table that every study shows them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from visus.formats import points_text
from visus.measures.compare import holm, mcnemar, paired_bootstrap
from visus.result import Column, Metric, Table, key_of

COLUMNS = (
    Column("a", "A"),
    Column("b", "B"),
    Column("difference", "A − B", "points"),
    Column("low", "low", "points"),
    Column("high", "high", "points"),
    Column("only_a", "only A right"),
    Column("only_b", "only B right"),
    Column("p_mcnemar", "McNemar p"),
    Column("p_holm", "Holm p"),
)


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a minus accuracy of b, a fraction, with its 95 % paired bootstrap interval; images that only one got right; McNemar's p,
    and Holm's over the family that it was corrected in."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float
    p_holm: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high

    @property
    def kind(self) -> Literal["result", "undecided"]:
        """Of the finding that tells it."""
        return "undecided" if self.undecided else "result"

    def reversed(self) -> Comparison:
        """The same comparison as b minus a."""
        # Added to 0, as the negative of 0 would be written -0.
        low, high = 0.0 - self.high, 0.0 - self.low
        turned = replace(self, a=self.b, b=self.a, difference=0.0 - self.difference, low=low, high=high)
        return replace(turned, only_a=self.only_b, only_b=self.only_a)

    @property
    def ahead(self) -> Comparison:
        """The same comparison with the better one as a."""
        return self if self.difference >= 0 else self.reversed()

    def text(self) -> str:
        """'+2.1 points, 95 % interval -0.3 to +4.5'."""
        return points_text(self.difference, self.low, self.high)

    def metric(self, key: str, n: int) -> Metric:
        """The difference under a key."""
        return Metric(
            key_of(key), self.difference, self.low, self.high, n, "points", "higher", label=f"{self.a} − {self.b}"
        )


def compare(right_a: np.ndarray, right_b: np.ndarray, *, names: tuple[str, str], seed: int) -> Comparison:
    """Compare two by which images they get right: bool [runs, n] or [n] each, the same n images in the same order.

    Of several runs the interval is of the mean over runs (images are resampled, runs are not), and McNemar's test, which
    needs right or wrong, is of the first. Raises DataError when the images differ in number.
    """
    a, b = np.atleast_2d(right_a), np.atleast_2d(right_b)
    boot = paired_bootstrap(a.mean(axis=0), b.mean(axis=0), seed=seed)
    test = mcnemar(a[0], b[0])
    return Comparison(*names, boot.difference, boot.low, boot.high, test.a_only, test.b_only, test.p_value)


def family(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons of one table, with Holm's correction over them."""
    if not comparisons:
        return ()
    corrected = holm(np.array([c.p for c in comparisons]))
    return tuple(replace(c, p_holm=float(p)) for c, p in zip(comparisons, corrected, strict=True))


def comparisons_table(key: str, title: str, comparisons: Sequence[Comparison], *, what: str = "Linear probes") -> Table:
    """One row a comparison of a `family`: the difference with its interval, McNemar's p, and Holm's. what: what was compared."""
    return Table(
        key=key,
        title=title,
        columns=COLUMNS,
        rows=[(c.a, c.b, c.difference, c.low, c.high, c.only_a, c.only_b, c.p, c.p_holm) for c in comparisons],
        note=f"{what} on the same test images. low, high: 95 % paired bootstrap interval over images, 10,000 resamples. "
        "McNemar: exact; Holm: corrected for the number of rows.",
    )
