"""How alike two feature sets are, whatever their axes: linear CKA with the unbiased HSIC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features

FEWEST = 4  # rows: the unbiased estimator divides by n - 3

_BUDGET = 128 * 2**20


def unbiased_cka(x: Array, y: Array) -> float:
    """Linear CKA of two feature sets with the unbiased HSIC estimator.

    x: [n, d1], y: [n, d2], same n rows in the same order, n >= 4. Returns a value near 0 for independent features
    (the biased estimator does not: at n = d it is near 0.5; a small negative value is chance) and 1 for features equal up
    to rotation, scale and translation; NaN where a feature set is constant. float64, in blocks of rows: memory does not
    grow with n^2. Raises DataError when n < 4, the rows differ in number, or on NaN.
    Source: Song et al. 2012, eq. 5; Nguyen et al. 2021.
    """
    return float(cka_matrix([x, y])[0, 1])


def cka_matrix(sets: Sequence[Array]) -> Floats:
    """`unbiased_cka` of every pair of feature sets, float64 [T, T], symmetric with ones on the diagonal.

    sets: T arrays [n, d_t] with the same rows. Each pair is computed in the cheaper of two equal forms: from the d1 x d2
    products of features, or from the n x n products of images (block by block, each block shared by all pairs that
    need it). Raises as `unbiased_cka` does.
    """
    taps = [features(x, f"feature set {i}", at_least=FEWEST) for i, x in enumerate(sets)]
    if not taps:
        raise DataError("there is no feature set to compare; give at least one")
    n = len(taps[0])
    for i, x in enumerate(taps):
        if len(x) != n:
            raise DataError(f"feature set {i} has {len(x)} rows and the first {n}; take both from the same images")
    means = [_mean(x) for x in taps]
    scales = [_scale(x, mean) for x, mean in zip(taps, means, strict=True)]
    by_feature, by_image = plan_products([x.shape[1] for x in taps], n)
    hsic = np.full((len(taps), len(taps)), np.nan)
    _from_features(hsic, taps, means, scales, by_feature)
    _from_images(hsic, taps, means, scales, by_image)
    own = np.diag(hsic)
    with np.errstate(invalid="ignore", divide="ignore"):
        cka: Floats = hsic / np.sqrt(np.outer(own, own))
    # HSIC of a set with itself is positive but for a constant set (0 / 0) and freak samples of a few rows: no number then.
    cka[~((own > 0)[:, None] & (own > 0)[None, :])] = np.nan
    cka[np.diag_indices_from(cka)] = np.where(own > 0, 1.0, np.nan)
    return cka


Pairs = list[tuple[int, int]]


def plan_products(widths: Sequence[int], n: int) -> tuple[Pairs, Pairs]:
    """Split the pairs i <= j by the form that costs less, in multiplications."""
    by_feature: Pairs = []
    by_image: Pairs = []
    for i, a in enumerate(widths):
        for j, b in enumerate(widths[i:], start=i):
            (by_feature if a * b <= n * (a + b) else by_image).append((i, j))
    return by_feature, by_image


def _mean(x: Array) -> Floats:
    total = np.zeros(x.shape[1])
    step = block_rows(8 * x.shape[1])
    for start in range(0, len(x), step):
        total += x[start : start + step].sum(axis=0, dtype=np.float64)
    return total / len(x)


def _scale(x: Array, mean: Floats) -> float:
    """The largest distance from the mean along one axis; CKA ignores scale, and float64 then neither overflows nor vanishes.

    0 for a set that is constant up to the rounding of its own mean.
    """
    step = block_rows(8 * x.shape[1])
    peak = max(float(np.abs(x[s : s + step].astype(np.float64) - mean).max()) for s in range(0, len(x), step))
    return peak if peak > 1e-12 * float(np.abs(mean).max()) else 0.0


def _rows(x: Array, mean: Floats, scale: float, part: slice) -> Floats:
    """Rows centred and scaled: unbiased HSIC does not change under either, and rounding is smallest near the origin."""
    rows: Floats = (x[part].astype(np.float64) - mean) * (1 / scale if scale else 0.0)
    return rows


def _from_features(
    hsic: Floats, taps: Sequence[Array], means: Sequence[Floats], scales: Sequence[float], pairs: Pairs
) -> None:
    """Fill hsic[i, j] from feature products: tr(KL) without its diagonal is ||X'Y||^2 - sum_i |x_i|^2 |y_i|^2, and so on."""
    if not pairs:
        return
    n = len(taps[0])
    need = sorted({i for pair in pairs for i in pair})
    sums = {i: np.zeros(taps[i].shape[1]) for i in need}
    norms = {i: np.empty(n) for i in need}
    products = {(i, j): np.zeros((taps[i].shape[1], taps[j].shape[1])) for i, j in pairs}
    step = block_rows(8 * 2 * sum(taps[i].shape[1] for i in need), budget=_BUDGET)
    for start in range(0, n, step):
        part = slice(start, start + step)
        rows = {i: _rows(taps[i], means[i], scales[i], part) for i in need}
        for i in need:
            sums[i] += rows[i].sum(axis=0)
            norms[i][part] = np.einsum("ij,ij->i", rows[i], rows[i])
        for i, j in pairs:
            products[i, j] += rows[i].T @ rows[j]
    row_sums = {i: np.empty(n) for i in need}
    for start in range(0, n, step):
        part = slice(start, start + step)
        for i in need:
            row_sums[i][part] = _rows(taps[i], means[i], scales[i], part) @ sums[i] - norms[i][part]
    for i, j in pairs:
        trace = float((products[i, j] ** 2).sum() - norms[i] @ norms[j])
        hsic[i, j] = hsic[j, i] = _unbiased(trace, row_sums[i], row_sums[j])


def _from_images(
    hsic: Floats, taps: Sequence[Array], means: Sequence[Floats], scales: Sequence[float], pairs: Pairs
) -> None:
    """Fill hsic[i, j] from kernels with a zero diagonal, a block of their rows at a time."""
    if not pairs:
        return
    n = len(taps[0])
    need = sorted({i for pair in pairs for i in pair})
    whole = {i: _rows(taps[i], means[i], scales[i], slice(None)) for i in need}
    traces = dict.fromkeys(pairs, 0.0)
    row_sums = {i: np.empty(n) for i in need}
    step = block_rows(8 * n * len(need), budget=_BUDGET)
    for start in range(0, n, step):
        part = slice(start, start + step)
        kernels = {}
        for i in need:
            kernel = whole[i][part] @ whole[i].T
            kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = 0.0
            kernels[i] = kernel
            row_sums[i][part] = kernel.sum(axis=1)
        for i, j in pairs:
            traces[i, j] += float(np.vdot(kernels[i], kernels[j]))
    for i, j in pairs:
        hsic[i, j] = hsic[j, i] = _unbiased(traces[i, j], row_sums[i], row_sums[j])


def _unbiased(trace: float, k_rows: Floats, l_rows: Floats) -> float:
    """Song et al. 2012, eq. 5, from tr(KL) and the row sums of K and L, both with a zero diagonal."""
    n = len(k_rows)
    cross = float(k_rows.sum()) * float(l_rows.sum()) / ((n - 1) * (n - 2))
    return (trace + cross - 2 / (n - 2) * float(k_rows @ l_rows)) / (n * (n - 3))
