"""Silhouette against scikit-learn; scatter against its definition; planted separations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score

from visus.errors import DataError
from visus.measures import scatter_ratio, separability, silhouette_cosine


def _data(seed: int = 0, n: int = 300, d: int = 20, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n) * 3 + 1  # labels with gaps
    return rng.standard_normal((n, d)) + 0.2 * y[:, None] * rng.standard_normal(d), y


@pytest.mark.parametrize("blocks", [False, True])
def test_silhouette_is_that_of_scikit_learn(blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if blocks:
        monkeypatch.setattr(separability, "block_rows", lambda _: 17)
    x, y = _data()
    y[5] = 99  # a class of one image
    x[8] = 0.0  # no direction
    found = silhouette_cosine(x, y)
    assert found.score == pytest.approx(silhouette_score(x, y, metric="cosine"), rel=1e-10)
    samples = silhouette_samples(x, y, metric="cosine")
    np.testing.assert_allclose(found.samples, samples, atol=1e-12)
    assert found.classes.tolist() == sorted(set(y.tolist()))
    np.testing.assert_allclose(found.per_class, [samples[y == c].mean() for c in found.classes], atol=1e-12)


def test_silhouette_of_planted_directions() -> None:
    x = np.repeat(np.eye(3), 5, axis=0) * np.arange(1, 16)[:, None]  # length does not matter to the cosine
    y = np.repeat([0, 1, 2], 5)
    assert silhouette_cosine(x, y).score == pytest.approx(1.0)
    assert silhouette_cosine(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1])).score == pytest.approx(0.0)


@pytest.mark.parametrize("blocks", [False, True])
def test_scatter_is_its_definition(blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if blocks:
        monkeypatch.setattr(separability, "block_rows", lambda _: 17)
    x, y = _data(1)
    mean = x.mean(axis=0)
    between = np.zeros((20, 20))
    within = np.zeros((20, 20))
    each = []
    for c in sorted(set(y.tolist())):
        part = x[y == c]
        centre = part.mean(axis=0)
        between += len(part) * np.outer(centre - mean, centre - mean)
        within += (part - centre).T @ (part - centre)
        each.append(((centre - mean) ** 2).sum() / ((part - centre) ** 2).sum(axis=1).mean())
    found = scatter_ratio(x, y)
    assert found.ratio == pytest.approx(np.trace(between) / np.trace(within), rel=1e-10)
    np.testing.assert_allclose(found.per_class, each, rtol=1e-10)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((20, 20)))[0]
    assert scatter_ratio(3 * x @ turn + 100, y).ratio == pytest.approx(found.ratio, rel=1e-8)


def test_scatter_of_meaningless_labels_is_near_its_expectation_and_of_points_infinite() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2000, 200)), rng.integers(0, 10, 2000)
    assert scatter_ratio(x, y).ratio == pytest.approx(9 / 1990, rel=0.1)
    assert scatter_ratio(np.array([[0.0], [0.0], [1.0]]), np.array([0, 0, 1])).ratio == math.inf
    assert math.isnan(scatter_ratio(np.ones((4, 2)), np.array([0, 0, 1, 1])).ratio)


def test_bad_input_is_one_line() -> None:
    x, y = _data()
    hole = np.where(np.arange(20) == 3, np.inf, x)
    for measure in (silhouette_cosine, scatter_ratio):
        for bad_x, bad_y in ((hole, y), (x, y[1:]), (x, np.zeros(300, int)), (x[:0], y[:0]), (x, y * 0.5), (x[0], y)):
            with pytest.raises(DataError) as error:
                measure(bad_x, bad_y)
            assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="class of its own"):
        silhouette_cosine(x[:4], np.arange(4))
