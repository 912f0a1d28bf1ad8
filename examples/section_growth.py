"""How many training images are enough: the probe on the best layer, fitted on a few images a class, then on more, then on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure, Lines, Series
from visus.formats import percent
from visus.measures import solve_path
from visus.measures.probe import protocol_of
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.comparisons import Comparison, compare
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.proportion import Proportion, proportion
from visus.studies.transfer.evaluation import LayerScore, LayerVectors, best_of

KEY, QUESTION = "growth", "How many training images are enough?"
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # images of each class, as far as there are so many of any


@dataclass(frozen=True)
class GrowthRow:
    """most: training images of a class, at most; fitted: of all classes together; accuracy: on the test images."""

    most: int
    fitted: int
    accuracy: Proportion


@dataclass(frozen=True)
class GrowthMeasures:
    """Of the layer that validation prefers. rows: fewest images first, all of them last. doubling: all training images against the most
    that are at most half of them, on the same test images; None where there is no such row."""

    model: str
    layer: str
    rows: tuple[GrowthRow, ...]
    doubling: Comparison | None

    def key(self, row: GrowthRow) -> str:
        return key_of(self.model, self.layer.split(" ")[0], "growth", row.fitted, "accuracy")


def measure(
    images: LabelledImages, scores: Sequence[LayerScore], features: LayerVectors, *, seed: int
) -> GrowthMeasures:
    """Fit the probe again on nested samples of the training images, at the penalty that validation chose for all of them.

    features: (model, tap) -> float32 [n, d]. What is fitted on all of them is the probe that the other sections tell of.
    """
    best, train, y = best_of(scores), images.splits.train, images.y
    x = features[best.model, best.tap]
    order = np.random.default_rng(seed).permutation(train)
    by_class = [order[y[order] == c] for c in range(len(images.classes))]
    largest = max(map(len, by_class))
    steps = [most for most in STEPS if most < largest]
    samples = [np.sort(np.concatenate([rows[:most] for rows in by_class])) for most in steps]
    right = [_right(best, x, images, sample) for sample in samples] + [best.probe.predictions == images.test_y]
    fitted = [len(sample) for sample in samples] + [len(train)]
    rows = tuple(GrowthRow(most, n, proportion(r)) for most, n, r in zip([*steps, largest], fitted, right, strict=True))
    half = max((i for i, n in enumerate(fitted) if 2 * n <= len(train)), default=None)
    doubling = None
    if half is not None:
        names = (f"all {len(train):,} images", f"{fitted[half]:,} images")
        doubling = compare(right[-1], right[half], names=names, seed=seed)
    return GrowthMeasures(best.model, best.label, rows, doubling)


def _right(best: LayerScore, x: np.ndarray, images: LabelledImages, sample: np.ndarray) -> np.ndarray:
    """bool [n_test]: whether the probe that is fitted on the rows `sample` names each test image rightly."""
    path = solve_path(
        x[sample],
        images.y[sample],
        lambdas=[best.probe.lambda_],
        n_classes=len(images.classes),
        standardise=protocol_of(best.probe.protocol).standardise,
    )
    found: np.ndarray = path.logits(x[images.splits.test], 0).argmax(axis=1) == images.test_y
    return found


def metrics(m: GrowthMeasures) -> tuple[Metric, ...]:
    return tuple(r.accuracy.metric(m.key(r), label=f"probe fitted on {r.fitted:,} images") for r in m.rows)


def tables(m: GrowthMeasures) -> tuple[Table, ...]:
    return (
        Table(
            key="growth",
            title=f"Accuracy by number of training images: {m.model}, {m.layer}",
            columns=(
                Column("most", "images a class, at most"),
                Column("fitted", "images"),
                Column("accuracy", "accuracy", "share"),
                Column("low", "low", "share"),
                Column("high", "high", "share"),
                Column("n", "n"),
            ),
            rows=[(r.most, r.fitted, r.accuracy.value, r.accuracy.low, r.accuracy.high, r.accuracy.n) for r in m.rows],
            note="Linear probe on nested samples of the training images, λ as validation chose it for all of them: with few images a "
            "stronger penalty might do better. low, high: 95 % Wilson interval over test images.",
        ),
    )


def figures(m: GrowthMeasures) -> tuple[AnyFigure, ...]:
    return (
        Lines(
            key="growth",
            title=QUESTION,
            caption=f"Test accuracy of the probe on {m.model}, {m.layer}, with 95 % intervals.",
            x_label="training images",
            y_label="test accuracy",
            unit="share",
            x_log=True,
            series=(
                Series(
                    name="linear probe",
                    x=[r.fitted for r in m.rows],
                    y=[r.accuracy.value for r in m.rows],
                    low=[r.accuracy.low for r in m.rows],
                    high=[r.accuracy.high for r in m.rows],
                ),
            ),
        ),
    )


def findings(m: GrowthMeasures) -> tuple[Finding, ...]:
    first, last = m.rows[0], m.rows[-1]
    text = (
        f"Fitted on {first.fitted:,} training images the probe names {percent(first.accuracy.value)} of the test images, "
        f"fitted on all of them {percent(last.accuracy.value)}."
    )
    found = [Finding(text, (m.key(first), m.key(last)), ("growth",))]
    if m.doubling is not None:
        verdict = "whether more would help is undecided" if m.doubling.undecided else "the curve has not levelled off"
        if not m.doubling.undecided and m.doubling.difference < 0:
            verdict = "more images made it worse"
        text = f"From {m.doubling.b} to all: {m.doubling.text()}; {verdict}."
        found.append(Finding(text, (), ("growth",), m.doubling.kind))
    return tuple(found)
