"""The reliability diagram: accuracy by confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array
from visus.measures.intervals import wilson


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence that hold an image. confidence, accuracy, low, high (95 % Wilson): float64 [bins]; n: int64 [bins]. ece: in 0..1."""

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    ece: float


def reliability(confidence: Array, right: Array, *, bins: int = 15) -> Reliability:
    """Group answers by confidence into equal bins, each (low, high]: how often are they right? (Guo et al. 2017)

    confidence: float [n] in 0..1, of the answer given. right: bool [n]. Raises DataError on other shapes or ranges, or no answers.
    """
    c, r = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if c.ndim != 1 or c.shape != r.shape or not len(c) or c.min() < 0 or c.max() > 1 + 1e-6:
        raise DataError("a reliability diagram needs confidences [n] from 0 to 1 and as many answers, right or wrong")
    bin_of = np.clip(np.ceil(c * bins).astype(np.int64) - 1, 0, bins - 1)
    n = np.bincount(bin_of, minlength=bins)
    hits = np.bincount(bin_of, weights=r, minlength=bins)
    sums = np.bincount(bin_of, weights=c, minlength=bins)
    used = n > 0
    bounds = np.array([wilson(int(h), int(k)) for h, k in zip(hits[used], n[used], strict=True)])
    return Reliability(
        sums[used] / n[used],
        hits[used] / n[used],
        bounds[:, 0],
        bounds[:, 1],
        n[used],
        float(np.abs(hits - sums).sum() / len(c)),
    )
