"""The linear probe: planted truth, the choice of lambda, no leaks, controls, protocols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from visus.errors import DataError
from visus.measures.probe import PROTOCOLS, best_lambda, linear_probe


def planted(n: int = 600, d: int = 12, classes: int = 3, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((n, d))
    x[:, :classes] += spread * np.eye(classes)[y] * 3
    return (x * np.geomspace(1, 30, d) + 5).astype(np.float32), y


def parts(n: int = 600) -> dict[str, Any]:
    order = np.random.default_rng(0).permutation(n)
    test, train = order[: n // 3], order[n // 3 :]
    return {"folds": [(train[60:], train[:60]), (train[:-60], train[-60:])], "train": train, "test": test}


def test_planted_classes_are_found_as_scikit_learn_finds_them() -> None:
    x, y = planted()
    split = parts()
    found = linear_probe(x, y, n_classes=3, **split)
    train, test = split["train"], split["test"]
    scaler = StandardScaler().fit(x[train].astype(np.float64))
    model = LogisticRegression(C=1 / (found.lambda_ * len(train)), tol=1e-9, max_iter=5000)
    model.fit(scaler.transform(x[train]), y[train])
    np.testing.assert_allclose(found.probabilities, model.predict_proba(scaler.transform(x[test])), atol=5e-3)
    assert (found.predictions == model.predict(scaler.transform(x[test]))).mean() > 0.99
    assert found.top1 == (found.predictions == y[test]).mean() > 0.9
    assert found.confusion.sum() == len(test)
    assert found.converged
    assert found.validation_accuracy == found.path_accuracy.max()
    assert found.probabilities.dtype == found.logits.dtype == np.float32
    assert len(found.lambdas) == 45


def test_the_path_accuracy_is_that_of_separate_fits() -> None:
    x, y = planted(spread=0.4)
    split = parts()
    found = linear_probe(x, y, n_classes=3, **split)
    for k in (5, 20, 35):
        scores = []
        for fit, validation in split["folds"]:
            scaler = StandardScaler().fit(x[fit].astype(np.float64))
            model = LogisticRegression(C=1 / (found.lambdas[k] * len(fit)), tol=1e-8, max_iter=5000)
            scores.append(
                model.fit(scaler.transform(x[fit]), y[fit]).score(scaler.transform(x[validation]), y[validation])
            )
        assert found.path_accuracy[k] == pytest.approx(
            np.mean(scores), abs=0.01
        )  # one image of 120 may sit on the fence


def test_nothing_is_fitted_on_test_rows() -> None:
    x, y = planted()
    split = parts()
    before = linear_probe(x, y, n_classes=3, **split)
    x[split["test"]] += 100
    y[split["test"]] = 0
    after = linear_probe(x, y, n_classes=3, **split)
    np.testing.assert_array_equal(before.classifier.W, after.classifier.W)
    np.testing.assert_array_equal(before.path_accuracy, after.path_accuracy)


def test_results_are_in_the_order_of_test_and_do_not_depend_on_the_source() -> None:
    x, y = planted()
    split = parts()
    straight = linear_probe(x, y, n_classes=3, **split)
    blocks = linear_probe(lambda: iter(np.array_split(x, 7)), y, n_classes=3, **split)
    np.testing.assert_allclose(straight.logits, blocks.logits, rtol=1e-4, atol=1e-5)
    turned = linear_probe(x, y, n_classes=3, **{**split, "test": split["test"][::-1]})
    np.testing.assert_array_equal(straight.logits, turned.logits[::-1])


def test_noise_chooses_the_edge_and_says_so() -> None:
    # One informative direction, all others noise, few images: the strongest penalty (class means) is the best.
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.standard_normal((60, 200)).astype(np.float32) + 0.35 * (2 * y[:, None] - 1)
    rows = np.arange(60)
    found = linear_probe(x, y, n_classes=2, folds=[(rows[:20], rows[20:40])], train=rows[:40], test=rows[40:])
    assert found.at_edge == (found.lambda_ in (found.lambdas[0], found.lambdas[-1]))
    assert found.top1 > 0.9


def test_ties_go_to_the_lower_nll_then_the_larger_lambda() -> None:
    lambdas = np.array([10.0, 1.0, 0.1, 0.01])
    accuracy = np.array([0.8, 0.9, 0.9, 0.9])
    assert best_lambda(accuracy, np.array([0.1, 0.5, 0.4, 0.6]), lambdas) == 2
    assert best_lambda(accuracy, np.array([0.1, 0.4, 0.4, 0.4]), lambdas) == 1


def test_published_grids() -> None:
    dinov2, clip = PROTOCOLS["dinov2"], PROTOCOLS["clip"]
    np.testing.assert_allclose(1 / (dinov2.lambdas(100) * 100), 10 ** np.linspace(-6, 5, 45))
    assert len(clip.values) == 97
    assert not dinov2.standardise
    x, y = planted()
    found = linear_probe(x, y, n_classes=3, protocol="dinov2", **parts())
    np.testing.assert_array_equal(found.classifier.scale, 1)
    assert found.top1 > 0.9


def test_bad_input_is_named() -> None:
    x, y = planted()
    split = parts()
    with pytest.raises(DataError, match="unknown probe protocol"):
        linear_probe(x, y, n_classes=3, protocol="moco", **split)
    with pytest.raises(DataError, match="share rows"):
        linear_probe(x, y, n_classes=3, **{**split, "test": split["train"][:5]})
    with pytest.raises(DataError, match="at least one fold"):
        linear_probe(x, y, n_classes=3, **{**split, "folds": []})
    with pytest.raises(DataError, match="holds test rows"):
        linear_probe(x, y, n_classes=3, **{**split, "folds": [(split["train"], split["test"])]})
    with pytest.raises(DataError, match="must lie in"):
        linear_probe(x, y, n_classes=3, **{**split, "test": np.array([10_000])})
    with pytest.raises(DataError, match="one class only"):
        linear_probe(x, np.zeros_like(y), n_classes=3, **split)
