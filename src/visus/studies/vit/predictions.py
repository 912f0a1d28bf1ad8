"""What does it predict? Top classes of chosen pictures, and how often the answer means the label, with its calibration (P8)."""

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
from visus.studies.vit.subject import EvaluatedModel, prepared

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.measures.reliability import Reliability

SHOWN_SIDE = 128
TOP = 5


@dataclass(frozen=True)
class Judged:
    """One model on the labelled pictures. asked: bool [all], those whose class an answer means; of these right: bool [n] at the first place,
    within: bool [n] among the first five. unmeant: classes that no answer means, which are left out."""

    model: str
    asked: np.ndarray
    right: np.ndarray
    within: np.ndarray
    reliability: Reliability
    unmeant: tuple[str, ...]


def answers(viewer: EvaluatedModel, imageset: ImageSet, rows: np.ndarray, *, device: str) -> np.ndarray:
    """Probabilities [n, k] of the pictures at `rows`."""
    from visus.progress import task
    from visus.studies.vit.masking.measure import answered

    found: list[np.ndarray] = []
    with viewer.backbone.on(device), task(f"predicting with {viewer.spec}", len(rows)) as progress:
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            shown = prepared(viewer, imageset, part)
            found.append(answered(viewer, shown, device))
            progress.advance(len(part))
    return viewer.probabilities(np.concatenate(found))


def judge(viewer: EvaluatedModel, imageset: ImageSet, rows: np.ndarray, *, device: str) -> Judged | None:
    """How often the answer means the label, of the pictures at `rows`; None where no answer can, or no label is there."""
    from visus.measures.reliability import reliability

    if imageset.labels is None or viewer.reading == "output":
        return None
    y = imageset.labels[rows]
    asked = viewer.askable(y)
    if not asked.any():
        return None
    p, y = answers(viewer, imageset, rows[asked], device=device), y[asked]
    order = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
    hits = (
        viewer.right(order.T, np.broadcast_to(y, order.T.shape))
        if viewer.reading == "probe"
        else viewer.right(order.T, y)
    )
    assert hits is not None
    absent = tuple(c for c, t in zip(imageset.classes, viewer.targets or (), strict=False) if not len(t))
    return Judged(
        viewer.spec, asked, hits[0], np.asarray(hits.any(axis=0)), reliability(p.max(axis=1), hits[0]), absent
    )


def part(
    viewers: Sequence[EvaluatedModel],
    imageset: ImageSet,
    rows: np.ndarray,
    looked_set: ImageSet,
    looked: np.ndarray,
    *,
    device: str,
    seed: int,
) -> Part:
    """Top five of the pictures at `looked` of one set, side by side; over `rows` of the other, if labelled, accuracy, reliability and pairs."""
    said, unjudged, warnings = [], [], []
    top: list[tuple[EvaluatedModel, np.ndarray, np.ndarray]] = []
    judged: list[Judged] = []
    for viewer in viewers:
        p = answers(viewer, looked_set, looked, device=device)
        order = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
        top.append((viewer, order, np.take_along_axis(p, order, axis=1)))
        if imageset.labels is None:
            continue
        found = judge(viewer, imageset, rows, device=device)
        if found is None:
            unjudged.append(
                f"{viewer.spec} has a multi-label head: a picture may have several of its labels, so that neither accuracy nor calibration of "
                "one answer is told; it is judged by whether its strongest label stays the same."
                if viewer.several
                else f"{viewer.spec} has classes of its own that mean none of {imageset.name}'s: it is judged by whether its answer stays the same."
            )
            continue
        judged.append(found)
        if found.unmeant:
            warnings.append(
                f"No output of {viewer.spec} means {', '.join(found.unmeant)}: pictures of these classes are left out of its accuracy."
            )
    tables = {"top five": _top(top, imageset.classes, looked_set, looked)}
    figures, arrays = _gallery(top, imageset.classes, looked_set, looked)
    if judged:
        tables["accuracy"] = _accuracy(judged)
        figures.append(_diagram(judged))
        said += [_sentence(j) for j in judged]
    pairs = [pair for a, b in combinations(judged, 2) if (pair := _pair(a, b, seed)) is not None]
    if pairs:
        tables["accuracy pairs"] = table_of_pairs(pairs, "Models compared on the same pictures", what="First answers")
        said += [sentence_of(pair) for pair in pairs]
    return Part((*said, *unjudged), tables, tuple(figures), arrays, tuple(warnings))


def _pair(a: Judged, b: Judged, seed: int) -> Pair | None:
    """Two models by the pictures that both can name."""
    both = a.asked & b.asked
    if not both.any():
        return None
    return compare_right(a.right[both[a.asked]], b.right[both[b.asked]], names=(a.model, b.model), seed=seed)


def sentence_of(pair: Pair) -> str:
    """'A is ahead of B by 3.0 points (95 % interval 1.0 to 5.0, paired).'"""
    sign = 1 if pair.difference >= 0 else -1
    ahead, behind = (pair.a, pair.b) if sign > 0 else (pair.b, pair.a)
    low, high = sorted((100 * sign * pair.low, 100 * sign * pair.high))
    sure = "" if pair.low > 0 or pair.high < 0 else ", which may be chance"
    return f"{ahead} is ahead of {behind} by {100 * abs(pair.difference):.1f} points (95 % interval {low:.1f} to {high:.1f}, paired){sure}."


def _label(viewer: EvaluatedModel, classes: Sequence[str], position: int) -> str:
    from visus.models.labels import short

    return short(viewer.names[position]) if viewer.names else classes[position]


def _top(
    top: Sequence[tuple[EvaluatedModel, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    imageset: ImageSet,
    shown: np.ndarray,
) -> Table:
    rows = []
    for k, i in enumerate(shown):
        for rank in range(TOP):
            cells: list[object] = []
            for viewer, order, p in top:
                known = rank < order.shape[1]
                cells += (
                    [_label(viewer, classes, int(order[k, rank])), 100 * float(p[k, rank])] if known else [None, None]
                )
            rows.append((imageset.ids[int(i)], rank + 1, *cells))
    columns = [name for viewer, _, _ in top for name in (viewer.spec, f"{viewer.spec}, %")]
    return Table(
        ("image", "rank", *columns),
        tuple(rows),
        title="Top five of the chosen pictures",
        digits=1,
        note="Each model with its own preprocessing; probability: softmax over all that the model can answer (of a "
        "model without classifier: its linear probe)"
        + ("; of a multi-label head each label's own sigmoid." if any(v.several for v, _, _ in top) else "."),
    )


def _gallery(
    top: Sequence[tuple[EvaluatedModel, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    imageset: ImageSet,
    shown: np.ndarray,
) -> tuple[list[Figure], dict[str, np.ndarray]]:
    from visus.images.thumbnails import thumbnails

    captions = [
        "; ".join(
            (f"{viewer.spec}: " if len(top) > 1 else "")
            + f"{_label(viewer, classes, int(order[k, 0]))} {percent(float(p[k, 0]), 0)}"
            for viewer, order, p in top
        )
        for k in range(len(shown))
    ]
    figure = Figure(
        "predicted",
        "gallery",
        "What the models say",
        "The chosen pictures with the most probable class of each model.",
        {"images": "predicted_pictures", "captions": captions, "groups": None},
    )
    return [figure], {"predicted_pictures": thumbnails(imageset, shown, SHOWN_SIDE)}


def _accuracy(judged: Sequence[Judged]) -> Table:
    from visus.measures import wilson

    rows = []
    for j in judged:
        hits, within, n = int(j.right.sum()), int(j.within.sum()), len(j.right)
        low, high = wilson(hits, n)
        low5, high5 = wilson(within, n)
        rows.append(
            (
                j.model,
                100 * hits / n,
                100 * low,
                100 * high,
                100 * within / n,
                100 * low5,
                100 * high5,
                100 * j.reliability.ece,
                n,
            )
        )
    return Table(
        ("model", "top-1, %", "low", "high", "top-5, %", "low ", "high ", "ECE, %", "n"),
        tuple(rows),
        title="How often the answer means the label",
        digits=1,
        note="low, high: 95 % Wilson intervals. ECE: expected calibration error, 15 bins. An answer means the label "
        "where names agree, by the shipped map from WordNet's "
        "relations (CIFAR-10, STL-10), or by --meanings.",
    )  # fmt: skip


def _diagram(judged: Sequence[Judged]) -> Figure:
    series = [
        {
            "name": f"{j.model} (ECE {percent(j.reliability.ece)})",
            "x": (100 * j.reliability.confidence).tolist(),
            "y": (100 * j.reliability.accuracy).tolist(),
            "low": (100 * j.reliability.low).tolist(),
            "high": (100 * j.reliability.high).tolist(),
        }
        for j in judged
    ]
    series.append({"name": "calibrated", "x": [0.0, 100.0], "y": [0.0, 100.0], "low": None, "high": None})
    return Figure(
        "reliability",
        "lines",
        "Is it as right as it is sure?",
        "Accuracy by confidence, 15 bins; bands: 95 % Wilson intervals. Below the diagonal a model is surer than it is right.",
        {"x_label": "confidence, %", "y_label": "accuracy, %", "x_log": False, "y_log": False, "series": series},
    )


def _sentence(j: Judged) -> str:
    from visus.measures import wilson

    hits, n = int(j.right.sum()), len(j.right)
    low, high = wilson(hits, n)
    return (
        f"The first answer of {j.model} means the label for {percent(hits / n)} of {n:,} pictures "
        f"({interval_text(low, high)}), one of the first five for "
        f"{percent(float(j.within.mean()))}; its calibration error is {percent(j.reliability.ece)}."
    )
