"""Neighbours, precision and recall against full matrices of differences; planted copies, collapse and duplicates."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from visus.errors import DataError
from visus.measures import manifold, memorisation, nearest, precision_recall


def _rows(n: int, d: int, *, seed: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    away = x.astype(np.float64)[:, None] - y.astype(np.float64)
    return np.einsum("nmd,nmd->nm", away, away)


def _slow_nearest(x: np.ndarray, y: np.ndarray, k: int, *, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
    squared = _squared(x, y)
    if own:
        np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squared, order, 1)), order


@pytest.fixture(params=[(512, 4096), (13, 7), (3, 50)])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "ROWS", request.param[0])
    monkeypatch.setattr(manifold, "COLUMNS", request.param[1])


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("kind", ["plain", "shifted", "duplicates", "integers", "outlier", "tiny", "huge"])
def test_neighbours_are_those_of_the_full_matrix(kind: str, k: int) -> None:
    x, y = _rows(45, 6, seed=1), _rows(90, 6, seed=2)
    if kind == "shifted":  # float32 products alone would see nothing here
        x, y = x.astype(np.float64) * 1e-4 + 1e3, y.astype(np.float64) * 1e-4 + 1e3
    elif kind == "duplicates":
        x, y = np.concatenate([y[:20], x]), np.tile(y[:15], (6, 1))
    elif kind == "integers":
        x, y = (np.random.default_rng(3).integers(0, 3, (n, 4), dtype=np.uint8) for n in (45, 90))
    elif kind == "outlier":
        y[3] *= 1e4
    elif kind == "tiny":
        x, y = x * np.float32(1e-25), y * np.float32(1e-25)
    elif kind == "huge":
        x, y = x * np.float32(1e25), y * np.float32(1e25)
    distances, indices = nearest(x, y, k=k)
    slow, order = _slow_nearest(x, y, k)
    assert np.array_equal(indices, order)
    assert np.array_equal(distances, slow)
    assert distances.dtype == np.float64
    assert indices.dtype == np.int64
    distances, indices = nearest(y, y, k=k, exclude_self=True)
    slow, order = _slow_nearest(y, y, k, own=True)
    assert np.array_equal(indices, order)
    assert np.array_equal(distances, slow)


def test_many_rows_are_those_of_scikit_learn() -> None:
    x, y = _rows(1300, 24, seed=1), _rows(9000, 24, seed=2)
    distances, indices = nearest(x, y, k=5)
    found = NearestNeighbors(algorithm="kd_tree").fit(y.astype(np.float64)).kneighbors(x.astype(np.float64), 5)
    assert np.array_equal(indices, found[1])
    np.testing.assert_allclose(distances, found[0], rtol=1e-12)


def test_a_collapsed_set_is_searched_by_its_first_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _rows(500, 5, seed=1), np.repeat(_rows(2, 5, seed=2), 3000, axis=0)
    seen = []
    exact = manifold.RowPairs.exact
    monkeypatch.setattr(manifold.RowPairs, "exact", lambda *args: seen.append(len(args[1])) or exact(*args))
    indices = nearest(x, y, k=2)[1]
    assert set(map(tuple, indices.tolist())) == {(0, 1), (3000, 3001)}
    assert sum(seen) < 500 * 8
    assert nearest(y, y, exclude_self=True)[1][[0, 1, 2999, 3000, 3001]].ravel().tolist() == [1, 0, 0, 3001, 3000]


def test_rows_that_only_look_like_copies_are_kept() -> None:
    # The first coordinate swallows the second in any weighted sum of the two.
    y = np.stack([np.full(40, 1e14), 1e-3 * np.arange(40)], axis=1)
    assert nearest(y[::-1], y)[1].ravel().tolist() == list(range(40))[::-1]


def _slow_precision_recall(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """By the definitions, on squared distances."""

    def radius(x: np.ndarray) -> np.ndarray:
        own = _squared(x, x)
        np.fill_diagonal(own, np.inf)
        return np.sort(own, axis=1)[:, k - 1]

    squared = _squared(real, fake)
    by_real, by_fake = squared <= radius(real)[:, None], squared <= radius(fake)
    return {
        "in_real": by_real.any(axis=0),
        "covered": by_real.any(axis=1),
        "in_fake": by_fake.any(axis=1),
        "density": by_real.sum() / (k * len(fake)),
    }


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("kind", ["near", "shifted", "copies", "duplicates"])
def test_precision_and_recall_are_those_of_the_full_matrix(kind: str, k: int) -> None:
    real, fake = _rows(70, 4, seed=1), _rows(55, 4, seed=2, shift=0.8)
    if kind == "shifted":
        real, fake = real.astype(np.float64) * 1e-4 + 1e3, fake.astype(np.float64) * 1e-4 + 1e3
    elif kind == "copies":  # each on the very border of somebody's ball
        fake[:40] = real[:40]
    elif kind == "duplicates":
        real[35:], fake[20:] = real[:35], fake[0]
    found, slow = precision_recall(real, fake, k=k), _slow_precision_recall(real, fake, k)
    for name in ("in_real", "covered", "in_fake"):
        assert np.array_equal(getattr(found, name), slow[name])
    assert found.precision == slow["in_real"].mean()
    assert found.recall == slow["in_fake"].mean()
    assert found.coverage == slow["covered"].mean()
    assert found.density == pytest.approx(slow["density"])
    assert found.k == k


def test_a_row_just_outside_a_ball_is_outside_and_one_on_its_border_inside() -> None:
    real = np.arange(50.0)[:, None] * np.eye(1, 3)  # every ball has radius 1
    fake = np.array([-1 - 1e-9, -1, 50 + 1e-9, 50])[:, None] * np.eye(1, 3)
    found = precision_recall(real, fake, k=1)
    assert found.in_real.tolist() == [False, True, False, True]
    assert found.covered.nonzero()[0].tolist() == [0, 49]


def test_equal_distributions_score_high_and_density_is_near_one() -> None:
    found = precision_recall(_rows(900, 8, seed=1), _rows(1100, 8, seed=2), k=5)
    assert min(found.precision, found.recall, found.coverage) > 0.85
    assert found.density == pytest.approx(1, abs=0.1)


def test_mode_collapse_is_precise_and_recalls_little() -> None:
    rng = np.random.default_rng(0)
    real = (10 * np.eye(10)[np.arange(1000) % 10] + 0.3 * rng.standard_normal((1000, 10))).astype(np.float32)
    fake = (10 * np.eye(10)[np.arange(300) % 2] + 0.25 * rng.standard_normal((300, 10))).astype(np.float32)
    found = precision_recall(real, fake, k=3)
    assert found.precision > 0.9
    assert found.recall <= 0.2
    assert found.coverage <= 0.2
    assert not found.in_fake[np.arange(1000) % 10 >= 2].any()
    one = precision_recall(real, np.repeat(real[:1], 200, axis=0), k=3)
    assert one.precision == 1
    assert one.recall == 1 / 1000


def test_memory_does_not_grow_with_both_sets() -> None:
    real, fake = _rows(5000, 8, seed=1), _rows(5000, 8, seed=2)  # one matrix of float64 would take 200 MB
    tracemalloc.start()
    try:
        precision_recall(real, fake)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


def test_sets_apart_score_nothing_and_copies_score_all() -> None:
    real = _rows(80, 5, seed=1)
    apart = precision_recall(real, _rows(80, 5, seed=2, shift=100))
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
    same = precision_recall(real, real[::-1])
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    # A row's ball holds itself and its k nearest.
    assert same.density == pytest.approx(4 / 3)


def test_copies_of_training_rows_are_memorised_and_held_out_rows_are_not() -> None:
    train, held = _rows(800, 6, seed=1), _rows(600, 6, seed=2)
    copied = memorisation(train[[5, 9, 700, 9]] + np.float32(1e-5), train, held)
    assert copied.indices.tolist() == [5, 9, 700, 9]
    np.testing.assert_allclose(copied.distances, 1e-5 * np.sqrt(6), rtol=0.02)
    assert copied.ratio < 1e-4
    assert copied.share_closer == 1
    new = memorisation(_rows(2000, 6, seed=3), train, held)
    assert new.ratio == pytest.approx(1, abs=0.05)
    assert new.share_closer == pytest.approx(0.01, abs=0.01)
    slow = _slow_nearest(held, train, 1)[0][:, 0]
    assert new.held_median == np.median(slow)
    assert new.threshold == np.quantile(slow, 0.01)
    half = memorisation(np.concatenate([train[:300], _rows(300, 6, seed=4)]), train, held)
    assert half.share_closer == pytest.approx(0.505, abs=0.01)


def test_held_out_rows_that_are_training_rows_leave_no_ratio() -> None:
    train = _rows(30, 3, seed=1)
    found = memorisation(train[:4], train, train[:9])
    assert np.isnan(found.ratio)
    assert found.share_closer == 0


def test_bad_input_is_one_line() -> None:
    x = _rows(6, 3, seed=0)
    bad = x.copy()
    bad[2, 1] = np.nan
    for call in (
        lambda: nearest(x, x[:, :2]),
        lambda: nearest(x, x, k=7),
        lambda: nearest(x, x, k=0),
        lambda: nearest(x, x, k=6, exclude_self=True),
        lambda: nearest(x, x[:5], exclude_self=True),
        lambda: nearest(bad, x),
        lambda: nearest(x.astype(np.float64) * 1e200, x),
        lambda: precision_recall(x, x[:3], k=3),
        lambda: precision_recall(x[:3], x, k=3),
        lambda: precision_recall(x, bad),
        lambda: precision_recall(x, x, k=0),
        lambda: memorisation(x, x, x[:0]),
        lambda: memorisation(x, x[:, :1], x),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
