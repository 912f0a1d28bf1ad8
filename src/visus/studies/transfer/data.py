"""The images and what it cost to look at them: the split, the features' cost, and the files set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure
from visus.images import Quarantined
from visus.result import Column, Finding, Metric, Table
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.quarantine import quarantine_table
from visus.studies.transfer.inputs import ModelFeatures

KEY, QUESTION = "images", "Which images, and what did it cost to look at them?"
FEW = 200  # test images under which a caution is due


@dataclass(frozen=True)
class CostRow:
    """One pass over all images by one model. seconds: decoding and writing included; cached: computed by an earlier run."""

    model: str
    parameters: int
    engine: str | None
    batch: int | None
    seconds: float | None
    images_per_second: float | None
    cached: bool


@dataclass(frozen=True)
class DataMeasures:
    """counts: (class, train and validation, test). folds: sizes of the validation parts. repeats: test images that are training images too."""

    counts: tuple[tuple[str, int, int], ...]
    folds: tuple[int, ...]
    repeats: int
    costs: tuple[CostRow, ...]
    quarantine: tuple[Quarantined, ...]

    @property
    def n_test(self) -> int:
        return sum(test for _, _, test in self.counts)

    @property
    def n_train(self) -> int:
        return sum(train for _, train, _ in self.counts)


def measure(images: LabelledImages, models: Sequence[ModelFeatures], *, repeats: int) -> DataMeasures:
    """Count the images of the split; read off what the features took."""
    size = len(images.classes)
    train = np.bincount(images.y[images.splits.train], minlength=size)
    test = np.bincount(images.test_y, minlength=size)
    costs = []
    for m in models:
        cost = m.features.cost
        known = (cost.get("engine"), cost.get("batch"), cost.get("seconds"), cost.get("images_per_second"))
        costs.append(CostRow(m.spec, m.backbone.parameters, *known, bool(cost.get("cached"))))
    aside = (*images.imageset.quarantine, *(q for m in models for q in m.features.quarantine))
    return DataMeasures(
        counts=tuple((name, int(train[i]), int(test[i])) for i, name in enumerate(images.classes)),
        folds=tuple(len(val) for _, val in images.splits.folds),
        repeats=repeats,
        costs=tuple(costs),
        quarantine=tuple({(q.id, q.reason): q for q in aside}.values()),
    )


def metrics(m: DataMeasures) -> tuple[Metric, ...]:
    return (
        Metric("images/train", m.n_train, split="train", label="images to train and validate on"),
        Metric("images/test", m.n_test, label="images to test on"),
    )


def tables(m: DataMeasures) -> tuple[Table, ...]:
    found = [_images(m), _cost(m)]
    return (*found, quarantine_table(m.quarantine)) if m.quarantine else tuple(found)


def _images(m: DataMeasures) -> Table:
    several = len(m.folds) > 1
    how = f"{len(m.folds)} validation folds of about {round(sum(m.folds) / len(m.folds)):,}" if several else ""
    note = f"Choices were made on {how or f'one validation part of {m.folds[0]:,}'} images."
    return Table(
        key="images",
        title="The images",
        columns=(Column("class", "class"), Column("train", "train and validation"), Column("test", "test")),
        rows=[*m.counts, ("all", m.n_train, m.n_test)],
        note=note if m.repeats else note + " No test image is, pixel for pixel, a training image.",
    )


def _cost(m: DataMeasures) -> Table:
    return Table(
        key="cost",
        title="What the features cost",
        columns=(
            Column("model", "model"),
            Column("parameters", "parameters"),
            Column("engine", "engine"),
            Column("batch", "batch"),
            Column("seconds", "time", "s", digits=1),
            Column("images_per_second", "images/s", digits=1),
            Column("cached", "from the store"),
        ),
        rows=[(c.model, c.parameters, c.engine, c.batch, c.seconds, c.images_per_second, c.cached) for c in m.costs],
        note="One pass over all images, decoding and writing included; from the store: computed by an earlier run, not again.",
    )


def figures(m: DataMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: DataMeasures) -> tuple[Finding, ...]:
    said = [
        Finding(
            f"{m.n_train:,} images to train and validate on, {m.n_test:,} to test on.",
            ("images/train", "images/test"),
            ("images",),
        )
    ]
    if m.n_test < FEW:
        text = f"Only {m.n_test} test images: intervals are wide, and differences of a few points mean nothing."
        said.append(Finding(text, kind="caution"))
    return tuple(said)
