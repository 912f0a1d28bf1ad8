"""The same image in training and in test (protocol P16): counted, named, and every accuracy without it beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.measures.intervals import wilson
from visus.measures.repeats import Repeats
from visus.studies.common.schema1 import Table
from visus.studies.common.shared import interval_text, percent

SHOWN = 20  # pairs in the table
NAMED = 2  # in a sentence


@dataclass(frozen=True)
class Answered:
    """One row of accuracy. names: what was judged, a cell each. right: bool or share [n_test], whether each test image was answered rightly."""

    names: tuple[str, ...]
    right: np.ndarray


def accuracy_without(r: Repeats, columns: Sequence[str], answers: Sequence[Answered]) -> Table:
    """Accuracy on all test images, and on those that are no training images."""
    rows = []
    for a in answers:
        rows.append((*a.names, *_share(a.right), *_share(a.right[~r.test])))
    return Table(
        (*columns, "accuracy", "low", "high", "n", "without repeats", "low ", "high ", "n "),
        tuple(rows),
        title=f"Without the {r.count:,} test images that are training images too",
        note="The same image is one whose decoded pixels are all equal, whatever its file is called or its lossless format is; an image that was "
        "compressed again, resized or cropped is not found. low, high: 95 % Wilson interval.",
    )


def listed(r: Repeats, ids: Sequence[str], test: np.ndarray, y: np.ndarray | None, classes: Sequence[str]) -> Table:
    """The pairs by name. ids: of all rows; test: int64 rows of the test images."""
    at = np.flatnonzero(r.test)
    at = at[np.argsort(~r.against[at], kind="stable")][:SHOWN]  # those that contradict each other first
    rows = []
    for i in at:
        pair = (int(test[i]), int(r.duplicate_of[i]))
        names = ("", "") if y is None else (classes[y[pair[0]]], classes[y[pair[1]]])
        rows.append((ids[pair[0]], names[0], ids[pair[1]], names[1]))
    more = f" (the first {SHOWN} of {r.count:,})" if r.count > SHOWN else ""
    return Table(
        ("test image", "class", "training image", "class there"),
        tuple(rows),
        title=f"The same image in test and in training{more}",
    )


def finding(r: Repeats, what: str, right: np.ndarray) -> str:
    """What the repeated images add to one accuracy."""
    value, low, high, n = _share(right[~r.test])
    if value is None:
        return f"All {r.count:,} test images are, pixel for pixel, training images too: no accuracy can be given without them."
    return (
        f"{r.count:,} of {len(r.test):,} test images are, pixel for pixel, training images too; without them {what} is right on "
        f"{percent(value)} of {n:,} ({interval_text(low or 0.0, high or 0.0)}) instead of {percent(float(np.mean(right)))}."
    )


def warnings(r: Repeats, ids: Sequence[str], test: np.ndarray) -> list[str]:
    """What a reader must know: how many, which, and whether their labels agree."""
    said = []
    if r.count:
        some = [f"{ids[int(test[i])]} = {ids[int(r.duplicate_of[i])]}" for i in np.flatnonzero(r.test)[:NAMED]]
        named = ", ".join(some) + (" ..." if r.count > NAMED else "")
        text = f"The same image in test and in training: {r.count:,} of {len(r.test):,} test images ({named})"
        if r.against.any():
            text += f"; {int(r.against.sum()):,} of them bear another class there"
        said.append(text + ". The accuracy without them stands beside.")
    if r.validation:
        said.append(
            f"{r.validation:,} of {r.n_validation:,} validation images are, pixel for pixel, among the images they judge: "
            "what was chosen by them may fit too closely."
        )
    if r.within:
        said.append(
            f"{r.within:,} of {len(r.test):,} test images repeat another test image: n counts them all, so intervals are too narrow."
        )
    return said


def _share(right: np.ndarray) -> tuple[float | None, float | None, float | None, int]:
    n = len(right)
    if not n:
        return None, None, None, 0
    value = float(np.mean(right))
    low, high = wilson(round(value * n), n)
    return value, low, high, n
