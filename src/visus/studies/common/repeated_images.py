"""The same image in training and in test (protocol P16): counted, named, and every accuracy without it beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.formats import interval_text, percent
from visus.measures.repeats import Repeats
from visus.result import Column, Finding, Table
from visus.studies.common.proportion import ACCURACY, Proportion, proportion

SHOWN = 20  # pairs in the table
NAMED = 2  # in a sentence
NONE_LEFT = (None, None, None, 0)  # cells


@dataclass(frozen=True)
class Answers:
    """names: what was judged, a cell each. right: bool (or share, of several runs) [n_test], whether each test image was answered rightly."""

    names: tuple[str, ...]
    right: np.ndarray


@dataclass(frozen=True)
class AccuracyWithout:
    """One accuracy on all test images, and on those that are no training images (None: every one is)."""

    names: tuple[str, ...]
    whole: Proportion
    without: Proportion | None


@dataclass(frozen=True)
class RepeatedImages:
    """count: of n_test test images, those that are training images too; against: those of another class there; pairs: (test id, class,
    training id, class), the first SHOWN, contradictions first; named: 'test id = training id' of the first. within: test images that repeat
    another; validation: of n_validation, those among the images they judge. accuracies: in the order of the answers given."""

    count: int
    n_test: int
    against: int
    within: int
    validation: int
    n_validation: int
    pairs: tuple[tuple[str, str, str, str], ...]
    named: tuple[str, ...]
    accuracies: tuple[AccuracyWithout, ...]


@dataclass(frozen=True)
class Rows:
    """The images that `Repeats` speaks of. ids: of all rows; test: int64 rows of the test images; y: int64 labels of all rows, or None."""

    ids: Sequence[str]
    test: np.ndarray
    y: np.ndarray | None
    classes: Sequence[str]


def measure(repeats: Repeats, rows: Rows, answers: Sequence[Answers]) -> RepeatedImages:
    """Everything that is told of the images on both sides of the split."""
    at = np.flatnonzero(repeats.test)
    ordered = at[np.argsort(~repeats.against[at], kind="stable")][:SHOWN]
    pairs = []
    for i in ordered:
        a, b = int(rows.test[i]), int(repeats.duplicate_of[i])
        classes = ("", "") if rows.y is None else (rows.classes[rows.y[a]], rows.classes[rows.y[b]])
        pairs.append((rows.ids[a], classes[0], rows.ids[b], classes[1]))
    accuracies = []
    for a_ in answers if repeats.count else ():
        left = a_.right[~repeats.test]
        accuracies.append(AccuracyWithout(a_.names, proportion(a_.right), proportion(left) if len(left) else None))
    return RepeatedImages(
        count=repeats.count,
        n_test=len(repeats.test),
        against=int(repeats.against.sum()),
        within=repeats.within,
        validation=repeats.validation,
        n_validation=repeats.n_validation,
        pairs=tuple(pairs),
        named=tuple(f"{rows.ids[int(rows.test[i])]} = {rows.ids[int(repeats.duplicate_of[i])]}" for i in at[:NAMED]),
        accuracies=tuple(accuracies),
    )


def without_table(m: RepeatedImages, key: str, columns: Sequence[Column]) -> Table:
    """Accuracy on all test images, and on those that are no training images. columns: of the answers' names."""
    without = [Column(f"{c.key}_without", f"{c.label}, without repeats", c.unit) for c in ACCURACY]
    rows = [(*a.names, *a.whole.cells, *(a.without.cells if a.without else NONE_LEFT)) for a in m.accuracies]
    return Table(
        key=key,
        title=f"Without the {m.count:,} test images that are training images too",
        columns=(*columns, *ACCURACY, *without),
        rows=rows,
        note="The same image is one whose decoded pixels are all equal, whatever its file is called or its lossless format is; an image that was "
        "compressed again, resized or cropped is not found. low, high: 95 % Wilson interval.",
    )


def pairs_table(m: RepeatedImages, key: str = "repeated-images") -> Table:
    """The pairs by name."""
    more = f" (the first {SHOWN} of {m.count:,})" if m.count > SHOWN else ""
    return Table(
        key=key,
        title=f"The same image in test and in training{more}",
        columns=(
            Column("test_image", "test image"), Column("class", "class"), Column("training_image", "training image"),
            Column("class_there", "class there"),
        ),
        rows=m.pairs,
    )  # fmt: skip


def finding(m: RepeatedImages, what: str, answer: AccuracyWithout, *, shows: tuple[str, ...] = ()) -> Finding:
    """What the repeated images add to one accuracy. what: 'the probe'."""
    left = answer.without
    if left is None:
        text = f"All {m.count:,} test images are, pixel for pixel, training images too: no accuracy can be given without them."
        return Finding(text, shows=shows, kind="caution")
    text = (
        f"Without the {m.count:,} test images that are training images too, {what} is right on {percent(left.value)} of {left.n:,} "
        f"({interval_text(left.low, left.high)}) instead of {percent(answer.whole.value)}."
    )
    return Finding(text, shows=shows)


def cautions(m: RepeatedImages) -> list[str]:
    """What a reader must know: how many, which, and whether their labels agree."""
    said = []
    if m.count:
        named = ", ".join(m.named) + (" ..." if m.count > NAMED else "")
        text = f"The same image in test and in training: {m.count:,} of {m.n_test:,} test images ({named})"
        if m.against:
            text += f"; {m.against:,} of them bear another class there"
        said.append(text + ". The accuracy without them stands beside.")
    if m.validation:
        said.append(
            f"{m.validation:,} of {m.n_validation:,} validation images are, pixel for pixel, among the images they judge: "
            "what was chosen by them may fit too closely."
        )
    if m.within:
        said.append(
            f"{m.within:,} of {m.n_test:,} test images repeat another test image: n counts them all, so intervals are too narrow."
        )
    return said
