"""Which classes are found, and which are taken for which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, Ints, as_array, labels
from visus.measures.intervals import wilson


@dataclass(frozen=True)
class ConfusedPair:
    """Images of class `true` that were called `predicted`: how many, their share of the class, and which to look at."""

    true: int
    predicted: int
    count: int
    share: float
    examples: tuple[int, ...]


@dataclass(frozen=True)
class ClassRecall:
    """Recall of every class 0..C-1 with its Wilson interval; NaN, and the interval (0, 1), where a class has no image."""

    recall: Floats
    low: Floats
    high: Floats
    n: Ints


def confusion_matrix(y_true: Array, y_pred: Array, *, n_classes: int) -> Ints:
    """Counts [n_classes, n_classes], true class by row, predicted class by column. Raises DataError on labels that do not fit."""
    true, predicted = _both(y_true, y_pred, n_classes)
    counts = np.bincount(true * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.int64, copy=False)


def class_recall(y_true: Array, y_pred: Array, *, n_classes: int, level: float = 0.95) -> ClassRecall:
    """Recall of every class with its Wilson interval. y_true, y_pred: int [n]. Raises DataError on labels that do not fit."""
    true, predicted = _both(y_true, y_pred, n_classes)
    n = np.bincount(true, minlength=n_classes).astype(np.int64, copy=False)
    hits = np.bincount(true[true == predicted], minlength=n_classes)
    low, high = wilson(hits, n, level=level)
    recall = np.where(n > 0, hits / np.maximum(n, 1), np.nan)
    return ClassRecall(recall=recall, low=low, high=high, n=n)


def balanced_accuracy(y_true: Array, y_pred: Array, *, n_classes: int) -> float:
    """Mean recall over the classes that have images (scikit-learn's balanced accuracy). Raises DataError as `class_recall`."""
    return float(np.nanmean(class_recall(y_true, y_pred, n_classes=n_classes).recall))


def confused_pairs(
    y_true: Array,
    y_pred: Array,
    *,
    n_classes: int,
    top: int | None = 20,
    examples: int = 8,
    score: Array | None = None,
) -> list[ConfusedPair]:
    """The pairs of classes most often confused, most frequent first.

    y_true, y_pred: int [n]; score: [n], such as the confidence in the prediction: examples are the wrong images (as
    positions in y_true) with the highest score first, by position where there is no score or a tie. share is the
    count over the images of the true class. Equal counts are ordered by share, then true class, then predicted class.
    top: how many pairs (None: all). Raises DataError on lengths that differ, labels that do not fit, or a NaN score.
    """
    true, predicted = _both(y_true, y_pred, n_classes)
    wrong = np.flatnonzero(true != predicted)
    if score is not None:
        ranks = as_array(score, "score", real=True)
        if ranks.shape != true.shape or np.isnan(ranks).any():
            raise DataError("score must hold one number per image, without NaN")
        wrong = wrong[np.argsort(-ranks[wrong], kind="stable")]
    size = np.bincount(true, minlength=n_classes)
    code = true[wrong] * n_classes + predicted[wrong]
    order = np.argsort(code, kind="stable")  # keeps the order by score inside a pair
    wrong = wrong[order]
    pairs, starts, counts = np.unique(code[order], return_index=True, return_counts=True)
    share = counts / size[pairs // n_classes] if len(pairs) else np.zeros(0)
    found = []
    for i in np.lexsort((pairs, -share, -counts))[:top]:
        start, count = int(starts[i]), int(counts[i])
        chosen = tuple(int(j) for j in wrong[start : start + min(examples, count)])
        found.append(
            ConfusedPair(
                true=int(pairs[i] // n_classes),
                predicted=int(pairs[i] % n_classes),
                count=count,
                share=float(share[i]),
                examples=chosen,
            )
        )
    return found


def _both(y_true: Array, y_pred: Array, n_classes: int) -> tuple[Ints, Ints]:
    if n_classes < 1:
        raise DataError(f"n_classes is {n_classes}; there must be at least one class")
    n = as_array(y_true, "y_true").size
    return labels(y_true, n, "y_true", n_classes=n_classes), labels(y_pred, n, "y_pred", n_classes=n_classes)
