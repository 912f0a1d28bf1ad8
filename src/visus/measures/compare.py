"""Two models on the same images: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, as_array, block_rows, compact, generator_of, labels

# Up to so many different values, resampling draws how often each occurs; beyond, it draws the rows.
FEW_VALUES = 4096


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference a - b over the same images, with its bootstrap interval."""

    difference: float
    low: float
    high: float
    level: float
    n: int
    resamples: int
    seed: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test: a_only and b_only count the images that one model alone gets right."""

    a_only: int
    b_only: int
    p_value: float


def paired_bootstrap(
    correct_a: Array, correct_b: Array, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Percentile interval of mean(a) - mean(b) by bootstrap over images, both models on the same resample.

    correct_a, correct_b: [n], 0/1 correctness or any real score of the same images in the same order. A resample of n
    images is, for the mean, nothing but how often each distinct value of a - b is drawn: a multinomial draw over the
    distinct values. For correctness these are three cells (a alone right, b alone right, a tie), so that 10,000
    resamples cost 10,000 draws of three counts whatever n is, and nothing is approximated. Scores with many distinct
    values are resampled image by image, in blocks. Raises DataError when the lengths differ, or on NaN or no images.
    Source: Efron and Tibshirani 1993, ch. 13.
    """
    a, b = _pair(correct_a, correct_b)
    _check(resamples, level)
    delta = a - b
    n = len(delta)
    rng = generator_of(seed)
    values, counts = np.unique(delta, return_counts=True)
    means = np.empty(resamples)
    if len(values) <= FEW_VALUES:
        step = block_rows(8 * len(values))
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            means[start : start + size] = rng.multinomial(n, counts / n, size=size) @ values / n
    else:
        step = block_rows(16 * n, at_least=1)
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            means[start : start + size] = delta[rng.integers(0, n, size=(size, n))].mean(axis=1)
    return _summary(float(delta.mean()), means, level=level, n=n, seed=seed)


def paired_bootstrap_balanced_accuracy(
    y_true: Array,
    correct_a: Array,
    correct_b: Array,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Percentile interval of the difference in balanced accuracy (mean over classes of recall), by bootstrap over images.

    y_true: int [n]; correct_a, correct_b: 0/1 [n] for the same images. As in `paired_bootstrap` a resample is a
    multinomial draw, here over (class, which model is right); a class that a resample leaves out is left out of that
    resample's mean, as scikit-learn does. Raises DataError on lengths that differ or correctness that is not 0/1.
    """
    a, b = _pair(correct_a, correct_b)
    _check(resamples, level)
    _binary(a, b)
    _, y = compact(labels(y_true, len(a), "y_true"))
    n, classes = len(a), int(y.max()) + 1
    # Cells of a class: a alone right, b alone right, both or neither.
    cell = np.where(a == b, 2, np.where(a > b, 0, 1))
    counts = np.bincount(y * 3 + cell, minlength=3 * classes)
    rng = generator_of(seed)
    means = np.empty(resamples)
    step = block_rows(48 * classes)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.multinomial(n, counts / n, size=size).reshape(size, classes, 3)
        means[start : start + size] = _balanced(drawn)
    return _summary(float(_balanced(counts.reshape(1, classes, 3))[0]), means, level=level, n=n, seed=seed)


def mcnemar(correct_a: Array, correct_b: Array) -> McNemar:
    """McNemar's exact two-sided test that two models err equally often on the same images.

    correct_a, correct_b: 0/1 [n]. The p value is binomial over the images on which exactly one of the two is right (1 when
    there is none). Raises DataError on lengths that differ or values other than 0/1. Source: McNemar 1947; Dietterich 1998.
    """
    a, b = _pair(correct_a, correct_b)
    _binary(a, b)
    a_only, b_only = int((a > b).sum()), int((b > a).sum())
    discordant = a_only + b_only
    p_value = float(binomtest(a_only, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(a_only=a_only, b_only=b_only, p_value=p_value)


def holm(p_values: Array) -> Floats:
    """Holm's step-down correction of m p values: adjusted values in the same order, float64 [m].

    An adjusted value below 0.05 is a finding that holds with all m comparisons at family-wise error 5 %. No independence
    is assumed. Raises DataError when a value is outside [0, 1]. Source: Holm 1979.
    """
    p = as_array(p_values, "p_values", real=True)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("p values must be a list of numbers between 0 and 1")
    m = len(p)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(m, 0, -1)), 1.0)
    return adjusted


def _balanced(cells: Array) -> Floats:
    """Difference in balanced accuracy of each resample; cells: counts [r, classes, 3]."""
    size = cells.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(size > 0, (cells[:, :, 0] - cells[:, :, 1]) / np.maximum(size, 1), 0.0)
    total: Floats = recall.sum(axis=1) / (size > 0).sum(axis=1)
    return total


def _pair(correct_a: Array, correct_b: Array) -> tuple[Floats, Floats]:
    a, b = as_array(correct_a, "correct_a"), as_array(correct_b, "correct_b")
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(
            f"the two models have {list(a.shape)} and {list(b.shape)} outcomes; compare them on the same images, one each"
        )
    if len(a) == 0:
        raise DataError("there are no images to compare the models on")
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        raise DataError("outcomes must be numbers or booleans, one per image")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("the outcomes hold NaN or infinity; leave those images out for both models")
    return a, b


def _binary(a: Floats, b: Floats) -> None:
    if not (np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all()):
        raise DataError("correctness must be 0 or 1 (or booleans), one per image")


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise DataError(f"resamples is {resamples}; give at least 1 (10000 is usual)")
    if not 0 < level < 1:
        raise DataError(f"level is {level}; give a coverage between 0 and 1, such as 0.95")


def _summary(difference: float, means: Floats, *, level: float, n: int, seed: int) -> PairedDifference:
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return PairedDifference(
        difference=difference, low=float(low), high=float(high), level=level, n=n, resamples=len(means), seed=seed
    )
