"""Controls and repeated images, on scores made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tests.studies.told import check as told
from tests.studies.told import kinds
from tests.studies.transfer.layer_samples import images, model, score

from visus.studies.transfer import trust
from visus.studies.transfer.trust import TrustMeasures


def measured(
    *, pixels: list[str] | None = None, control: bool = True, controls: bool = True, **more: Any
) -> TrustMeasures:
    data = images()
    scores = [score(data, "early", 0.5, **more), score(data, "late", 0.8, **more)]
    return trust.measure(data, [model(control=control, pixels=pixels)], scores, majority=1 / 3, controls=controls)


def test_every_probe_stands_beside_its_controls() -> None:
    (table,) = told(trust, measured()).tables
    late = table.records()[1]
    assert (late["probe"], late["random"], late["shuffled"], late["shuffled_point"], late["p"]) == (
        0.8,
        0.4,
        pytest.approx(0.3),
        0.4,
        0.0,
    )
    assert late["majority"] == pytest.approx(1 / 3)


def test_what_stands_against_the_probe_is_said_of_the_best_layer() -> None:
    found = told(trust, measured())
    first, second = kinds(found)["result"]
    assert first == (
        "Against the probe's 80.0 % stand 33.3 % for always answering the most frequent class and 40.0 % for the same network with "
        "random weights."
    )
    assert second == "On shuffled labels the same probe reaches 30.0 %, its 95 % point 40.0 %."
    assert not kinds(found)["caution"]


def test_a_probe_under_the_point_of_shuffled_labels_is_a_caution() -> None:
    found = told(trust, measured(shuffled=(0.5, 0.85)))
    assert any("do not exceed the 95 % point on shuffled labels" in text for text in kinds(found)["caution"])


def test_shuffled_labels_that_are_always_better_than_chance_mean_a_leak() -> None:
    found = told(trust, measured(shuffled=(0.6, 0.7)))
    assert any("look for a leak" in text for text in kinds(found)["caution"])


def test_without_controls_there_is_no_table_of_them() -> None:
    found = told(trust, measured(shuffled=None, random=None, controls=False))
    assert found.tables == ()
    assert len(kinds(found)["result"]) == 1


def test_a_network_that_cannot_be_built_without_its_weights_is_named() -> None:
    found = told(trust, measured(control=False, random=None))
    assert (
        "timm:net: no random-init control, since its architecture could not be built without its weights."
        in kinds(found)["caution"]
    )


def test_images_on_both_sides_are_counted_and_left_out_beside() -> None:
    pixels = [f"p{i}" for i in range(120)]
    pixels[60:66] = pixels[:6]  # six test images are training images
    found = told(trust, measured(pixels=pixels))
    without = next(t for t in found.tables if t.key == "accuracy-without-repeats").records()
    assert [(r["layer"], r["method"]) for r in without][:2] == [
        ("early (blocks.early)", "linear probe"),
        ("early (blocks.early)", "kNN"),
    ]
    late = without[2]
    assert (late["accuracy"], late["n"], late["n_without"]) == (0.8, 60, 54)
    assert late["accuracy_without"] == pytest.approx(42 / 54)
    assert any(
        "Without the 6 test images that are training images too, the probe is right on 77.8 % of 54" in t
        for t in kinds(found)["result"]
    )
    assert any(t.startswith("The same image in test and in training: 6 of 60") for t in kinds(found)["caution"])
    assert next(m for m in found.metrics if m.key == "repeated-images").value == 6
