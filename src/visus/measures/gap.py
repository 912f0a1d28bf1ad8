"""The gap between two modalities in one space: centroids, cosines, and how well a line tells them apart (protocol P12)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, Ints, generator_of
from visus.measures._arrays import features as checked
from visus.measures.partners import connected_groups, partners
from visus.measures.rows import unit_rows


@dataclass(frozen=True)
class Gap:
    """centroid_distance: between the means of the unit vectors. paired, unpaired: mean cosine of an image with its own text, and with
    other texts (NaN where all say the same). separable: accuracy of a linear modality classifier on held-out pairs (0.5: not at all).
    n: pairs. held: pairs that the classifier is judged on, two vectors each."""

    centroid_distance: float
    paired: float
    unpaired: float
    separable: float
    n: int
    held: int


def modality_gap(
    images: Array,
    texts: Array,
    *,
    keys: npt.ArrayLike | None = None,
    image_keys: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Gap:
    """The gap between paired images and texts, float [n, d] each; rows are scaled to unit length (Liang et al. 2022).

    keys, image_keys: int64 [n], equal for equal texts and for equal images (default: all differ). An image's 'other' texts are those that no pair
    joins to it. The classifier (scikit-learn's logistic regression, its default L2) is fitted on about one half of the pairs and judged on the
    others; pairs that are connected by texts or images stand on one side, where there are several such groups.
    Raises DataError: shapes that differ, fewer than 4 pairs, zero vectors, keys that do not fit.
    """
    images, texts = checked(images, "images", at_least=4), checked(texts, "texts", at_least=4)
    if images.shape != texts.shape:
        raise DataError(f"images {images.shape} and texts {texts.shape} are no pairs; they must have the same shape")
    x, y = (unit_rows(np.asarray(a, np.float64)) for a in (images, texts))
    n = len(x)
    code, shown = (
        np.arange(n) if k is None else np.unique(np.asarray(k), return_inverse=True)[1].reshape(-1)
        for k in (keys, image_keys)
    )
    for k in (code, shown):
        if k.shape != (n,):
            raise DataError(f"{k.size} keys were given for {n} pairs; give one for each")
    same, count = _own(x, y, shown, code)
    others = n * n - count
    total = float(x.sum(axis=0) @ y.sum(axis=0))
    groups = connected_groups(shown, code)
    fit, held = split_groups(groups, np.bincount(groups), seed)
    model = LogisticRegression(max_iter=1000).fit(np.concatenate([x[fit], y[fit]]), np.repeat([0, 1], len(fit)))
    separable = float(model.score(np.concatenate([x[held], y[held]]), np.repeat([0, 1], len(held))))
    return Gap(
        float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))),
        float(np.einsum("nd,nd->n", x, y).mean()),
        (total - same) / others if others else float("nan"),
        separable,
        n,
        len(held),
    )


def _own(x: Floats, y: Floats, shown: Ints, code: Ints) -> tuple[float, int]:
    """(sum of cosines, number) of the rows' images and texts, all with all, that some pair joins."""
    sums = [np.zeros((int(k.max()) + 1, x.shape[1])) for k in (shown, code)]
    for side, rows, k in zip(sums, (x, y), (shown, code), strict=True):
        np.add.at(side, k, rows)
    a, b = partners(shown, code).nonzero()
    counts = np.bincount(shown)[a].astype(np.int64) * np.bincount(code)[b]
    return float(np.einsum("kd,kd->", sums[0][a], sums[1][b])), int(counts.sum())


def split_groups(code: Ints, counts: Ints, seed: int) -> tuple[Ints, Ints]:
    """(positions to fit on, the others): groups drawn whole until half of the pairs are reached; of a single group its pairs are halved."""
    if len(counts) == 1:
        code, counts = np.arange(len(code)), np.ones(len(code), np.int64)
    order = generator_of(seed).permutation(len(counts))
    reached = int(np.searchsorted(np.cumsum(counts[order]), len(code) // 2)) + 1
    inside = np.isin(code, order[: min(reached, len(counts) - 1)])
    return np.flatnonzero(inside), np.flatnonzero(~inside)
