"""How well classes stand apart in a feature space, without fitting anything: silhouette and scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, Ints, at_least_two_classes, block_rows, compact, features, labels
from visus.measures.rows import unit_block

_ROUNDING = 1e-13


@dataclass(frozen=True)
class Silhouette:
    """The mean silhouette over images, each image's own (float64 [n]), and the mean of each class in `classes`."""

    score: float
    samples: Floats
    classes: Ints
    per_class: Floats


@dataclass(frozen=True)
class Scatter:
    """Between over within class scatter: over all classes, and of each class in `classes`."""

    ratio: float
    classes: Ints
    per_class: Floats


def silhouette_cosine(x: Array, y: Array) -> Silhouette:
    """Silhouette with the cosine distance 1 - cos, exact, in O(n C d) time and without an n x n matrix.

    x: [n, d]; y: int [n]. For image i, a is the mean distance to the others of its class and b the smallest mean
    distance to another class: s = (b - a) / max(a, b), in [-1, 1]; 0 for a class of one image. With unit vectors the mean
    distance to a class of m images is 1 - x.(their sum) / m, so class sums are all that is needed: the same number as
    scikit-learn's silhouette_score(metric="cosine"). A zero vector is at distance 1 from everything but itself. Sums are
    float64. Raises DataError on NaN, lengths that differ, one class only, or as many classes as images.
    Source: Rousseeuw 1987.
    """
    x = features(x, at_least=2)
    n, d = x.shape
    raw = labels(y, n)
    at_least_two_classes(raw)
    values, code = compact(raw)
    n_classes = len(values)
    if n_classes == n:
        raise DataError("every image is a class of its own; the silhouette needs a class with two images")
    sizes = np.bincount(code, minlength=n_classes).astype(np.float64)
    sums = np.zeros((n_classes, d))
    step = block_rows(8 * (3 * d + 2 * n_classes))
    for start in range(0, n, step):
        sums += _class_sums(unit_block(x[start : start + step]), code[start : start + step], n_classes)
    samples = np.empty(n)
    for start in range(0, n, step):
        unit = unit_block(x[start : start + step])
        own = code[start : start + step]
        rows = np.arange(len(unit))
        total = sizes - unit @ sums.T  # summed distance to every class, [b, C]
        # An image's distance to itself is 0: take 1 - x.x out, which is rounding, or 1 for a zero vector.
        inside = total[rows, own] - (1 - np.einsum("ij,ij->i", unit, unit))
        a = inside / np.maximum(sizes[own] - 1, 1)
        mean = total / sizes
        mean[rows, own] = np.inf
        b = mean.min(axis=1)
        # Below rounding, a distance is none: images on one spot have silhouette 0, not a ratio of two errors.
        a[a < _ROUNDING], b[b < _ROUNDING] = 0.0, 0.0
        top = np.maximum(a, b)
        s = np.divide(b - a, top, out=np.zeros(len(unit)), where=top > 0)
        samples[start : start + step] = np.where(sizes[own] > 1, np.clip(s, -1, 1), 0.0)
    per_class = np.bincount(code, weights=samples, minlength=n_classes) / sizes
    return Silhouette(score=float(samples.mean()), samples=samples, classes=values, per_class=per_class)


def scatter_ratio(x: Array, y: Array) -> Scatter:
    """Between-class over within-class scatter, as a ratio of traces.

    x: [n, d]; y: int [n]. ratio = tr(S_B) / tr(S_W), with tr(S_B) = sum_c n_c ||mean_c - mean||^2 and
    tr(S_W) = sum_c sum_{i in c} ||x_i - mean_c||^2. It has no unit and does not change under rotation, translation or
    one scale for all features; for labels that mean nothing its expectation is near (C - 1) / (n - C). per_class:
    ||mean_c - mean||^2 over the mean of ||x_i - mean_c||^2 in the class. Infinite where a class is a point away from
    the mean, NaN where everything is one point. Two passes in float64. Raises DataError on NaN, lengths that differ, or
    one class only. Source: Fukunaga 1990, ch. 10 (trace criterion).
    """
    x = features(x, at_least=2)
    n, d = x.shape
    raw = labels(y, n)
    at_least_two_classes(raw)
    values, code = compact(raw)
    n_classes = len(values)
    sizes = np.bincount(code, minlength=n_classes).astype(np.float64)
    sums = np.zeros((n_classes, d))
    step = block_rows(8 * 3 * d)
    for start in range(0, n, step):
        sums += _class_sums(x[start : start + step].astype(np.float64), code[start : start + step], n_classes)
    means = sums / sizes[:, None]
    within = np.zeros(n_classes)
    for start in range(0, n, step):
        own = code[start : start + step]
        gap = x[start : start + step].astype(np.float64) - means[own]
        within += np.bincount(own, weights=np.einsum("ij,ij->i", gap, gap), minlength=n_classes)
    away = ((means - sums.sum(axis=0) / n) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.float64((sizes * away).sum()) / np.float64(within.sum())
        per_class = away / (within / sizes)
    return Scatter(ratio=float(ratio), classes=values, per_class=per_class)


def _class_sums(rows: Floats, code: Ints, n_classes: int) -> Floats:
    """Sums of the rows of each class, [n_classes, d], by a sparse product (np.add.at is many times slower)."""
    member = csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(n_classes, len(code)))
    sums: Floats = member @ rows
    return sums
