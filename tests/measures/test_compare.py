"""Paired comparisons against slow resampling, scipy and worked examples; and confusions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import confusion_matrix as sk_confusion
from sklearn.metrics import recall_score

from visus.errors import DataError
from visus.measures import (
    class_recall,
    confused_pairs,
    confusion_matrix,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_bootstrap_balanced_accuracy,
    wilson,
)


def _models(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    return hard + 0.2 * rng.random(n) < 0.8, hard + 0.2 * rng.random(n) < 0.75


def _slow_bootstrap(delta: np.ndarray, resamples: int) -> np.ndarray:
    rng = np.random.default_rng(99)
    means = [delta[rng.integers(0, len(delta), len(delta))].mean() for _ in range(resamples)]
    return np.quantile(means, [0.025, 0.975])


def test_the_multinomial_bootstrap_is_the_bootstrap_over_images() -> None:
    a, b = _models()
    found = paired_bootstrap(a, b, resamples=20_000, seed=1)
    delta = a.astype(float) - b
    assert found.difference == pytest.approx(delta.mean())
    # One image is 1/400 = 0.0025: the quantiles of two bootstraps agree to about one step.
    np.testing.assert_allclose([found.low, found.high], _slow_bootstrap(delta, 4000), atol=0.0026)
    assert found.high - found.low == pytest.approx(2 * 1.96 * delta.std() / 20, rel=0.1)
    assert (found.n, found.resamples, found.level) == (400, 20_000, 0.95)


def test_real_valued_scores_are_resampled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(300) + 0.05, rng.random(300)
    few = paired_bootstrap(a, b, resamples=4000, seed=3)
    monkeypatch.setattr("visus.measures.compare.FEW_VALUES", 1)
    by_image = paired_bootstrap(a, b, resamples=4000, seed=3)
    for found in (few, by_image):
        np.testing.assert_allclose([found.low, found.high], _slow_bootstrap(a - b, 4000), atol=0.006)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        a, b = rng.random(150) < 0.8, rng.random(150) < 0.7
        found = paired_bootstrap(a, b, resamples=1000, seed=0)
        covered += found.low <= 0.1 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_seeds_repeat_equal_models_do_not_differ_and_signs_turn() -> None:
    a, b = _models()
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)
    same = paired_bootstrap(a, a)
    assert (same.difference, same.low, same.high, same.clear) == (0, 0, 0, False)
    assert paired_bootstrap(b, a).difference == -paired_bootstrap(a, b).difference
    assert paired_bootstrap(np.ones(50), np.zeros(50)).clear


def test_balanced_accuracy_is_resampled_over_images() -> None:
    rng = np.random.default_rng(6)
    y = np.where(rng.random(300) < 0.7, 0, rng.integers(1, 4, 300)) * 2
    a = np.where(rng.random(300) < 0.8, y, 0)
    b = np.where(rng.random(300) < 0.6, y, 0)
    found = paired_bootstrap_balanced_accuracy(y, a == y, b == y, resamples=4000, seed=7)
    truth = recall_score(y, a, average="macro") - recall_score(y, b, average="macro")
    assert found.difference == pytest.approx(truth)
    means = []
    for _ in range(1500):
        i = rng.integers(0, 300, 300)
        classes = np.unique(y[i])
        means.append(np.mean([((a == y)[i][y[i] == c]).mean() - ((b == y)[i][y[i] == c]).mean() for c in classes]))
    np.testing.assert_allclose([found.low, found.high], np.quantile(means, [0.025, 0.975]), atol=0.015)


def test_mcnemar_is_exact() -> None:
    a = np.array([1] * 9 + [0] * 2 + [1] * 30 + [0] * 5)
    b = np.array([0] * 9 + [1] * 2 + [1] * 30 + [0] * 5)
    found = mcnemar(a, b)
    assert (found.a_only, found.b_only) == (9, 2)
    assert found.p_value == pytest.approx(2 * binom.cdf(2, 11, 0.5))  # 0.0654
    assert mcnemar(a, a).p_value == 1.0
    assert mcnemar(b, a).p_value == found.p_value


def test_holm_on_a_worked_example_and_against_the_step_down_rule() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(8).random(20) ** 3
    adjusted = holm(p)
    rejected = np.zeros(20, bool)
    for step, i in enumerate(np.argsort(p)):
        if p[i] > 0.05 / (20 - step):
            break
        rejected[i] = True
    assert np.array_equal(adjusted <= 0.05, rejected)
    assert 0 < rejected.sum() < 20
    assert holm([]).tolist() == []


def test_confused_pairs_in_order_with_examples() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    p = np.array([1, 1, 0, 2, 0, 0, 2, 1, 2])
    found = confused_pairs(y, p, n_classes=4, examples=1, score=np.array([0.1, 0.9, 1, 1, 0.3, 0.3, 1, 1, 1]))
    assert [(f.true, f.predicted, f.count, f.share, f.examples) for f in found] == [
        (1, 0, 2, 1.0, (4,)),  # equal counts: the larger share first; equal scores: the first image
        (0, 1, 2, 0.5, (1,)),
        (2, 1, 1, 1 / 3, (7,)),
        (0, 2, 1, 0.25, (3,)),
    ]
    assert confused_pairs(y, p, n_classes=4, top=1)[0].examples == (4, 5)
    assert confused_pairs(y, y, n_classes=4) == []


def test_confusions_and_recalls_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(9)
    y, p = rng.integers(0, 6, 500), rng.integers(0, 6, 500)
    matrix = confusion_matrix(y, p, n_classes=7)
    assert np.array_equal(matrix, sk_confusion(y, p, labels=range(7)))
    found = class_recall(y, p, n_classes=7)
    np.testing.assert_allclose(found.recall[:6], recall_score(y, p, average=None))
    assert np.isnan(found.recall[6])
    assert (found.low[6], found.high[6]) == (0, 1)
    assert (found.low[2], found.high[2]) == wilson(int(matrix[2, 2]), int((y == 2).sum()))
    pairs = confused_pairs(y, p, n_classes=7, top=None, examples=1000)
    assert sum(f.count for f in pairs) == (y != p).sum()
    assert sorted(i for f in pairs for i in f.examples) == np.flatnonzero(y != p).tolist()


def test_bad_input_is_one_line() -> None:
    a, b = _models()
    y = np.zeros(400, int)
    for call in (
        lambda: paired_bootstrap(a, b[1:]),
        lambda: paired_bootstrap(a[:0], b[:0]),
        lambda: paired_bootstrap(np.full(3, np.nan), np.zeros(3)),
        lambda: paired_bootstrap(a, b, resamples=0),
        lambda: paired_bootstrap(a, b, level=95),
        lambda: paired_bootstrap_balanced_accuracy(y[1:], a, b),
        lambda: paired_bootstrap_balanced_accuracy(y, a * 2, b),
        lambda: mcnemar(a * 0.5, b),
        lambda: mcnemar(a, b[:-1]),
        lambda: holm([0.1, 1.5]),
        lambda: confusion_matrix(y, y[1:], n_classes=1),
        lambda: confusion_matrix(y + 1, y, n_classes=1),
        lambda: confused_pairs(y, y, n_classes=1, score=np.zeros(3)),
        lambda: class_recall(y, y, n_classes=0),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
