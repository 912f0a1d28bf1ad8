"""From the words of the command line to options, and from features to labelled images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.studies.transfer.layer_samples import answers, images, model, score

from visus.errors import DataError, SpecError
from visus.images import Splits
from visus.studies.common.labelled_images import valid_indices
from visus.studies.common.options import ImageOptions
from visus.studies.transfer.evaluation import Layer, best_of, evaluate_layer, score_knn
from visus.studies.transfer.options import FeatureOptions, ProbeOptions, TrainingRequest
from visus.studies.transfer.regime_options import chosen_rates, chosen_regimes
from visus.studies.transfer.settle import DEFAULT_MODEL, settled


def settle(
    *,
    features: FeatureOptions | None = None,
    probe: ProbeOptions | None = None,
    models: list[str] | None = None,
    **asked: Any,
) -> Any:
    request: dict[str, Any] = {
        "regime": None, "budget": "none", "epochs": 2, "scratch_epochs": None, "lr": None, "batch": 8, "accumulate": 1, "size": None,
        "augment": True, "views": 0, "seeds": 1, "devices": 1,
    }  # fmt: skip
    return settled(
        models=models,
        images=ImageOptions("visus:digits"),
        features=features or FeatureOptions(device="cpu", seed=3),
        probe=probe or ProbeOptions(),
        training=TrainingRequest(**{**request, **asked}),
        ablate_skips=None,
    )


def test_the_default_model_is_named_and_a_model_given_twice_counts_once() -> None:
    assert settle().models == (DEFAULT_MODEL,)
    assert settle(models=["a", "b", "a"]).models == ("a", "b")


def test_seed_and_device_reach_probe_and_training() -> None:
    options = settle(budget="10m", lr="1e-3,1e-4")
    assert options.seed == options.probe.seed == options.training.seed == 3
    assert options.probe.device == options.features.device == "cpu"
    assert options.training.budget == 600
    assert options.training.lr == (1e-4, 1e-3)
    assert "probe" not in options.training.regimes


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"features": FeatureOptions(pool="max")}, SpecError, "pool"),
        ({"features": FeatureOptions(precision="fp8")}, SpecError, "precision"),
        ({"probe": ProbeOptions(protocol="mine")}, SpecError, "protocol"),
        ({"regime": ["heads"]}, SpecError, "head"),
        ({"lr": "fast"}, SpecError, "1e-4,3e-4"),
        ({"epochs": 0}, SpecError, "--epochs"),
        ({"batch": 8, "accumulate": 5}, SpecError, "--accumulate"),
        ({"budget": "soon"}, SpecError, "10m"),
    ],
)
def test_a_word_that_is_none_of_the_known_is_one_line(more: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        settle(**more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "regimes"),
    [
        (None, ("probe", "head", "last-block", "full", "scratch")),
        (["full,head"], ("probe", "head", "full")),
        (["scratch", "lora"], ("probe", "lora", "scratch")),
        (["probe"], ("probe",)),
    ],
)
def test_regimes_come_in_their_order_always_with_the_probe(asked: list[str] | None, regimes: tuple[str, ...]) -> None:
    assert chosen_regimes(asked) == regimes


def test_rates_rise_and_are_above_nought() -> None:
    assert chosen_rates("3e-3, 1e-4,1e-4") == (1e-4, 3e-3)
    with pytest.raises(SpecError, match="above 0"):
        chosen_rates("0")


def test_images_that_one_extraction_could_not_decode_leave_every_split() -> None:
    rows = np.arange(10)
    splits = Splits(rows[:6], ((rows[:4], rows[4:6]),), rows[6:])
    whole: Any = SimpleNamespace(rows=rows)
    broken: Any = SimpleNamespace(rows=np.array([0, 1, 3, 4, 5, 7, 8, 9]))
    valid, moved = valid_indices(splits, [whole, broken], 10)
    assert valid.tolist() == [0, 1, 3, 4, 5, 7, 8, 9]
    assert valid[moved.train].tolist() == [0, 1, 3, 4, 5]
    assert valid[moved.test].tolist() == [7, 8, 9]
    assert valid[moved.folds[0][1]].tolist() == [4, 5]


def test_a_split_that_is_left_empty_is_refused() -> None:
    rows = np.arange(6)
    splits = Splits(rows[:4], ((rows[:2], rows[2:4]),), rows[4:])
    with pytest.raises(DataError, match="a split is empty"):
        valid_indices(splits, [SimpleNamespace(rows=rows[:4])], 6)  # type: ignore[list-item]


def test_labelled_images_give_test_labels_names_and_positions() -> None:
    data = images(6)
    assert data.test_y.tolist() == data.y[60:].tolist()
    assert data.test_positions.tolist() == list(range(60, 66))
    assert data.ids[60] == "060.png"
    assert model().spec == "timm:net"


def test_the_best_layer_is_that_of_validation_among_all_or_one_model() -> None:
    data = images()
    scores = [
        score(data, "a", 0.9, validation=0.3),
        score(data, "b", 0.2, validation=0.6),
        score(data, "c", 0.5, model="other", validation=0.9),
    ]
    assert best_of(scores).tap == "c"
    assert best_of(scores, "timm:net").tap == "b"


def separable(n_classes: int = 3) -> tuple[Any, np.ndarray]:
    data = images()
    rng = np.random.default_rng(0)
    x = np.eye(n_classes, 8, dtype=np.float32)[data.y] * 4 + rng.normal(size=(len(data.y), 8)).astype(np.float32)
    return data, x.astype(np.float32)


def test_a_layer_that_knows_the_classes_is_found_out_and_a_random_one_is_not() -> None:
    data, x = separable()
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    options = ProbeOptions(controls=False)
    found = evaluate_layer(x, data, Layer("m", "late", "late"), options, random_x=noise)
    assert found.probe.top1 > 0.9
    assert found.random is not None
    assert found.random < 0.6
    assert found.shuffled is None
    assert found.knn_top1 > 0.9
    assert found.silhouette > 0.2
    assert found.width == 8
    empty = evaluate_layer(noise, data, Layer("m", "early", "early"), options)
    assert empty.random is None
    assert empty.probe.top1 < 0.6


def test_the_k_of_the_neighbours_is_chosen_on_validation() -> None:
    data, x = separable()
    tested, k, validation, predicted = score_knn(x, data, device="cpu")
    assert k in tested
    assert tested[k] == pytest.approx(float(np.mean(predicted == data.test_y)))
    fit, held = data.splits.folds[0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = np.argsort(-(unit[held] @ unit[fit].T), axis=1)[:, :1]
    assert validation >= float(np.mean(data.y[fit][near[:, 0]] == data.y[held])) - 1e-9


def test_one_image_a_class_has_no_silhouette() -> None:
    _, x = separable()
    few = images(3)
    found = evaluate_layer(x[:63], few, Layer("m", "late", "late"), ProbeOptions(controls=False))
    assert np.isnan(found.silhouette)
    assert answers(few, 1.0).tolist() == few.test_y.tolist()
