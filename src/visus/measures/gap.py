"""The gap between two modalities in one space: centroids, cosines, and how well a line tells them apart (protocol P12)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array
from visus.measures._arrays import features as checked
from visus.measures.knn import unit_rows


@dataclass(frozen=True)
class Gap:
    """centroid_distance: between the means of the unit vectors. paired, unpaired: mean cosine of an image with its own text, and with
    the others' texts. separable: accuracy of a linear modality classifier on held-out pairs (0.5: not at all). n: pairs."""

    centroid_distance: float
    paired: float
    unpaired: float
    separable: float
    n: int


def modality_gap(images: Array, texts: Array, *, seed: int = 0) -> Gap:
    """The gap between paired images and texts, float [n, d] each; rows are scaled to unit length (Liang et al. 2022).

    The classifier (scikit-learn's logistic regression, its default L2) is fitted on one half of the pairs and judged on the other;
    a pair is in one half only. Raises DataError: shapes that differ, fewer than 4 pairs, zero vectors.
    """
    from sklearn.linear_model import LogisticRegression

    images, texts = checked(images, "images", at_least=4), checked(texts, "texts", at_least=4)
    if images.shape != texts.shape:
        raise DataError(f"images {images.shape} and texts {texts.shape} are no pairs; they must have the same shape")
    x, y = (unit_rows(np.asarray(a, np.float64)) for a in (images, texts))
    n = len(x)
    paired = float(np.einsum("nd,nd->n", x, y).mean())
    total = float(x.sum(axis=0) @ y.sum(axis=0))
    order = np.random.default_rng(seed).permutation(n)
    fit, held = order[: n // 2], order[n // 2 :]
    model = LogisticRegression(max_iter=1000).fit(np.concatenate([x[fit], y[fit]]), np.repeat([0, 1], len(fit)))
    separable = float(model.score(np.concatenate([x[held], y[held]]), np.repeat([0, 1], len(held))))
    return Gap(
        float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))),
        paired,
        (total - paired * n) / (n * (n - 1)),
        separable,
        n,
    )
