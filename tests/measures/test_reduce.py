"""PCA fitted on training rows alone."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from visus.measures.reduce import pca_from_train


def test_it_equals_the_exact_components_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(80, 12)) * np.geomspace(1, 0.01, 12)).astype(np.float32)
    train = np.arange(50)
    exact = PCA(n_components=4, svd_solver="full").fit(x[train].astype(np.float64))
    ours = pca_from_train(x, train, dims=4)
    np.testing.assert_allclose(np.abs(ours), np.abs(exact.transform(x)), atol=1e-4)


def test_test_rows_have_no_say() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 8)).astype(np.float32)
    train = np.arange(40)
    before = pca_from_train(x, train, dims=3)[train]
    x[40:] *= 1000
    np.testing.assert_array_equal(pca_from_train(x, train, dims=3)[train], before)
