"""Paired comparisons on the same test images, and the table that every study shows them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.studies.common.schema1 import Table


@dataclass(frozen=True)
class Pair:
    """A paired comparison on the same test images: accuracy of a minus accuracy of b."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float


def compare_right(right_a: np.ndarray, right_b: np.ndarray, *, names: tuple[str, str], seed: int) -> Pair:
    """Compare two by which images they get right: bool [runs, n] or [n] each, the same n images in the same order.

    Of several runs the interval is of the mean over runs (images are resampled, runs are not), and McNemar's test, which
    needs right or wrong, is of the first. Raises DataError when the images differ in number.
    """
    from visus.measures.compare import mcnemar, paired_bootstrap

    a, b = np.atleast_2d(right_a), np.atleast_2d(right_b)
    boot = paired_bootstrap(a.mean(axis=0), b.mean(axis=0), seed=seed)
    test = mcnemar(a[0], b[0])
    return Pair(*names, boot.difference, boot.low, boot.high, test.a_only, test.b_only, test.p_value)


def table_of_pairs(pairs: Sequence[Pair], heading: str, *, what: str = "Linear probes") -> Table:
    """One row a pair: difference in points with its interval, McNemar's p, and Holm's over the rows. what: what was compared."""
    from visus.measures.compare import holm

    corrected = holm(np.array([p.p for p in pairs]))
    rows = tuple(
        (p.a, p.b, 100 * p.difference, 100 * p.low, 100 * p.high, p.only_a, p.only_b, p.p, float(h))
        for p, h in zip(pairs, corrected, strict=True)
    )
    return Table(
        ("A", "B", "A − B, points", "low", "high", "only A right", "only B right", "McNemar p", "Holm p"),
        rows,
        title=heading,
        note=f"{what} on the same test images. low, high: 95 % paired bootstrap interval over images, 10,000 resamples. "
        "McNemar: exact; Holm: corrected for the number of rows.",
    )
