"""The images and their cost, counted from splits and features made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.studies.told import check
from tests.studies.transfer.layer_samples import images, model

from visus.images import Quarantined, Splits
from visus.studies.transfer import data


def test_classes_are_counted_on_each_side_as_a_slow_loop_counts_them() -> None:
    found = images(30, missing=1)
    m = data.measure(found, [model()], repeats=0)
    for c, (name, train, test) in enumerate(m.counts):
        assert name == found.classes[c]
        assert train == sum(found.y[i] == c for i in found.splits.train)
        assert test == sum(found.y[i] == c for i in found.splits.test)
    assert m.counts[1][2] == 0
    assert (m.n_train, m.n_test, m.folds) == (60, 30, (12,))
    assert check(data, m).tables[0].rows[-1] == ("all", 60, 30)


def test_a_last_class_without_any_image_is_counted_as_none() -> None:
    found = images(30, classes=("ant", "bee", "cat"), missing=2)
    train = found.splits.train[found.y[found.splits.train] != 2]
    bare = replace(found, splits=Splits(train, found.splits.folds, found.splits.test))
    assert data.measure(bare, [model()], repeats=0).counts[2] == ("cat", 0, 0)


def test_every_fold_is_told_by_its_validation_part() -> None:
    found = images()
    rows = np.arange(60)
    folds = ((rows[20:], rows[:20]), (rows[:20], rows[20:33]))
    split = replace(found, splits=Splits(found.splits.train, folds, found.splits.test))
    assert data.measure(split, [model()], repeats=0).folds == (20, 13)


def test_a_file_that_every_model_sets_aside_is_listed_once() -> None:
    found = images()
    imageset: Any = SimpleNamespace(**{**vars(found.imageset), "quarantine": (Quarantined("a.png", "empty"),)})
    m = data.measure(replace(found, imageset=imageset), [model("timm:a"), model("timm:b")], repeats=0)
    assert m.quarantine == (Quarantined("a.png", "empty"), Quarantined("torn.png", "no picture"))
    assert check(data, m).tables[-1].rows == (("a.png", "empty"), ("torn.png", "no picture"))


def test_cost_is_read_off_the_features_and_unknown_where_they_do_not_say() -> None:
    known, unknown = model("timm:a"), model("timm:b")
    unknown.features.cost.clear()
    m = data.measure(images(), [known, unknown], repeats=0)
    assert m.costs == (
        data.CostRow("timm:a", 1_000_000, "torch", 8, 3.0, 40.0, False),
        data.CostRow("timm:b", 1_000_000, None, None, None, None, False),
    )
    assert check(data, m).tables[1].rows[1] == ("timm:b", 1_000_000, None, None, None, None, False)
