"""Zero-shot classification by every prompt set (Radford et al. 2021): accuracies, what flips between sets, what is confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from visus.measures.calibration import ece, nll
from visus.measures.confusion import balanced_accuracy, confused_pairs, confusion_matrix
from visus.measures.retrieval import average_precision
from visus.result import key_of
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.clip.zero_shot.images import (
    SHOWN,
    TOP,
    Answers,
    FlippedImage,
    Pictures,
    WrongAnswer,
    answer,
    decided_of,
    flips_of,
    hardest_of,
    order_wrong,
    predictions_of,
    wrong_of,
)
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.proportion import Proportion, proportion

LISTED = 200  # rows of the tables of images
HEATMAP_CLASSES = 30
CONTROL = "random weights"


@dataclass(frozen=True)
class PromptScore:
    """One prompt set on all images. key: of its name. templates: how many prompts. balanced: accuracy, over classes. top_5: the label among the
    first five answers (None where five are all there are). ece, nll: of the softmax."""

    key: str
    prompts: str
    templates: int
    accuracy: Proportion
    balanced: float
    top_5: float | None
    ece: float
    nll: float


@dataclass(frozen=True)
class ClassRecalls:
    """Recall of one class by prompt set, in their order; spread: the largest less the smallest; n: its images."""

    name: str
    recalls: tuple[float, ...]
    spread: float
    n: int


@dataclass(frozen=True)
class Confusion:
    """A class taken for another: how many images, and their share of the class."""

    label: str
    answer: str
    count: int
    share: float


@dataclass(frozen=True)
class ClassPrecision:
    """Average precision of one class, of several labels an image."""

    name: str
    value: float
    positives: int


@dataclass(frozen=True)
class PromptPrecision:
    """Mean average precision of one prompt set over the classes that have images; blind: of random scores, their mean share of positives."""

    key: str
    prompts: str
    mean: float
    blind: float
    classes: tuple[ClassPrecision, ...]


@dataclass(frozen=True, kw_only=True)
class ZeroShotMeasures:
    """name: of the space. n: images, each once. unseen: classes without one. scores: by prompt set, in the order asked for, the first of which is
    told of (the best on test would flatter it), with what is confused and hardest; control: the same network with random weights.

    spread: of accuracies. flips: of flipped images in all, the first LISTED. confusion: share [k, k] of each class, or None where classes are many.
    wrong: the first LISTED of n_wrong. predictions: a row an image, of the first prompt set.
    precisions: where images have several labels, in place of all of these.
    """

    name: str
    n: int
    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    split: str = "test"
    scale: float = 1.0
    scores: tuple[PromptScore, ...] = ()
    control: PromptScore | None = None
    spread: float = 0.0
    comparisons: tuple[Comparison, ...] = ()
    recalls: tuple[ClassRecalls, ...] = ()
    flipped: int = 0
    flips: tuple[FlippedImage, ...] = ()
    confused: tuple[Confusion, ...] = ()
    confusion: np.ndarray | None = None
    n_wrong: int = 0
    wrong: tuple[WrongAnswer, ...] = ()
    hardest: Pictures | None = None
    decided: Pictures | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    precisions: tuple[PromptPrecision, ...] = ()

    @property
    def chance(self) -> float:
        """Accuracy of blind answers."""
        return 1 / len(self.classes)


def measure(pairs: PairedEmbeddings, *, seed: int, control: PairedEmbeddings | None = None) -> ZeroShotMeasures:
    """Every prompt set on every image once; control: the same with random weights, of which the first set is scored."""
    pairs = pairs.each_image_once()
    if not pairs.single:
        return _measure_several(pairs)
    found = [answer(pairs, name) for name in pairs.classifiers]
    keys = _keys(list(pairs.classifiers))
    scores = tuple(_score(pairs, a, a.prompts, key) for a, key in zip(found, keys, strict=True))
    first, accuracies = found[0], [s.accuracy.value for s in scores]
    shares = _shares(pairs, first) if len(pairs.classes) <= HEATMAP_CLASSES else None
    worst = order_wrong(first)
    flips = flips_of(pairs, found) if len(found) > 1 else []
    return ZeroShotMeasures(
        name=pairs.name,
        n=len(pairs),
        classes=pairs.classes,
        unseen=_unseen(pairs),
        split=pairs.split,
        scale=pairs.scale,
        scores=scores,
        control=None if control is None else _score_control(pairs, control.each_image_once()),
        spread=max(accuracies) - min(accuracies),
        comparisons=family(
            [compare(a.right, b.right, names=(a.prompts, b.prompts), seed=seed) for a, b in combinations(found, 2)]
        ),
        recalls=_recalls(pairs, found) if len(found) > 1 else (),
        flipped=len(flips),
        flips=tuple(flips[:LISTED]),
        confused=_confused(pairs, first),
        confusion=shares,
        n_wrong=len(worst),
        wrong=tuple(wrong_of(pairs, first, int(i)) for i in worst[:LISTED]),
        hardest=hardest_of(pairs, first, worst[:SHOWN]),
        decided=decided_of(pairs, first, found[-1]) if len(found) > 1 else None,
        predictions=predictions_of(pairs, first),
    )


def _keys(prompts: Sequence[str]) -> list[str]:
    """A key for each prompt set, numbered where two would have the same, or that of the control."""
    keys: list[str] = []
    for name in prompts:
        key = key_of(name)
        keys.append(f"{key}-{len(keys) + 1}" if key in (*keys, key_of(CONTROL)) else key)
    return keys


def _score(pairs: PairedEmbeddings, a: Answers, name: str, key: str) -> PromptScore:
    return PromptScore(
        key=key,
        prompts=name,
        templates=pairs.templates[a.prompts],
        accuracy=proportion(a.right),
        balanced=balanced_accuracy(a.labels, a.answers, n_classes=len(pairs.classes)),
        top_5=float(np.mean(a.within)) if len(pairs.classes) > TOP else None,
        ece=ece(a.p, a.labels),
        nll=nll(a.p, a.labels),
    )


def _score_control(pairs: PairedEmbeddings, control: PairedEmbeddings) -> PromptScore:
    found = answer(control, next(iter(control.classifiers)))
    return _score(pairs, found, CONTROL, key_of(CONTROL))


def _unseen(pairs: PairedEmbeddings) -> tuple[str, ...]:
    labels = np.asarray(pairs.labels)
    seen = np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else np.unique(labels)
    return tuple(pairs.classes[int(k)] for k in np.setdiff1d(np.arange(len(pairs.classes)), seen))


def _recalls(pairs: PairedEmbeddings, found: Sequence[Answers]) -> tuple[ClassRecalls, ...]:
    """Of every class with images, those first whose recall depends most on the prompts."""
    made = []
    for k, name in enumerate(pairs.classes):
        mine = found[0].labels == k
        if mine.any():
            recalls = tuple(float(a.right[mine].mean()) for a in found)
            made.append(ClassRecalls(name, recalls, max(recalls) - min(recalls), int(mine.sum())))
    return tuple(sorted(made, key=lambda c: -c.spread))


def _confused(pairs: PairedEmbeddings, first: Answers) -> tuple[Confusion, ...]:
    found = confused_pairs(first.labels, first.answers, n_classes=len(pairs.classes), score=first.p.max(axis=1))
    return tuple(Confusion(pairs.classes[c.true], pairs.classes[c.predicted], c.count, c.share) for c in found)


def _shares(pairs: PairedEmbeddings, first: Answers) -> np.ndarray:
    """float64 [k, k]: labels by row, answers by column, shares of the row's images."""
    counts = confusion_matrix(first.labels, first.answers, n_classes=len(pairs.classes)).astype(float)
    found: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found


def _measure_several(pairs: PairedEmbeddings) -> ZeroShotMeasures:
    """Several labels an image: mean average precision."""
    labels = np.asarray(pairs.labels)
    precisions = []
    for name, key in zip(pairs.classifiers, _keys(list(pairs.classifiers)), strict=True):
        each = average_precision(pairs.logits(name), labels)
        known = ~np.isnan(each)
        classes = tuple(
            ClassPrecision(pairs.classes[k], float(each[k]), int(labels[:, k].sum())) for k in np.flatnonzero(known)
        )
        precisions.append(
            PromptPrecision(key, name, float(each[known].mean()), float(labels[:, known].mean()), classes)
        )
    return ZeroShotMeasures(
        name=pairs.name, n=len(pairs), classes=pairs.classes, unseen=_unseen(pairs), split=pairs.split, precisions=tuple(precisions)
    )  # fmt: skip
