"""The shuffled-label control: against one fit after the other, and where the answer is planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from visus.errors import DataError
from visus.measures.probe import PROTOCOLS, linear_probe
from visus.measures.probe_null import PermutationNull, ProbeSetting, permutation_null
from visus.measures.probe_solver import solve_path


def _noise(n: int, d: int, *, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32), rng.integers(0, classes, n)


@pytest.mark.parametrize("protocol", ["visus", "clip"])
@pytest.mark.parametrize("lambda_", [1.0, 1e-3])
def test_all_permutations_at_once_are_one_fit_after_the_other(protocol: str, lambda_: float) -> None:
    x, y = _noise(90, 12)
    x[:, 3] = x[:, 3] * 20 + 4
    train, test = np.arange(60), np.arange(60, 90)
    found = permutation_null(x, y, train=train, test=test, setting=ProbeSetting(3, lambda_, protocol), seed=5)
    assert found.accuracy.shape == (20,)
    generator = np.random.default_rng(5)
    z = x.astype(np.float64)
    if PROTOCOLS[protocol].standardise:
        z = (z - z[train].mean(0)) / z[train].std(0)
    slow = []
    for _ in range(20):
        model = LogisticRegression(C=1 / (lambda_ * 60), tol=1e-9, max_iter=10_000)
        slow.append((model.fit(z[train], generator.permutation(y[train])).predict(z[test]) == y[test]).mean())
    # An image that lies on a border may fall to either side.
    np.testing.assert_allclose(found.accuracy, slow, atol=1 / 30 + 1e-9)
    assert np.isclose(found.accuracy, slow).mean() > 0.85


def test_labels_by_row_give_each_row_its_own_optimum() -> None:
    x, _ = _noise(80, 9)
    y = np.random.default_rng(1).integers(0, 4, (5, 80))
    lambdas = [1e-3, 1.0, 1e-2, 1e-3, 10.0]
    together = solve_path(x, y, lambdas=lambdas, n_classes=4, standardise=True)
    for k, value in enumerate(lambdas):
        alone = solve_path(x, y[k], lambdas=[value], n_classes=4, standardise=True)
        np.testing.assert_allclose(together.objective[k], alone.objective[0], rtol=1e-5)
        np.testing.assert_allclose(together.W[k], alone.W[0], atol=2e-3)
    with pytest.raises(DataError, match="4 rows of labels for 5 lambdas"):
        solve_path(x, y[:4], lambdas=lambdas, n_classes=4)


def test_random_labels_fall_inside_about_19_times_in_20_and_real_ones_far_outside() -> None:
    inside, p_values = 0, []
    studies = 150
    for seed in range(studies):
        x, y = _noise(60, 4, classes=2, seed=seed)
        train, test = np.arange(30), np.arange(30, 60)
        null = permutation_null(x, y, train=train, test=test, setting=ProbeSetting(2, 0.1), seed=1000 + seed)
        path = solve_path(x[train], y[train], lambdas=[0.1], n_classes=2, standardise=True)
        real = float((path.logits(x[test], 0).argmax(1) == y[test]).mean())
        inside += not null.exceeded_by(real)
        p_values.append(null.p_value(real))
    # At least 95 % (accuracies on 30 images tie, which keeps a little more inside); five standard errors below is 0.86.
    assert 0.90 <= inside / studies < 1
    assert 0.4 < float(np.mean(p_values)) < 0.75

    x, y = _noise(300, 8, classes=10)
    x[:, :5] += 8 * np.random.default_rng(2).standard_normal((10, 5))[y]
    train, test = np.arange(200), np.arange(200, 300)
    probe = linear_probe(x, y, folds=[(train[:150], train[150:])], train=train, test=test, n_classes=10)
    null = permutation_null(x, y, train=train, test=test, setting=ProbeSetting(10, probe.lambda_))
    assert probe.top1 > 0.9 > 0.5 > null.point
    assert null.exceeded_by(probe.top1)
    assert null.p_value(probe.top1) == pytest.approx(1 / 21)


def test_the_mean_of_balanced_classes_is_chance() -> None:
    x, _ = _noise(120, 6)
    y = np.arange(120) % 3
    null = permutation_null(
        x, y, train=np.arange(90), test=np.arange(90, 120), setting=ProbeSetting(3, 0.01), permutations=200
    )
    assert null.mean == pytest.approx(1 / 3, abs=0.03)


def test_the_point_is_the_rank_that_is_exceeded_once_in_twenty() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, 100) / 100)
    assert PermutationNull(values).point == pytest.approx(0.95)
    assert PermutationNull(values[:20]).point == values[:20].max()
    assert PermutationNull(values[:18]).point == math.inf
    assert PermutationNull(np.full(20, 0.5)).exceeded_by(0.5) is False
    assert PermutationNull(np.full(20, 0.5)).p_value(0.5) == 1.0


def test_the_source_and_the_order_of_rows_change_nothing() -> None:
    x, y = _noise(70, 5)
    train, test = np.arange(50), np.arange(50, 70)
    a = permutation_null(x, y, train=train, test=test, setting=ProbeSetting(3, 0.1))
    b = permutation_null(
        lambda: iter(np.array_split(x, 7)), y, train=train[::-1], test=test[::-1], setting=ProbeSetting(3, 0.1)
    )
    np.testing.assert_array_equal(a.accuracy, b.accuracy)


def test_what_does_not_fit_is_one_line() -> None:
    x, y = _noise(30, 4)
    rows = {"train": np.arange(20), "test": np.arange(20, 30), "setting": ProbeSetting(3, 0.1)}
    for change, match in (
        ({"test": np.arange(15, 30)}, "share rows"),
        ({"permutations": 0}, "permutations is 0"),
        ({"setting": ProbeSetting(3, 0.1, "mine")}, "unknown probe protocol 'mine'"),
        ({"setting": ProbeSetting(3, -1.0)}, "positive numbers"),
        ({"setting": ProbeSetting(2, 0.1)}, "labels must lie in 0..1"),
    ):
        with pytest.raises(DataError, match=match):
            permutation_null(x, y, **(rows | change))
