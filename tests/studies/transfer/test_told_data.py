"""What is told of the images and the features' cost, on counts made by hand."""

from __future__ import annotations

import pytest
from tests.studies.told import check, kinds

from visus.images import Quarantined
from visus.studies.transfer import data
from visus.studies.transfer.data import CostRow, DataMeasures

COST = CostRow("timm:net", 21_000_000, "torch", 64, 12.34, 97.2, False)


def measures(
    test: int = 300,
    *,
    folds: tuple[int, ...] = (90,),
    repeats: int = 0,
    costs: tuple[CostRow, ...] = (COST,),
    aside: int = 0,
) -> DataMeasures:
    counts = (("cat", 500, test - 100), ("dog", 400, 100))
    return DataMeasures(counts, folds, repeats, costs, tuple(Quarantined(f"x{i}.png", "torn") for i in range(aside)))


def test_images_are_counted_by_class_and_in_all() -> None:
    made = check(data, measures())
    assert made.tables[0].rows == (("cat", 500, 200), ("dog", 400, 100), ("all", 900, 300))
    assert {m.key: (m.value, m.split) for m in made.metrics} == {
        "images/train": (900, "train"),
        "images/test": (300, "test"),
    }
    assert kinds(made) == {
        "result": ["900 images to train and validate on, 300 to test on."], "undecided": [], "caution": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("folds", "says"),
    [((90,), "one validation part of 90 images"), ((180,) * 5, "5 validation folds of about 180 images")],
)
def test_the_note_says_how_choices_were_made(folds: tuple[int, ...], says: str) -> None:
    note = check(data, measures(folds=folds)).tables[0].note
    assert note.startswith(f"Choices were made on {says}.")
    assert note.endswith("No test image is, pixel for pixel, a training image.")


def test_the_note_promises_nothing_where_images_repeat() -> None:
    assert "pixel for pixel" not in check(data, measures(repeats=3)).tables[0].note


def test_few_test_images_are_a_caution() -> None:
    (said,) = kinds(check(data, measures(150)))["caution"]
    assert said.startswith("Only 150 test images")
    assert kinds(check(data, measures(data.FEW)))["caution"] == []


def test_cost_of_features_new_and_from_the_store() -> None:
    stored = CostRow("timm:old", 5_000_000, None, None, None, None, True)
    table = check(data, measures(costs=(COST, stored))).tables[1]
    assert table.rows[0] == ("timm:net", 21_000_000, "torch", 64, 12.34, 97.2, False)
    assert table.rows[1][2:] == (None, None, None, None, True)
    assert "12.3" in str(table)
    assert "21,000,000" in str(table)


def test_files_set_aside_are_listed_with_the_reason() -> None:
    table = check(data, measures(aside=2)).tables[2]
    assert table.key == "quarantine"
    assert table.rows == (("x0.png", "torn"), ("x1.png", "torn"))
    assert len(check(data, measures()).tables) == 2
