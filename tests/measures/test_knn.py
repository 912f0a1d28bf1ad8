"""kNN against scikit-learn and a slow vote; ties, clipping and leave-one-out by planted cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from visus.errors import DataError
from visus.measures import knn, knn_accuracy, knn_predict, top_k


def _clusters(n: int, d: int, classes: int, *, seed: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, d))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return (centres[y] + spread * rng.standard_normal((n, d))).astype(np.float32), y


@pytest.mark.parametrize(("n", "k"), [(300, 200), (9000, 50), (40_003, 200)])
def test_neighbours_are_those_of_scikit_learn(n: int, k: int) -> None:
    # 9000 and 40003 rows go through the grouped search, 40003 through two column blocks with a ragged end.
    base, query = _clusters(n, 16, 5, seed=1)[0], _clusters(70, 16, 5, seed=2)[0]
    distance, index = (
        NearestNeighbors(metric="cosine", algorithm="brute").fit(base.astype(np.float64)).kneighbors(query, k)
    )
    found = top_k(query, base, k)
    np.testing.assert_allclose(found.similarities, 1 - distance, atol=2e-6)
    assert (found.indices == index).mean() > 0.995  # float32 may swap neighbours that differ by 1e-7
    assert max(len(set(a) ^ set(b)) for a, b in zip(found.indices, index, strict=True)) <= 2


@pytest.mark.parametrize("ks", [(1, 5, 10, 20, 100, 200), (7,), (200, 1)])
def test_votes_are_those_of_a_scikit_learn_classifier(ks: tuple[int, ...]) -> None:
    train_x, train_y = _clusters(600, 12, 4, seed=1, spread=2.5)
    test_x, test_y = _clusters(250, 12, 4, seed=2, spread=2.5)
    result = knn_accuracy(train_x, train_y, test_x, test_y, n_classes=4, ks=ks)
    for k in ks:
        peer = KNeighborsClassifier(
            n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(train_x.astype(np.float64), train_y)
        assert np.array_equal(result.predictions[k], peer.predict(test_x.astype(np.float64)))
        assert result.accuracy[k] == pytest.approx(peer.score(test_x.astype(np.float64), test_y))
        assert result.correct[k].mean() == result.accuracy[k]
    assert result.n == 250
    assert result.clipped == ()


def test_the_grouped_search_equals_a_full_sort_with_many_ties() -> None:
    rng = np.random.default_rng(3)
    for columns, levels in [(20_000, 50), (20_011, 400), (20_000, 10_000_000), (3300, 3)]:
        scores = (rng.integers(0, levels, (40, columns)) / levels).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
        value, index = knn.largest(torch.from_numpy(scores), 100)
        assert np.array_equal(index.numpy(), order)
        assert np.array_equal(value.numpy(), np.take_along_axis(scores, order, 1))


def test_equal_neighbours_come_in_the_order_of_their_rows_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "COLUMNS", 7)
    monkeypatch.setattr(knn, "ROWS", 2)
    base = np.tile(np.eye(3, dtype=np.float32), (10, 1))  # rows 0, 3, 6, ... are one vector
    found = top_k(np.eye(3, dtype=np.float32), base, 6)
    assert found.indices.tolist() == [[0, 3, 6, 9, 12, 15], [1, 4, 7, 10, 13, 16], [2, 5, 8, 11, 14, 17]]


def test_leave_one_out_never_finds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _clusters(100, 8, 3, seed=4)
    whole = top_k(x, x, 99, exclude_self=True)
    monkeypatch.setattr(knn, "COLUMNS", 13)
    monkeypatch.setattr(knn, "ROWS", 9)
    found = top_k(x, x, 500, exclude_self=True)
    assert found.indices.shape == (100, 99)
    assert all(i not in row and len(set(row)) == 99 for i, row in enumerate(found.indices.tolist()))
    np.testing.assert_allclose(found.similarities, whole.similarities, atol=1e-6)
    assert knn_predict(x, y, x, n_classes=3, ks=(1,)).predictions[1].tolist() == y.tolist()
    left_out = knn_predict(x, y, x, n_classes=3, ks=(1,), exclude_self=True).predictions[1]
    assert left_out.tolist() == y[whole.indices[:, 0]].tolist()


def test_a_k_beyond_the_training_set_is_cut_and_named() -> None:
    x, y = _clusters(30, 4, 2, seed=5)
    result = knn_predict(x, y, x[:4], n_classes=2, ks=(1, 5, 100, 200))
    assert sorted(result.predictions) == [1, 5, 30]
    assert result.clipped == (100, 200)
    assert result.n_train == 30


def test_zero_vectors_are_equally_far_from_all_and_scale_does_not_matter() -> None:
    base = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    assert top_k(np.zeros((1, 2), np.float32), base, 3).similarities.tolist() == [[0, 0, 0]]
    huge = top_k(np.array([[3e38, 1e38]], np.float32), base, 3)
    assert huge.indices.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(huge.similarities, [[0.9486833, 0.31622777, 0]], atol=1e-6)


def test_a_tied_vote_goes_to_the_lowest_class_and_a_cold_temperature_to_the_nearest() -> None:
    base, y = np.array([[1, 1], [1, -1], [1, 0.5]], np.float32), np.array([2, 1, 0])
    query = np.array([[1, 0]], np.float32)
    assert knn_predict(base[:2], y[:2], query, n_classes=3, ks=(2,)).predictions[2].tolist() == [1]
    assert knn_predict(base, y, query, n_classes=3, ks=(3,), temperature=1e-4).predictions[3].tolist() == [0]


def test_bad_input_is_one_line() -> None:
    x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
    bad = x.copy()
    bad[2, 1] = np.nan
    for call in (
        lambda: knn_predict(bad, y, x, n_classes=2),
        lambda: knn_predict(x, y[:3], x, n_classes=2),
        lambda: knn_predict(x, y, x, n_classes=1),
        lambda: knn_predict(x, y - 1, x, n_classes=2),
        lambda: knn_predict(x, y, np.ones((4, 3)), n_classes=2),
        lambda: knn_predict(x[:0], y[:0], x, n_classes=2),
        lambda: knn_predict(x, y, x, n_classes=2, ks=(0,)),
        lambda: knn_predict(x, y, x, n_classes=2, temperature=0),
        lambda: knn_accuracy(x, y, x, y[:2], n_classes=2),
        lambda: top_k(x, x[:3], 1, exclude_self=True),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
