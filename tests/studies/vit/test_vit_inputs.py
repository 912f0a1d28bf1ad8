"""Which images a ViT study takes, and how models answer; models are stand-ins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visus.errors import DataError, SpecError
from visus.images import ImageSet
from visus.images.arrays import MemorySource
from visus.models.vit import ViTLayout
from visus.studies.common.comparisons import compare
from visus.studies.vit import predictions
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages, model_outputs, prepare
from visus.studies.vit.inputs import (
    DecodableImages,
    EvaluatedImages,
    find_decodable,
    of_different_classes,
    smaller_than_a_patch,
)
from visus.studies.vit.masking.curves import Hiding, WholeImages, blanked, painted

LAYOUT = ViTLayout(("block",), 1, 0, ("cls",), (2, 2), (8, 8), 2)


class Brightness:
    """A backbone that answers with the mean of each colour channel."""

    spec, head, labels, random = "bright", "classes", ("red, crimson", "green", "blue"), False
    preprocess: Any

    def classify(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(2, 3)) / 32

    def on(self, device: str) -> Any:
        return torch.inference_mode()


class Preprocess:
    mean = (0.5, 0.25, 0.0)

    def __call__(self, image: Any) -> np.ndarray:
        return np.asarray(image)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().permute(0, 3, 1, 2)


def model(reading: str = "classifier", targets: tuple[list[int], ...] = ([0], [1, 2])) -> EvaluatedModel:
    backbone: Any = Brightness()
    backbone.preprocess = Preprocess()
    meant = tuple(np.array(t, np.int64) for t in targets) if reading == "classifier" else None
    return EvaluatedModel(backbone, LAYOUT, reading, meant)  # type: ignore[arg-type]


def images(colours: list[int], *, labels: bool = True) -> ImageSet:
    """One-coloured images: 0 red, 1 green, 2 blue; red ones of class warm, the others of class cold."""
    pixels = np.zeros((len(colours), 8, 8, 3), np.uint8)
    for k, colour in enumerate(colours):
        pixels[k, ..., colour] = 200 + k % 50
    y = (np.array(colours) > 0).astype(np.int64)
    ids = tuple(f"{k}.png" for k in range(len(colours)))
    known = {"labels": y, "classes": ("warm", "cold")} if labels else {}
    return ImageSet("drawn", MemorySource(pixels), np.arange(len(colours)), ids, **known)


def test_answers_mean_the_classes_that_targets_say() -> None:
    answers, y = np.array([[0, 1, 2], [1, 1, 0]]), np.array([0, 1, 1])
    assert model().right(answers, y).tolist() == [[True, True, True], [False, True, False]]
    assert model("output").right(answers, y) is None
    assert model("probe").right(answers, y).tolist() == [[True, True, False], [False, True, False]]


def test_only_images_of_a_class_that_some_answer_means_are_asked() -> None:
    y = np.array([0, 1, 0])
    assert model(targets=([], [1])).askable(y).tolist() == [False, True, False]
    assert model("output").askable(y).all()


def test_an_answer_is_named_by_its_first_synonym_or_by_the_sets_class() -> None:
    assert model().answer_name(0, ("warm", "cold")) == "red"
    unnamed = model("probe")
    unnamed.backbone.labels = None
    assert unnamed.answer_name(1, ("warm", "cold")) == "cold"


def test_a_network_that_is_no_transformer_says_why_when_it_is_looked_into() -> None:
    network = EvaluatedModel(model().backbone, None, "output", refused="no chain of blocks")
    with pytest.raises(SpecError, match="no chain of blocks"):
        _ = network.inside
    assert not network.mean_pooled
    assert model().inside is LAYOUT


def test_predictions_are_measured_over_the_images_that_can_be_named() -> None:
    test = images([0, 1, 2, 0, 2])
    m = predictions.measure(
        [model(targets=([0], [2]))], EvaluatedImages(test, test.subset([0, 4]), ()), device="cpu", seed=0
    )
    (a,) = m.accuracies
    assert a.answers == ("red", "green", "blue", "red", "blue")
    assert a.right.tolist() == [True, False, True, True, True]
    assert (a.top1.value, a.top5.value, a.top1.n) == (0.8, 1.0, 5)
    assert [t[0] for t in m.top[0].names] == ["red", "blue"]
    assert m.shown == ("0.png", "4.png")
    told = predictions.predictions(m, test)
    assert told["label"] == ["warm", "cold", "cold", "warm", "cold"]
    assert told["prediction"] == list(a.answers)
    assert predictions.predictions(m, images([0], labels=False)) == {}


def test_models_are_paired_on_the_images_that_both_can_name() -> None:
    test = images([0, 1, 2, 0, 2])
    some = model(targets=([], [2]))
    m = predictions.measure([model(), some], EvaluatedImages(test, test.subset([0]), ()), device="cpu", seed=1)
    (pair,) = m.pairs
    both = np.array(test.labels) == 1
    first, second = m.accuracies
    expected = compare(first.right[both], second.right, names=("bright", "bright"), seed=1)
    assert pair.n == both.sum() == 3
    assert (pair.comparison.difference, pair.comparison.low) == (expected.difference, expected.low)
    assert second.unmeant == ("warm",)


def test_without_labels_or_meaning_nothing_is_judged() -> None:
    plain = images([0, 1], labels=False)
    m = predictions.measure([model()], EvaluatedImages(plain, plain, ()), device="cpu", seed=0)
    assert (m.accuracies, m.unjudged) == ((), ())
    labelled = images([0, 1])
    m = predictions.measure([model("output")], EvaluatedImages(labelled, labelled, ()), device="cpu", seed=0)
    assert [u.model for u in m.unjudged] == ["bright"]


def test_batches_come_in_order() -> None:
    prepared = prepare(model(), images([0, 1, 2] * 30))
    outputs = model_outputs(model(), prepared, "cpu")
    assert outputs.argmax(axis=1).tolist() == [0, 1, 2] * 30
    found = list(prepared.through(model(), "cpu", lambda at, x: (at.start, len(x)), size=40))
    assert found == [(0, 40), (40, 40), (80, 10)]


def test_blanked_pixels_take_the_answer_with_them() -> None:
    prepared = prepare(model(), images([0, 2]))
    whole = WholeImages.of(model(), prepared, np.array([0, 1]), "cpu")
    order = np.tile(np.arange(4), (2, 1))
    green = np.array([0, 250, 0], np.uint8)[None, None, None]
    found = blanked(whole, order, "random", (1.0, 0.75, 0.25), Hiding((2, 2), green))
    assert found.answers.tolist() == [[0, 2], [0, 2], [1, 1]]
    assert found.right is not None
    assert found.right.tolist() == [[True, True], [True, True], [False, True]]
    assert (np.diff(found.chosen, axis=0) < 0).all()


@pytest.mark.parametrize(("fill", "expected"), [("mean", [128, 64, 0]), ("black", [0, 0, 0])])
def test_pixels_are_hidden_by_one_colour(fill: str, expected: list[int]) -> None:
    assert painted(np.zeros((2, 8, 8, 3), np.uint8), fill, model())[0, 0, 0].tolist() == expected


def test_blurred_pixels_are_each_images_own() -> None:
    raw = np.zeros((2, 32, 32, 3), np.uint8)
    raw[1, :, 16:] = 255
    paint = painted(raw, "blur", model())
    assert not paint[0].any()
    assert 0 < paint[1, 16, 16, 0] < 255


def test_images_that_do_not_decode_are_left_out_with_a_word() -> None:
    class Torn(MemorySource):
        def read(self, i: int) -> Any:
            return b"no picture" if i == 1 else super().read(i)

    whole = images([0, 1, 2])
    torn = ImageSet("drawn", Torn(whole.source.pixels), whole.rows, whole.ids, whole.labels, whole.classes)  # type: ignore[attr-defined]
    found = find_decodable(torn)
    assert found.images.ids == ("0.png", "2.png")
    assert found.sizes.tolist() == [[8, 8], [8, 8]]
    assert found.warnings[0].startswith("1.png cannot be read and is left out")
    with pytest.raises(DataError, match="no picture to look at in drawn can be read"):
        find_decodable(torn.subset([1]))
    with pytest.raises(DataError, match="has no pictures to look at"):
        find_decodable(torn.subset(np.empty(0, np.int64)))


def test_images_smaller_than_a_patch_are_told_of_transformers_alone() -> None:
    few = DecodableImages(images([0, 1, 2]), np.array([[4, 9], [8, 8], [9, 7]]), ())
    network = EvaluatedModel(model().backbone, None, "output")
    (said,) = smaller_than_a_patch([model(), network], few)
    assert said.startswith("0.png (4 x 9 pixels, and 1 more) is smaller than a patch of bright (8 x 8)")
    assert smaller_than_a_patch([model()], DecodableImages(few.images, np.full((3, 2), 8), ())) == []


def test_images_to_look_at_are_of_different_classes_first() -> None:
    found = of_different_classes(images([0] * 9 + [1]), 2, seed=0)
    assert sorted(np.array(found.labels).tolist()) == [0, 1]
    assert len(of_different_classes(images([0, 1, 2], labels=False), 2, seed=0)) == 2
    assert len(of_different_classes(images([0, 1]), 6, seed=0)) == 2


def test_a_prepared_batch_is_what_was_asked_for() -> None:
    raw = np.arange(5 * 3, dtype=np.uint8).reshape(5, 1, 1, 3)
    batch = PreparedImages(raw).batch(model(), "cpu", slice(1, 3))
    assert batch[:, :, 0, 0].tolist() == [[3, 4, 5], [6, 7, 8]]
