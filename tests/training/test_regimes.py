"""Regimes over a small real network: what is frozen stays frozen, cached fronts change nothing, test has no say, a second call reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import colours

from visus.errors import DataError
from visus.images import ImageSet, load_images
from visus.models import Backbone, load_backbone
from visus.training import batches, learning_rates
from visus.training import prepared as prepared_module
from visus.training import train as train_module
from visus.training.batches import CachedFeed, ImageFeed
from visus.training.budget import LEAST_IMPORTANT
from visus.training.devices import Devices
from visus.training.epoch import DivergedError
from visus.training.networks import build, trained_backbone
from visus.training.prepared import Prepared, prepare
from visus.training.recipe import Recipe
from visus.training.records import Trial
from visus.training.regimes import REGIMES, STANDARD, TRAINED, WHOLE
from visus.training.train import train
from visus.training.training_data import Settings, TrainingData

SETTINGS = Settings(engine="torch")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images(f"folder:{colours.write(tmp_path_factory.mktemp('colours'), each=20, noise=40, size=(24, 30))}")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    found = load_backbone("timm:test_resnet?weights=none", seed=1)
    # Smaller pictures: the same network, a fraction of the time.
    return replace(found, preprocess=batches.at_size(found.preprocess, 64))


@pytest.fixture(scope="module")
def material(images: ImageSet) -> TrainingData:
    splits = images.split(seed=0)
    fit, val = splits.folds[0]
    assert images.labels is not None
    return TrainingData(images, images.labels, 3, fit, val, splits.test)


def ready(
    regime: str, backbone: Backbone, material: TrainingData, settings: Settings = SETTINGS, *, seed: int = 0
) -> Prepared:
    built = build(regime, backbone, 3, settings, seed=seed)
    return prepare(built, backbone, material, settings, device="cpu", seed=seed)


def run(prepared: Prepared, folder: Path, **kwargs):  # type: ignore[no-untyped-def]
    settings = {"grid": (3e-3,), "trial_epochs": 1, "devices": Devices(), "folder": folder} | kwargs
    return train(prepared, Recipe(3e-3, epochs=2, batch=12, weight_decay=0.5), **settings)


def test_what_runs_as_a_rule_and_what_runs_the_whole_network_in_every_epoch() -> None:
    assert STANDARD == ("probe", "head", "last-block", "full", "scratch")
    assert TRAINED == ("head", "last-block", "lora", "full", "scratch")
    assert WHOLE == ("lora", "full", "scratch")
    assert {name for name, r in REGIMES.items() if r.share} == set(WHOLE)
    assert set(LEAST_IMPORTANT) == set(TRAINED) - {"head"}


def test_every_regime_has_a_grid_of_rising_learning_rates() -> None:
    grids = [REGIMES[name].grid for name in TRAINED]
    assert all(list(g) == sorted(g) and len(g) >= 3 for g in grids)


@pytest.mark.parametrize("regime", ["head", "last-block"])
def test_frozen_means_frozen_statistics_and_weights(
    regime: str, backbone: Backbone, material: TrainingData, tmp_path: Path
) -> None:
    prepared = ready(regime, backbone, material)
    classifier = prepared.built.classifier
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    run(prepared, tmp_path)
    after = classifier.state_dict()
    block = f"trunk.{prepared.built.path}." if prepared.built.path else "head."
    frozen = [k for k in before if not k.startswith((block, "head."))]
    assert any("running_mean" in k for k in frozen)
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert all(not torch.equal(before[n], after[n]) for n in prepared.built.names if before[n].ndim > 1)
    if regime == "last-block":
        assert any("running_mean" in k and not torch.equal(before[k], after[k]) for k in before if k.startswith(block))


def test_training_over_the_cut_is_training_of_the_whole_network(
    backbone: Backbone, material: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = ready("last-block", backbone, material)
    assert isinstance(cut.feed, CachedFeed)
    assert cut.note == ""
    monkeypatch.setattr(prepared_module, "can_cut", lambda *a, **k: False)
    whole = ready("last-block", backbone, material)
    assert isinstance(whole.feed, ImageFeed)
    assert "every epoch" in whole.note
    a, b = run(cut, tmp_path / "cut"), run(whole, tmp_path / "whole")
    assert np.allclose(a.logits, b.logits, atol=1e-3)
    assert [e.train_loss for e in a.epochs] == pytest.approx([e.train_loss for e in b.epochs], rel=1e-4)


def test_known_features_and_the_front_give_the_same_head(
    backbone: Backbone, material: TrainingData, tmp_path: Path
) -> None:
    computed = ready("head", backbone, material)
    assert isinstance(computed.feed, CachedFeed)
    late = {"train": computed.feed.views[0], **computed.feed.held_views}
    known = ready("head", backbone, replace(material, late=late))
    assert np.array_equal(run(computed, tmp_path / "a").logits, run(known, tmp_path / "b").logits)
    assert computed.trunk_flops == pytest.approx(known.trunk_flops)


def test_held_out_pictures_are_never_augmented(
    backbone: Backbone, material: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = ready("full", backbone, material)
    shown = []
    real = batches.augmented
    monkeypatch.setattr(batches, "augmented", lambda *a: shown.append(1) or real(*a))
    few = np.arange(3)
    for part in ("validation", "test"):
        x = prepared.feed.held_batch(part, few, device=torch.device("cpu"))
        by_hand = [backbone.preprocess(material.images.decode(int(i))) for i in material.rows(part)[few]]
        assert torch.equal(x, backbone.preprocess.normalize(torch.from_numpy(np.stack(by_hand))))
    assert not shown
    prepared.feed.batch(few, epoch=0, device=torch.device("cpu"))
    assert shown


def test_views_are_cached_and_differ_for_training_pictures_alone(backbone: Backbone, material: TrainingData) -> None:
    prepared = ready("head", backbone, material, replace(SETTINGS, views=3))
    plain = ready("head", backbone, material)
    assert isinstance(prepared.feed, CachedFeed)
    assert isinstance(plain.feed, CachedFeed)
    assert prepared.feed.views.shape[0] == 3
    assert np.abs(prepared.feed.views[0] - prepared.feed.views[1]).max() > 1e-3
    assert all(np.array_equal(prepared.feed.held_views[p], plain.feed.held_views[p]) for p in batches.PARTS)
    seen = {
        prepared.feed.batch(np.array([0]), epoch=e, device=torch.device("cpu")).numpy().tobytes() for e in range(12)
    }
    assert len(seen) == 3


def test_the_learning_rate_is_chosen_on_validation_whatever_the_test_labels_say(
    backbone: Backbone, material: TrainingData, tmp_path: Path
) -> None:
    grid = (1e-5, 1e-2)
    honest = run(ready("head", backbone, material), tmp_path / "a", grid=grid)
    labels = material.labels.copy()
    labels[material.test] = 2 - labels[material.test]
    turned = run(ready("head", backbone, replace(material, labels=labels)), tmp_path / "b", grid=grid)
    assert [(t.lr, t.val_accuracy) for t in honest.trials] == [(t.lr, t.val_accuracy) for t in turned.trials]
    assert (honest.lr, honest.best) == (turned.lr, turned.best)
    assert honest.lr == max(honest.trials, key=lambda t: (t.val_accuracy, -t.val_loss)).lr
    assert np.array_equal(honest.logits, turned.logits)


def test_a_second_call_reads_what_is_finished_and_restores_the_weights(
    backbone: Backbone, material: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ready("full", backbone, material)
    done = run(first, tmp_path)
    monkeypatch.setattr(train_module, "fit", None)
    second = ready("full", backbone, material, seed=9)
    again = run(second, tmp_path)
    assert again.to_json() == done.to_json()
    assert np.array_equal(again.logits, done.logits)
    for name in first.built.names:
        assert torch.equal(first.built.classifier.state_dict()[name], second.built.classifier.state_dict()[name])


def test_a_grid_that_breaks_down_everywhere_is_told_and_one_that_breaks_in_part_is_used(
    backbone: Backbone, material: TrainingData, tmp_path: Path
) -> None:
    prepared = ready("head", backbone, material)
    assert isinstance(prepared.feed, CachedFeed)
    prepared.feed.views[:] = np.nan
    with pytest.raises(DivergedError, match="any learning rate"):
        run(prepared, tmp_path, grid=(1e-3, 1e-2))


def test_more_classes_than_images_is_refused(backbone: Backbone, material: TrainingData) -> None:
    few = replace(material, train=material.train[:2])
    with pytest.raises(DataError, match=r"more classes \(3\) than training images \(2\)"):
        ready("head", backbone, few)


def test_lora_trains_adapters_and_is_merged_for_its_features(material: TrainingData, tmp_path: Path) -> None:
    vit = load_backbone("timm:test_vit?weights=none", seed=2)
    prepared = ready("lora", vit, material)
    assert all("lora_" in n or n.startswith("head.") for n in prepared.built.names)
    run(prepared, tmp_path)
    x = prepared.feed.held_batch("test", np.arange(4), device=torch.device("cpu"))
    with torch.inference_mode():
        expected = prepared.built.classifier.trunk.features(x)
        tuned = trained_backbone(prepared.built, vit)
        found = tuned.module.features(x)  # type: ignore[operator]
        plain = vit.module.features(x)  # type: ignore[operator]
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-4)


@pytest.mark.slow
def test_two_processes_train_as_one_does(backbone: Backbone, material: TrainingData, tmp_path: Path) -> None:
    alone, together = ready("head", backbone, material), ready("head", backbone, material)
    a = run(alone, tmp_path / "one", grid=(1e-3, 1e-2))
    b = run(together, tmp_path / "two", grid=(1e-3, 1e-2), devices=Devices(count=2))
    assert a.lr == b.lr
    assert np.allclose(a.logits, b.logits, atol=1e-4)
    assert [e.train_loss for e in a.epochs] == pytest.approx([e.train_loss for e in b.epochs], rel=1e-4)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.1, 0.5, 0.9, 0.4, 0.3), (1, 2, 3)),
        ((0.1, 0.2, 0.3, 0.4, 0.5), (2, 3, 4)),
        ((0.9, 0.8, 0.3, 0.2, 0.1), (0, 1, 2, 3)),
        ((0.1, 0.8, 0.3, 0.2, 0.1), (0, 1, 2, 3)),
        ((0.3, 0.2), (0, 1)),
    ],
)
def test_learning_rates_are_tried_from_the_middle_to_both_sides_of_the_best(
    accuracies: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    grid = tuple(10.0 ** (k - 5) for k in range(len(accuracies)))
    asked: list[int] = []

    def tried(lr: float) -> Trial:
        asked.append(grid.index(lr))
        return Trial(lr, accuracies[grid.index(lr)], 1.0, 1.0, 0.0)

    found = learning_rates.search(grid, tried)
    assert tuple(grid.index(t.lr) for t in found) == expected
    assert len(asked) == len(set(asked))
    assert max(t.val_accuracy for t in found) == max(accuracies)
