"""How well do class names work as a classifier, with which prompts? (P12, P1)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.pairs import Pair, compare_right, table_of_pairs
from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part
from visus.studies.common.shared import interval_text, percent

if TYPE_CHECKING:
    from visus.studies.clip.pairs import Subject

TOP = 5
SIDE = 96
SHOWN = 12
LISTED = 200  # rows of the tables of images
HEATMAP_CLASSES = 30


@dataclass(frozen=True)
class Scored:
    """One prompt set on all images: p float64 [n, k] (softmax over the classes), said int64 [n], right bool [n], within: among the first five."""

    prompts: str
    p: np.ndarray
    said: np.ndarray
    right: np.ndarray
    within: np.ndarray
    balanced: float
    ece: float
    nll: float


def score(s: Subject, prompts: str) -> Scored:
    """Zero-shot classification of the subject's images by one prompt set (Radford et al. 2021), with the model's own temperature."""
    from visus.measures import balanced_accuracy, ece, nll

    assert s.labels is not None
    z = s.logits(prompts).astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    order = np.argsort(-z, axis=1, kind="stable")[:, :TOP]
    return Scored(
        prompts,
        p,
        order[:, 0],
        order[:, 0] == s.labels,
        (order == s.labels[:, None]).any(axis=1),
        balanced_accuracy(s.labels, order[:, 0], n_classes=len(s.classes)),
        ece(p, s.labels),
        nll(p, s.labels),
    )


def part(s: Subject, *, seed: int, untrained: Subject | None = None) -> Part:
    """Accuracy of every prompt set with intervals, which classes and images flip between them, confusion, hardest images.

    untrained: the same with random weights, as a control.
    """
    s = s.each_image_once()
    untrained = None if untrained is None else untrained.each_image_once()
    assert s.labels is not None
    if not s.single:
        return _several(s)
    sets = [score(s, name) for name in s.weights]
    control = score(untrained, next(iter(untrained.weights))) if untrained is not None else None
    first = sets[0]  # the first that was asked for: the best on test would flatter it
    tables = {"zero-shot": _accuracy(s, sets, control)}
    figures = [_bars(s, sets, control)]
    arrays: dict[str, np.ndarray] = {}
    said = [_sentence(s, first, control)]
    if len(sets) > 1:
        pairs = [
            compare_right(a.right, b.right, names=(a.prompts, b.prompts), seed=seed) for a, b in combinations(sets, 2)
        ]
        tables["prompt pairs"] = table_of_pairs(pairs, "Prompt sets compared", what="Zero-shot classifiers")
        said.append(_compared(sets, pairs))
        tables["classes by prompts"] = _flipped_classes(s, sets)
        tables["images by prompts"] = _flips(s, sets)
    tables["zero-shot confused"] = _confused(s, first)
    if len(s.classes) <= HEATMAP_CLASSES:
        figures.append(_heatmap(s, first))
    if not first.right.all():
        tables["hardest images"] = _hardest_table(s, first)
    pictures = [_hardest(s, first)]
    if len(sets) > 1:
        pictures.append(_flipped_images(s, sets))
    for found in pictures:
        if found is not None:
            figures.append(found[0])
            arrays |= found[1]
    return Part(tuple(said), tables, tuple(figures), arrays, _warned(s))


def _warned(s: Subject) -> tuple[str, ...]:
    assert s.labels is not None
    several = s.labels.ndim == 2
    empty = [c for k, c in enumerate(s.classes) if not (s.labels[:, k] if several else s.labels == k).any()]
    if not empty:
        return ()
    means = "they can be answered but never be right" if s.single else "they have no average precision"
    return (f"{len(empty)} of {len(s.classes)} classes have no test image (the first: {empty[0]}); {means}.",)


def _accuracy(s: Subject, sets: Sequence[Scored], control: Scored | None) -> Table:
    from visus.measures import wilson

    rows = []
    for name, c in [*((c.prompts, c) for c in sets), *([("random weights", control)] if control else [])]:
        n, hits, within = len(c.right), int(c.right.sum()), int(c.within.sum())
        low, high = wilson(hits, n)
        rows.append(
            (
                name, s.prompts[c.prompts], 100 * hits / n, 100 * low, 100 * high, 100 * c.balanced,
                100 * within / n if len(s.classes) > TOP else None, 100 * c.ece, c.nll, n,
            )
        )  # fmt: skip
    return Table(
        ("prompts", "templates", "accuracy, %", "low", "high", "macro recall, %", "top-5, %", "ECE, %", "NLL", "n"),
        tuple(rows),
        title="Zero-shot, by prompts",
        digits=2,
        note=f"{len(s.classes)} classes: chance is {100 / len(s.classes):.1f} %. A class is the normalised mean of its prompts' unit "
        f"vectors. low, high: 95 % Wilson intervals. ECE (15 bins) and NLL: softmax of cosines times the model's own scale, {s.scale:.1f}.",
    )


def _bars(s: Subject, sets: Sequence[Scored], control: Scored | None) -> Figure:
    from visus.measures import wilson

    shown = [*((c.prompts, c) for c in sets), *([("random weights", control)] if control else [])]
    bounds = [wilson(int(c.right.sum()), len(c.right)) for _, c in shown]
    return Figure(
        "zero_shot",
        "intervals",
        "Class names as a classifier",
        f"Accuracy on {len(sets[0].right):,} images with 95 % Wilson intervals.",
        {
            "x_label": "prompts",
            "y_label": "accuracy, %",
            "groups": [
                {
                    "name": s.name,
                    "labels": [name for name, _ in shown],
                    "values": [100 * float(c.right.mean()) for _, c in shown],
                    "low": [100 * low for low, _ in bounds],
                    "high": [100 * high for _, high in bounds],
                }
            ],
            "reference": [{"label": "chance", "value": 100 / len(s.classes)}],
        },
    )


def _flipped_classes(s: Subject, sets: Sequence[Scored]) -> Table:
    """Recall of every class by prompt set, the classes first whose recall moves most."""
    assert s.labels is not None
    ranges: list[float] = []
    rows: list[tuple[object, ...]] = []
    for k, name in enumerate(s.classes):
        mine = s.labels == k
        if mine.any():
            recalls = [100 * float(c.right[mine].mean()) for c in sets]
            ranges.append(max(recalls) - min(recalls))
            rows.append((name, *recalls, ranges[-1], int(mine.sum())))
    return Table(
        ("class", *(c.prompts for c in sets), "range, points", "n"),
        tuple(rows[i] for i in np.argsort(-np.array(ranges), kind="stable")),
        title="Recall of every class, %, by prompts",
        digits=1,
        note="Those first whose recall depends most on the prompts.",
    )


def _confused(s: Subject, first: Scored) -> Table:
    from visus.measures import confused_pairs

    assert s.labels is not None
    found = confused_pairs(s.labels, first.said, n_classes=len(s.classes), score=first.p.max(axis=1))
    return Table(
        ("class", "taken for", "images", "of the class, %"),
        tuple((s.classes[c.true], s.classes[c.predicted], c.count, 100 * c.share) for c in found),
        title=f"Most often confused, with {first.prompts} prompts",
        digits=1,
    )


def _heatmap(s: Subject, first: Scored) -> Figure:
    from visus.measures import confusion_matrix

    assert s.labels is not None
    counts = confusion_matrix(s.labels, first.said, n_classes=len(s.classes)).astype(float)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Figure(
        "confusion",
        "heatmap",
        f"What is taken for what, {first.prompts} prompts",
        "Rows: the label. Columns: the answer. Shares of the row's images.",
        {
            "values": share.tolist(),
            "rows": list(s.classes),
            "columns": list(s.classes),
            "label": "share of the class, %",
            "low": 0.0,
            "high": 100.0,
        },
    )


def _worst(s: Subject, first: Scored, count: int) -> np.ndarray:
    """int64 [at most count]: the wrong images, those with the least probability on their class first."""
    own = first.p[np.arange(len(first.said)), s.labels]
    return np.argsort(np.where(first.right, np.inf, own), kind="stable")[: min(count, int((~first.right).sum()))]


def _hardest_table(s: Subject, first: Scored) -> Table:
    assert s.labels is not None
    rows = tuple(
        (s.ids[i], s.classes[s.labels[i]], s.classes[first.said[i]], 100 * float(first.p[i].max()), 100 * float(first.p[i, s.labels[i]]))
        for i in _worst(s, first, LISTED)
    )  # fmt: skip
    return Table(
        ("image", "class", "answer", "probability of the answer, %", "of the class, %"),
        rows,
        title=f"Hardest images, with {first.prompts} prompts",
        digits=1,
        note=f"{len(rows):,} of {int((~first.right).sum()):,} wrong answers, those first that give the class least.",
    )


def _flips(s: Subject, sets: Sequence[Scored]) -> Table:
    """The images that some prompt set gets right and another wrong, with every set's answer."""
    assert s.labels is not None
    right = np.stack([c.right for c in sets])
    own = np.stack([c.p[np.arange(len(c.said)), s.labels] for c in sets])
    flip = np.flatnonzero(right.any(axis=0) & ~right.all(axis=0))
    ordered = flip[np.argsort(-np.ptp(own[:, flip], axis=0), kind="stable")]
    rows = tuple(
        (s.ids[i], s.classes[s.labels[i]], *(s.classes[c.said[i]] for c in sets), int(right[:, i].sum()))
        for i in ordered[:LISTED]
    )
    return Table(
        ("image", "class", *(f"{c.prompts} says" for c in sets), "sets right"),
        rows,
        title="Images that turn on the prompts",
        note=f"{len(rows):,} of {len(flip):,} images (of {len(s.labels):,}) that one set gets right and another wrong, those first whose class "
        "gains the most probability from one set to another.",
    )


def _hardest(s: Subject, first: Scored) -> tuple[Figure, dict[str, np.ndarray]] | None:
    """The wrong images with the least probability on their class."""
    from visus.images.thumbnails import thumbnails

    if s.pictures is None or s.rows is None or first.right.all():
        return None
    assert s.labels is not None
    worst = _worst(s, first, SHOWN)
    captions = [
        f"{s.classes[s.labels[i]]}: said {s.classes[first.said[i]]} {percent(float(first.p[i].max()), 0)}"
        for i in worst
    ]
    figure = Figure(
        "hardest",
        "gallery",
        "Hardest images",
        "Wrong answers with the least probability on the label: hard pictures, or wrong labels.",
        {"images": "hardest_pictures", "captions": captions, "groups": None},
    )
    return figure, {"hardest_pictures": thumbnails(s.pictures, s.rows[worst], SIDE)}


def _flipped_images(s: Subject, sets: Sequence[Scored]) -> tuple[Figure, dict[str, np.ndarray]] | None:
    """Images that one of the first and last prompt set gets right and the other wrong."""
    from visus.images.thumbnails import thumbnails

    if s.pictures is None or s.rows is None:
        return None
    assert s.labels is not None
    a, b = sets[0], sets[-1]
    chosen: list[int] = []
    groups, captions = [], []
    for one, other in ((a, b), (b, a)):
        gain = np.flatnonzero(one.right & ~other.right)
        own = one.p[gain, s.labels[gain]] - other.p[gain, s.labels[gain]]
        for i in gain[np.argsort(-own, kind="stable")][: SHOWN // 2]:
            chosen.append(int(i))
            groups.append(f"right with {one.prompts}, wrong with {other.prompts}")
            captions.append(f"{s.classes[s.labels[i]]}, then {s.classes[other.said[i]]}")
    if not chosen:
        return None
    figure = Figure(
        "flipped",
        "gallery",
        "Images that the prompts decide",
        f"Right with one of {a.prompts} and {b.prompts} prompts and wrong with the other: the label, then the wrong answer.",
        {"images": "flipped_pictures", "captions": captions, "groups": groups},
    )
    return figure, {"flipped_pictures": thumbnails(s.pictures, s.rows[np.array(chosen)], SIDE)}


def _several(s: Subject) -> Part:
    """Several labels a picture: mean average precision."""
    from visus.measures.retrieval import average_precision

    assert s.labels is not None
    said, rows = [], []
    for name in s.weights:
        each = average_precision(s.logits(name), s.labels)
        known = ~np.isnan(each)
        rows += [
            (name, c, 100 * float(v), int(s.labels[:, k].sum()))
            for k, (c, v) in enumerate(zip(s.classes, each, strict=True))
            if known[k]
        ]
        said.append(
            f"With {name} prompts the mean average precision of {s.name} over {int(known.sum())} classes is {percent(float(each[known].mean()))} "
            f"({len(s.labels):,} images, several labels each; blind answers: {percent(float(s.labels[:, known].mean()))})."
        )
    table = Table(
        ("prompts", "class", "average precision, %", "positives"),
        tuple(rows),
        title="Average precision of every class",
        digits=1,
    )
    return Part(tuple(said), {"average precision": table}, warnings=_warned(s))


def _sentence(s: Subject, first: Scored, control: Scored | None) -> str:
    from visus.measures import wilson

    n, hits = len(first.right), int(first.right.sum())
    low, high = wilson(hits, n)
    beside = f"; with random weights {percent(float(control.right.mean()))}" if control else ""
    return (
        f"Zero-shot, {s.name} is right on {percent(hits / n)} of {n:,} images ({interval_text(low, high)}) among {len(s.classes)} classes "
        f"with {first.prompts} prompts, macro recall {percent(first.balanced)}, calibration error {percent(first.ece)}{beside}."
    )


def _compared(sets: Sequence[Scored], pairs: Sequence[Pair]) -> str:
    from visus.measures.compare import holm

    corrected = holm(np.array([p.p for p in pairs]))
    sure = [p for p, h in zip(pairs, corrected, strict=True) if h < 0.05]
    spread = 100 * (max(float(c.right.mean()) for c in sets) - min(float(c.right.mean()) for c in sets))
    if not sure:
        return f"The prompt sets lie within {spread:.1f} points; no difference between two of them is more than chance (McNemar, Holm)."
    top = max(sure, key=lambda p: abs(p.difference))
    a, b = (top.a, top.b) if top.difference > 0 else (top.b, top.a)
    return (
        f"Prompts matter here: {a} beats {b} by {100 * abs(top.difference):.1f} points "
        f"({top.only_a + top.only_b} images flip, more than chance)."
    )
