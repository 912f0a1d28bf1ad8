"""How far the mean colour goes: a linear probe on three numbers an image, beside the most frequent class (P1, P3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visus.figures import AnyFigure, Group, Intervals, Reference
from visus.formats import percent
from visus.measures import class_recall, linear_probe
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.colours.inputs import ColouredImages
from visus.studies.common.comparisons import Comparison, compare
from visus.studies.common.proportion import Proportion, of_value, proportion

KEY, QUESTION = "baseline", "What does the mean colour alone tell about the classes?"
PROBE, MAJORITY = "mean colour", "most frequent class"


@dataclass(frozen=True)
class ClassRow:
    """One class. colour: mean red, green and blue of its training images, in [0, 1]; recall: over its n test images, None of none."""

    name: str
    colour: tuple[float, float, float]
    n: int
    recall: Proportion | None


@dataclass(frozen=True)
class BaselineMeasures:
    """probe, majority: test accuracy; against: the first minus the second, in pairs. classes: as the images name them.
    predictions: columns of the result's predictions, a row a test image."""

    probe: Proportion
    majority: Proportion
    against: Comparison
    classes: tuple[ClassRow, ...]
    predictions: Mapping[str, Any]


def measure(images: ColouredImages, *, device: str, seed: int) -> BaselineMeasures:
    """Fit the probe that backbones are judged by on the mean colours, its penalty chosen on validation, and test it once."""
    x, y, splits, names = images.x, images.y, images.splits, images.imageset.classes
    probe = linear_probe(
        x, y, folds=splits.folds, train=splits.train, test=splits.test, n_classes=len(names), device=device
    )
    truth = y[splits.test]
    right = probe.predictions == truth
    frequent = truth == np.bincount(y[splits.train], minlength=len(names)).argmax()
    recall = class_recall(truth, probe.predictions, n_classes=len(names))
    classes = []
    for c, name in enumerate(names):
        red, green, blue = map(float, x[splits.train][y[splits.train] == c].mean(axis=0))
        n = int(recall.n[c])
        classes.append(ClassRow(name, (red, green, blue), n, of_value(float(recall.recall[c]), n) if n else None))
    return BaselineMeasures(
        probe=proportion(right),
        majority=proportion(frequent),
        against=compare(right, frequent, names=(PROBE, MAJORITY), seed=seed),
        classes=tuple(classes),
        predictions={
            "id": [images.imageset.ids[i] for i in splits.test],
            "split": ["test"] * len(truth),
            "label": [names[i] for i in truth],
            "prediction": [names[i] for i in probe.predictions],
            "confidence": probe.probabilities.max(axis=1),
        },
    )


def metrics(m: BaselineMeasures) -> tuple[Metric, ...]:
    return (
        m.probe.metric("mean-colour/probe/accuracy", label="linear probe, mean colour"),
        m.majority.metric("majority/accuracy", label=MAJORITY, better=None),
        m.against.metric("mean-colour/minus/majority", m.probe.n),
        *(c.recall.metric(key_of("recall", c.name), label=f"recall of {c.name}") for c in m.classes if c.recall),
    )


def tables(m: BaselineMeasures) -> tuple[Table, ...]:
    return (
        Table(
            key="colours",
            title="Class by class",
            columns=(
                Column("class", "class"),
                Column("red", "red"),
                Column("green", "green"),
                Column("blue", "blue"),
                Column("n", "n"),
                Column("recall", "recall", "share"),
                Column("low", "low", "share"),
                Column("high", "high", "share"),
            ),
            rows=[
                (c.name, *c.colour, c.n, *((c.recall.value, c.recall.low, c.recall.high) if c.recall else [None] * 3))
                for c in m.classes
            ],
            note="red, green, blue: mean over the class's training images, from 0 to 1. recall: of the linear probe on test images; low, "
            "high: 95 % Wilson interval.",
        ),
    )


def figures(m: BaselineMeasures) -> tuple[AnyFigure, ...]:
    known = sorted(((c.name, c.recall) for c in m.classes if c.recall), key=lambda pair: (pair[1].value, pair[0]))
    return (
        Intervals(
            key="colours",
            title="Which classes does colour give away?",
            caption=f"Recall by class of a linear probe on the mean colour, {m.probe.n:,} test images, with 95 % intervals.",
            x_label="class, hardest first",
            y_label="recall",
            unit="share",
            groups=(
                Group(
                    name="recall",
                    labels=[name for name, _ in known],
                    values=[recall.value for _, recall in known],
                    low=[recall.low for _, recall in known],
                    high=[recall.high for _, recall in known],
                ),
            ),
            reference=(Reference(f"accuracy, {MAJORITY}", m.majority.value),),
        ),
    )


def findings(m: BaselineMeasures) -> tuple[Finding, ...]:
    more = "whether colour tells anything is undecided" if m.against.undecided else "what a backbone adds starts here"
    if not m.against.undecided and m.against.difference < 0:
        more = "colour misleads"
    return (
        Finding(
            f"A linear probe on the mean colour is right on {m.probe.text()}.",
            ("mean-colour/probe/accuracy",),
            ("colours",),
        ),
        Finding(
            f"Against the most frequent class: {m.against.text()}; {more}.",
            ("mean-colour/minus/majority",),
            kind=m.against.kind,
        ),
    )


def answer(m: BaselineMeasures) -> str:
    """The study's one sentence."""
    return f"The mean colour alone names {percent(m.probe.value)} of {m.probe.n:,} test images."
