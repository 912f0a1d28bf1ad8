"""What is confused: class by class, and the most frequent mistakes with the images that the probe was surest of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure, Gallery, Group, Intervals
from visus.formats import percent
from visus.images.thumbnails import thumbnails
from visus.measures.confusion import class_recall, confused_pairs
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.transfer.evaluation import LayerScore, best_of

KEY, QUESTION = "classes", "What is taken for what?"
SHOWN, EXAMPLES, EXAMPLE = 8, 4, 96  # confused pairs, images of each, their side in pixels
NAMED = 10  # classes without a test image that a caution names


@dataclass(frozen=True)
class ClassRow:
    """One class over the test images: recall with its 95 % Wilson interval, precision; None where nothing is known."""

    name: str
    n: int
    recall: float | None
    low: float | None
    high: float | None
    precision: float | None


@dataclass(frozen=True)
class ConfusedRow:
    """count: test images of `true` that were taken for `predicted`, of n; share: count / n; ids: of examples, surest first."""

    true: str
    predicted: str
    count: int
    share: float
    ids: tuple[str, ...]

    @property
    def n(self) -> int:
        return round(self.count / self.share)


@dataclass(frozen=True)
class ClassesMeasures:
    """Of the probe on one layer of one model. rows: hardest first. examples: uint8 [k, 96, 96, 3], of the confused rows in order."""

    model: str
    layer: str
    rows: tuple[ClassRow, ...]
    confused: tuple[ConfusedRow, ...]
    examples: np.ndarray


def measure(images: LabelledImages, scores: Sequence[LayerScore]) -> ClassesMeasures:
    """Of the layer that validation prefers."""
    best, y, names = best_of(scores), images.test_y, images.classes
    predictions = best.probe.predictions
    recall = class_recall(y, predictions, n_classes=len(names))
    rows = []
    for i, name in enumerate(names):
        n, said = int(recall.n[i]), predictions == i
        precision = float(np.mean(y[said] == i)) if said.any() else None
        known = (float(recall.recall[i]), float(recall.low[i]), float(recall.high[i])) if n else (None, None, None)
        rows.append(ClassRow(name, n, known[0], known[1], known[2], precision))
    rows.sort(key=lambda r: (r.recall is None, r.recall))
    pairs = confused_pairs(
        y, predictions, n_classes=len(names), top=SHOWN, examples=EXAMPLES, score=best.probe.probabilities.max(axis=1)
    )
    positions = images.test_positions
    confused = tuple(
        ConfusedRow(
            names[c.true],
            names[c.predicted],
            c.count,
            c.share,
            tuple(images.imageset.ids[positions[i]] for i in c.examples),
        )
        for c in pairs
    )
    shown = np.array([i for c in pairs for i in c.examples], np.int64)
    return ClassesMeasures(
        best.model, best.label, tuple(rows), confused, thumbnails(images.imageset, positions[shown], EXAMPLE)
    )


def metrics(m: ClassesMeasures) -> tuple[Metric, ...]:
    return tuple(
        Metric(key_of("recall", r.name), r.recall, r.low, r.high, r.n, "share", "higher", label=f"recall of {r.name}")
        for r in m.rows
        if r.recall is not None
    )


def tables(m: ClassesMeasures) -> tuple[Table, ...]:
    classes = Table(
        key="classes",
        title=f"Class by class, hardest first: {m.model}, {m.layer}",
        columns=(
            Column("class", "class"),
            Column("n", "n"),
            Column("recall", "recall", "share"),
            Column("low", "low", "share"),
            Column("high", "high", "share"),
            Column("precision", "precision", "share"),
        ),
        rows=[(r.name, r.n, r.recall, r.low, r.high, r.precision) for r in m.rows],
        note="Linear probe on the test images; low, high: 95 % Wilson interval of the recall.",
    )
    if not m.confused:
        return (classes,)
    confused = Table(
        key="confused",
        title=f"Most confused: {m.model}, {m.layer}",
        columns=(
            Column("class", "class"),
            Column("taken_for", "taken for"),
            Column("images", "images"),
            Column("share", "share of the class", "share"),
        ),
        rows=[(c.true, c.predicted, c.count, c.share) for c in m.confused],
    )
    return (classes, confused)


def figures(m: ClassesMeasures) -> tuple[AnyFigure, ...]:
    known = sorted((r for r in m.rows if r.recall is not None), key=lambda r: (r.recall, r.low, r.high, r.name))
    recall = Intervals(
        key="classes",
        title="Which classes are hard?",
        caption=f"Recall by class of the probe on {m.model}, {m.layer}, with 95 % intervals.",
        x_label="class, hardest first",
        y_label="recall",
        unit="share",
        groups=(
            Group(
                name="recall",
                labels=[r.name for r in known],
                values=[r.recall for r in known],
                low=[r.low for r in known],
                high=[r.high for r in known],
            ),
        ),
    )
    if not m.confused:
        return (recall,)
    groups = [f"{c.true} taken for {c.predicted} ({c.count})" for c in m.confused for _ in c.ids]
    return (
        recall,
        Gallery(
            key="confused",
            title=QUESTION,
            caption=f"The most confused pairs of classes of the probe on {m.model}, {m.layer}: the mistakes it was surest of.",
            images=m.examples,
            captions=[name for c in m.confused for name in c.ids],
            groups=groups,
        ),
    )


def findings(m: ClassesMeasures) -> tuple[Finding, ...]:
    said = []
    if m.confused:
        c = m.confused[0]
        text = f"Its most frequent mistake takes {c.true} for {c.predicted}: {c.count} of {c.n} images."
        said.append(Finding(text, shows=("confused",)))
    known = [(r.recall, r.name) for r in m.rows if r.recall is not None]
    (worst, worst_name), (top, top_name) = min(known), max(known)
    text = f"The easiest class is {top_name} (recall {percent(top)}), the hardest {worst_name} ({percent(worst)})."
    said.append(Finding(text, (key_of("recall", top_name), key_of("recall", worst_name)), ("classes",)))
    missing = [r.name for r in m.rows if r.recall is None]
    if missing:
        text = f"No test image of: {', '.join(missing[:NAMED])}; their recall is unknown."
        said.append(Finding(text, kind="caution"))
    return tuple(said)
