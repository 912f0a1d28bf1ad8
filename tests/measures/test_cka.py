"""CKA against the slow definition, in both of its forms; independent, rotated and constant features."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures import cka, cka_matrix, unbiased_cka


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, letter by letter."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


def _slow(x: np.ndarray, y: np.ndarray) -> float:
    return _hsic(x, y) / np.sqrt(_hsic(x, x) * _hsic(y, y))


@pytest.mark.parametrize(("n", "d1", "d2"), [(60, 5, 8), (20, 70, 90), (40, 3, 300), (4, 2, 2)])
@pytest.mark.parametrize("form", ["feature", "image", "chosen"])
def test_both_forms_are_the_definition(n: int, d1: int, d2: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(0, 0), (0, 1), (1, 1)]
    if form != "chosen":
        monkeypatch.setattr(cka, "plan_products", lambda *_: (pairs, []) if form == "feature" else ([], pairs))
    monkeypatch.setattr(cka, "block_rows", lambda *_, **__: 7)
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, d1)) + 2
    y = rng.standard_normal((n, d2)) + np.resize(x[:, 0], n)[:, None]
    assert unbiased_cka(x, y) == pytest.approx(_slow(x, y), rel=1e-8)


def test_the_estimator_is_the_mean_over_quadruples() -> None:
    # Independent of eq. 5: HSIC's U-statistic over all ordered 4-tuples of distinct rows.
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    k, m = x @ x.T, y @ y.T
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(7), 4)]
    assert _hsic(x, y) == pytest.approx(np.mean(terms), rel=1e-10)


def test_independent_features_score_zero_even_when_n_equals_d() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 300)), rng.standard_normal((300, 300))
    centred = [a - a.mean(axis=0) for a in (x, y)]
    biased = np.linalg.norm(centred[0].T @ centred[1]) ** 2
    biased /= np.linalg.norm(centred[0].T @ centred[0]) * np.linalg.norm(centred[1].T @ centred[1])
    assert biased > 0.4  # what the biased estimator says
    assert abs(unbiased_cka(x, y)) < 0.02


def test_rotation_scale_and_translation_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((80, 10)), rng.standard_normal((80, 30))
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    assert unbiased_cka(x, 1e-3 * x @ turn + 5) == pytest.approx(1.0, rel=1e-9)
    assert unbiased_cka(1e150 * x, y) == pytest.approx(unbiased_cka(x, y), rel=1e-9)
    assert unbiased_cka(1e-160 * x, y) == pytest.approx(unbiased_cka(x, y), rel=1e-9)


def test_the_matrix_is_symmetric_mixes_forms_and_holds_every_pair() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 4))
    taps = [x, (x @ rng.standard_normal((4, 400))).astype(np.float32), rng.standard_normal((50, 700)), np.ones((50, 3))]
    assert all(cka.plan_products([4, 400, 700], 50))  # both forms take part
    matrix = cka_matrix(taps)
    for i in range(3):
        for j in range(3):
            assert matrix[i, j] == pytest.approx(
                _slow(taps[i].astype(float), taps[j].astype(float)), rel=1e-5, abs=1e-9
            )
    assert np.isnan(matrix[3]).all()
    assert np.isnan(matrix[:, 3]).all()


def test_bad_input_is_one_line() -> None:
    x = np.random.default_rng(3).standard_normal((10, 3))
    for bad in (x[:3], x[:9], np.full((10, 3), np.nan), x[:0], x[:, 0]):
        with pytest.raises(DataError) as error:
            unbiased_cka(x[: len(bad)] if len(bad) == 3 else x, bad)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError):
        cka_matrix([])
