"""The Fréchet distance against scipy's matrix square root, closed forms, and covariances of low rank."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from visus.errors import DataError
from visus.measures import frechet, frechet_distance


def _mixed(n: int, d: int, *, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift


def _by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """As pytorch-fid writes it."""
    a, b = np.cov(x.T), np.cov(y.T)
    away = x.mean(axis=0) - y.mean(axis=0)
    return float(away @ away + np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (60, 500, 33), (400, 20, 1 + 18)])
def test_it_is_the_number_of_scipy(n: int, m: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _mixed(n, d, seed=1), _mixed(m, d, seed=2, shift=0.7)
    monkeypatch.setattr(frechet, "block_rows", lambda *_, **__: 41)
    found = frechet_distance(x, y)
    assert found.distance == pytest.approx(_by_scipy(x, y), rel=1e-9)
    assert found.distance == pytest.approx(found.mean_part + found.covariance_part)
    assert (found.n_x, found.n_y) == (n, m)
    assert frechet_distance(y, x).distance == pytest.approx(found.distance, rel=1e-12)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    # Rows +-s_j e_j: mean 0, covariance diagonal 2 s_j^2 / (2 d - 1), exactly.
    a, b, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5]), np.array([1.0, 0.0, -2.0])
    x, y = np.concatenate([np.diag(a), -np.diag(a)]), np.concatenate([np.diag(b), -np.diag(b)]) + shift
    found = frechet_distance(x, y)
    assert found.mean_part == pytest.approx(5.0, rel=1e-14)
    assert found.covariance_part == pytest.approx(2 / 5 * ((a - b) ** 2).sum(), rel=1e-13)


@pytest.mark.parametrize("n", [300, 10, 2])
def test_a_set_is_at_no_distance_from_itself_nor_a_shuffled_copy(n: int) -> None:
    x = _mixed(n, 20, seed=3).astype(np.float32)
    scale = np.trace(np.cov(x.T))
    assert frechet_distance(x, x).distance <= 1e-13 * scale
    assert frechet_distance(x, x[::-1]).distance <= 1e-12 * scale


def test_low_rank_is_exact() -> None:
    # Five rows in 40 dimensions against nine, and against a set in the orthogonal complement, where nothing is shared.
    x, y = _mixed(5, 40, seed=4), _mixed(9, 40, seed=5)
    a, b = (r - r.mean(axis=0) for r in (x, y))
    shared = np.linalg.norm(a @ b.T, "nuc") / np.sqrt(4 * 8)
    expected = (a**2).sum() / 4 + (b**2).sum() / 8 - 2 * shared
    assert frechet_distance(x, y).covariance_part == pytest.approx(expected, rel=1e-12)
    left, right = np.zeros((30, 8)), np.zeros((30, 8))
    left[:, :4], right[:, 4:] = _mixed(30, 4, seed=6), _mixed(30, 4, seed=7)
    apart = frechet_distance(left, right).covariance_part
    assert apart == pytest.approx(np.trace(np.cov(left.T)) + np.trace(np.cov(right.T)), rel=1e-14)
    # One duplicated and one constant feature: full of rows, short of rank; scaling by 2 costs tr S (sqrt(2 * 2) - 1)^2.
    x = np.concatenate([_mixed(100, 6, seed=8)] * 2 + [np.ones((100, 1))], axis=1)
    assert frechet_distance(x - x.mean(axis=0), 2 * (x - x.mean(axis=0))).distance == pytest.approx(
        np.trace(np.cov(x.T)), rel=1e-12
    )


def test_far_from_the_origin_nothing_is_lost() -> None:
    x, y = _mixed(200, 8, seed=1), _mixed(200, 8, seed=2)
    assert frechet_distance(x + 1e6, y + 1e6).distance == pytest.approx(frechet_distance(x, y).distance, rel=1e-8)


def test_bad_input_is_one_line() -> None:
    x = _mixed(5, 3, seed=0)
    bad = x.copy()
    bad[0, 0] = np.inf
    for call in (
        lambda: frechet_distance(x[:1], x),
        lambda: frechet_distance(x, x[:1]),
        lambda: frechet_distance(x, x[:, :2]),
        lambda: frechet_distance(bad, x),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
