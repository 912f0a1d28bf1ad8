"""Every public measure, given what people pass by mistake: a DataError in one line, never another error; and lists as arrays."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import visus.measures as measures
from visus.errors import DataError
from visus.measures import ProbeSetting

_RNG = np.random.default_rng(0)
X = _RNG.standard_normal((24, 5))
Z = X[:, :2].copy()
Y = np.arange(24) % 3
HIT = (np.arange(24) % 4 > 0).astype(int)
P = np.abs(X[:, :3]) / np.abs(X[:, :3]).sum(axis=1, keepdims=True)
TRAIN, TEST = np.arange(16), np.arange(16, 24)
# The arguments of a small call that works: those named in capitals by the value are arrays of features, labels, or hits.
CALLS: dict[str, dict[str, Any]] = {
    "active_units": {"mu": X, "logvar": X},
    "aggregate_moments": {"mu": X, "logvar": X},
    "align": {"points": Z, "reference": Z + 1},
    "cka_matrix": {"sets": [X, X**2]},
    "class_recall": {"y_true": Y, "y_pred": Y, "n_classes": 3},
    "confused_pairs": {"y_true": Y, "y_pred": Y[::-1].copy(), "n_classes": 3},
    "confusion_changes": {"y_true": Y, "before": Y, "after": Y[::-1].copy(), "n_classes": 3},
    "confusion_matrix": {"y_true": Y, "y_pred": Y, "n_classes": 3},
    "ece": {"probabilities": P, "y": Y},
    "effective_beta": {"gradient_loss": X[0], "gradient_reconstruction": X[1], "gradient_kl": X[0] - X[1]},
    "frechet_distance": {"x": X, "y": X + 1},
    "gaussian_kl": {"mu": X, "logvar": X},
    "holm": {"p_values": np.linspace(0.01, 0.5, 5)},
    "importance_bound": {"log_weights": X, "dims": 4},
    "knn_accuracy": {"train_x": X[:16], "train_y": Y[:16], "test_x": X[16:], "test_y": Y[16:], "n_classes": 3},
    "knn_predict": {"train_x": X[:16], "train_y": Y[:16], "test_x": X[16:], "n_classes": 3},
    "layer_maps": {"x": X},
    "linear_probe": {"x": X, "y": Y, "folds": [(TRAIN[:12], TRAIN[12:])], "train": TRAIN, "test": TEST, "n_classes": 3},
    "balanced_accuracy": {"y_true": Y, "y_pred": Y, "n_classes": 3},
    "mcnemar": {"correct_a": HIT, "correct_b": HIT[::-1].copy()},
    "memorisation": {"samples": X, "train": X + 1, "held": X - 1},
    "mutual_information": {"mu": X, "logvar": X},
    "nearest": {"x": X, "y": X + 1},
    "neighbours_kept": {"x": X, "z": Z},
    "nll": {"probabilities": P, "y": Y},
    "paired_bootstrap": {"correct_a": HIT, "correct_b": HIT[::-1].copy(), "resamples": 50},
    "paired_bootstrap_balanced_accuracy": {
        "y_true": Y,
        "correct_a": HIT,
        "correct_b": HIT[::-1].copy(),
        "resamples": 50,
    },
    "pareto": {"cost": X[:, 0], "value": X[:, 1]},
    "pca": {"x": X},
    "permutation_null": {"x": X, "y": Y, "train": TRAIN, "test": TEST, "setting": ProbeSetting(3, 0.1)},
    "precision_recall": {"real": X, "fake": X + 0.1},
    "scatter_ratio": {"x": X, "y": Y},
    "silhouette_cosine": {"x": X, "y": Y},
    "solve_path": {"x": X, "y": Y, "lambdas": [0.1, 1.0], "n_classes": 3},
    "top_k": {"query": X, "base": X, "k": 2},
    "trust_figures": {"x": X, "maps": [Z]},
    "trustworthiness": {"x": X, "z": Z},
    "tsne_map": {"x": X},
    "umap_map": {"x": X},
    "unbiased_cka": {"x": X, "y": X**2},
    "unit_radius": {"points": Z},
    "wilson": {"successes": 3, "n": 10},
}
SLOW = {"tsne_map", "umap_map", "layer_maps"}
# NaN among costs and values means unknown there; of no choices and no tests there is nothing to say, which is no error.
TAKEN = {("pareto", "nan"), ("holm", "empty"), ("pareto", "empty")}


def _functions() -> list[str]:
    return [name for name in measures.__all__ if inspect.isfunction(getattr(measures, name))]


def _wrong(value: np.ndarray) -> dict[str, Any]:
    """What may stand in the place of an array by mistake."""
    wrong: dict[str, Any] = {
        "ragged": [[1.0, 2.0], [3.0]],
        "texts": np.full(value.shape, "cat"),
        "objects": np.full(value.shape, {}, dtype=object),
        "complex": value + 1j,
        "none": None,
        "empty": value[:0],
        "too deep": np.zeros((*value.shape, 2, 2)),
    }
    if value.dtype.kind == "f":
        wrong["nan"] = np.where(np.arange(value.size).reshape(value.shape) == 3, np.nan, value)
    return wrong


def test_every_public_function_is_tried_here() -> None:
    assert sorted(CALLS) == _functions()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_is_no_array_of_numbers_is_one_line(name: str) -> None:
    function, call = getattr(measures, name), CALLS[name]
    tried = 0
    for argument, value in call.items():
        if not isinstance(value, np.ndarray):
            continue
        for kind, wrong in _wrong(value).items():
            if (name, kind) in TAKEN:
                continue
            with warnings.catch_warnings(), pytest.raises(DataError) as told:
                warnings.simplefilter("error")
                taken = function(**(call | {argument: wrong}))
                pytest.fail(f"{argument} as {kind} was taken: {taken}")
            assert "\n" not in str(told.value), (argument, kind)
            tried += 1
    assert tried or not any(isinstance(v, np.ndarray) for v in call.values())


@pytest.mark.parametrize("name", sorted(set(CALLS) - SLOW))
def test_lists_and_half_precision_are_taken_as_arrays_are(name: str) -> None:
    function, call = getattr(measures, name), CALLS[name]
    rounded = {
        k: v.astype(np.float16) if isinstance(v, np.ndarray) and v.dtype == float else v for k, v in call.items()
    }
    if name in ("ece", "nll"):  # probabilities of half precision do not add up to one
        rounded = call
    wide = {
        k: v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype == np.float16 else v
        for k, v in rounded.items()
    }
    expected = function(**wide)
    _same(function(**{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in wide.items()}), expected, 1e-6)
    _same(function(**rounded), expected, 2e-2)


def _same(found: Any, expected: Any, tol: float) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            _same(found[key], expected[key], tol)
    elif isinstance(expected, tuple | list):
        for a, b in zip(found, expected, strict=True):
            _same(a, b, tol)
    elif hasattr(expected, "__dataclass_fields__"):
        for key in expected.__dataclass_fields__:
            _same(getattr(found, key), getattr(expected, key), tol)
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=tol, atol=tol)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tol, abs=tol, nan_ok=True)
    else:
        np.testing.assert_array_equal(found, expected)
