"""What does it predict? Top classes of chosen images, and how often the answer means the label, with its calibration (P8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from visus.figures import AnyFigure, Gallery, Lines, Series
from visus.formats import percent
from visus.images import ImageSet
from visus.images.thumbnails import thumbnails
from visus.measures.reliability import Reliability, reliability
from visus.progress import task
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.comparisons import Comparison, compare, comparisons_table, family
from visus.studies.common.proportion import Proportion, proportion
from visus.studies.vit.evaluated import EvaluatedModel, model_outputs, prepare
from visus.studies.vit.inputs import EvaluatedImages

KEY, QUESTION = "predictions", "What does it predict, and how often is it right?"
SIDE, TOP, BATCH = 128, 5, 256


@dataclass(frozen=True)
class TopAnswers:
    """The most probable answers of one model, an entry an image: names and their probabilities, at most five. multi_label: its labels stand
    alone, each with a probability of its own."""

    model: str
    names: tuple[tuple[str, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]
    multi_label: bool


@dataclass(frozen=True)
class Accuracy:
    """One model on the labelled images whose class an answer means: top1 and top5. asked: bool, whether each test image is one of these;
    right: bool, of these whether the first answer means the label. answers, confidence: the first answer and its probability. unmeant:
    classes that no answer means, which are left out."""

    model: str
    top1: Proportion
    top5: Proportion
    reliability: Reliability
    asked: np.ndarray
    right: np.ndarray
    answers: tuple[str, ...]
    confidence: np.ndarray
    unmeant: tuple[str, ...]


@dataclass(frozen=True)
class Unjudged:
    """A model whose answers mean none of the classes. multi_label: because its labels stand alone."""

    model: str
    multi_label: bool


@dataclass(frozen=True)
class ComparedAnswers:
    """Two models on the n images that both can name."""

    comparison: Comparison
    n: int


@dataclass(frozen=True)
class PredictionsMeasures:
    """shown: names of the images to look at; thumbnails: uint8 [n, side, side, 3] of them; top: of each model. images: the measured set's
    name; accuracies, unjudged: its models; pairs: of models, one family."""

    images: str
    shown: tuple[str, ...]
    thumbnails: np.ndarray
    top: tuple[TopAnswers, ...]
    accuracies: tuple[Accuracy, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    pairs: tuple[ComparedAnswers, ...] = ()


def measure(
    models: Sequence[EvaluatedModel], images: EvaluatedImages, *, device: str, seed: int
) -> PredictionsMeasures:
    """The top five of the images to look at; over the test images, if labelled, accuracy, reliability and every two models paired."""
    top, accuracies, unjudged = [], [], []
    for model in models:
        top.append(_top_answers(model, images, device))
        if images.test.labels is None:
            continue
        found = _accuracy(model, images.test, device)
        if found is None:
            unjudged.append(Unjudged(model.spec, model.multi_label))
        else:
            accuracies.append(found)
    both = [(a, b, a.asked & b.asked) for a, b in combinations(accuracies, 2)]
    both = [(a, b, common) for a, b, common in both if common.any()]
    compared = family(
        [
            compare(a.right[common[a.asked]], b.right[common[b.asked]], names=(a.model, b.model), seed=seed)
            for a, b, common in both
        ]
    )
    return PredictionsMeasures(
        images=images.test.name,
        shown=images.shown.ids,
        thumbnails=thumbnails(images.shown, np.arange(len(images.shown)), SIDE),
        top=tuple(top),
        accuracies=tuple(accuracies),
        unjudged=tuple(unjudged),
        pairs=tuple(ComparedAnswers(c, int(common.sum())) for c, (_, _, common) in zip(compared, both, strict=True)),
    )


def _probabilities(model: EvaluatedModel, images: ImageSet, device: str) -> np.ndarray:
    """[n, k] of everything that the model can answer."""
    found: list[np.ndarray] = []
    with model.backbone.on(device), task(f"predicting with {model.spec}", len(images)) as progress:
        for start in range(0, len(images), BATCH):
            some = images.subset(np.arange(start, min(start + BATCH, len(images))))
            found.append(model_outputs(model, prepare(model, some), device))
            progress.advance(len(some))
    return model.probabilities(np.concatenate(found))


def _top_answers(model: EvaluatedModel, images: EvaluatedImages, device: str) -> TopAnswers:
    p = _probabilities(model, images.shown, device)
    order = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
    classes = images.test.classes
    return TopAnswers(
        model.spec,
        tuple(tuple(model.answer_name(int(i), classes) for i in row) for row in order),
        tuple(tuple(map(float, row)) for row in np.take_along_axis(p, order, axis=1)),
        model.multi_label,
    )


def _accuracy(model: EvaluatedModel, images: ImageSet, device: str) -> Accuracy | None:
    """How often the answer means the label; None where no answer can."""
    if images.labels is None or model.reading == "output":
        return None
    asked = model.askable(images.labels)
    if not asked.any():
        return None
    p, y = _probabilities(model, images.subset(asked), device), images.labels[asked]
    order = np.argsort(-p, axis=1, kind="stable")[:, :TOP]
    hits = model.right(order.T, y)
    if hits is None:
        return None
    confidence = p.max(axis=1)
    return Accuracy(
        model=model.spec,
        top1=proportion(hits[0]),
        top5=proportion(np.asarray(hits.any(axis=0))),
        reliability=reliability(confidence, hits[0]),
        asked=asked,
        right=hits[0],
        answers=tuple(model.answer_name(int(i), images.classes) for i in order[:, 0]),
        confidence=confidence,
        unmeant=tuple(c for c, t in zip(images.classes, model.targets or (), strict=False) if not len(t)),
    )


def metrics(m: PredictionsMeasures) -> tuple[Metric, ...]:
    found = []
    for a in m.accuracies:
        found += [
            a.top1.metric(key_of(a.model, "accuracy"), label=f"accuracy of {a.model}"),
            a.top5.metric(key_of(a.model, "top-5"), label=f"label among the first five answers of {a.model}"),
            Metric(
                key_of(a.model, "ece"), a.reliability.ece, n=a.top1.n, unit="share", better="lower",
                label=f"expected calibration error of {a.model}",
            ),
        ]  # fmt: skip
    return (*found, *(p.comparison.metric(_pair_key(p.comparison), p.n) for p in m.pairs))


def _pair_key(c: Comparison) -> str:
    return key_of("accuracy", c.a, "minus", c.b)


def tables(m: PredictionsMeasures) -> tuple[Table, ...]:
    found = [_top_table(m)]
    if m.accuracies:
        found.append(_accuracy_table(m.accuracies))
    if m.pairs:
        title = "Models compared on the same pictures"
        found.append(comparisons_table("accuracy-pairs", title, [p.comparison for p in m.pairs], what="First answers"))
    return tuple(found)


def _top_table(m: PredictionsMeasures) -> Table:
    rows = []
    for k, name in enumerate(m.shown):
        for rank in range(TOP):
            cells: list[object] = []
            for t in m.top:
                known = rank < len(t.names[k])
                cells += [t.names[k][rank], t.probabilities[k][rank]] if known else [None, None]
            rows.append((name, rank + 1, *cells))
    columns = [
        column
        for k, t in enumerate(m.top, start=1)
        for column in (Column(f"answer_{k}", t.model), Column(f"probability_{k}", t.model, "share"))
    ]
    return Table(
        key="top-five",
        title="Top five of the chosen pictures",
        columns=(Column("image", "image"), Column("rank", "rank"), *columns),
        rows=rows,
        note="Each model with its own preprocessing; probability: softmax over all that the model can answer (of a "
        "model without classifier: its linear probe)"
        + ("; of a multi-label head each label's own sigmoid." if any(t.multi_label for t in m.top) else "."),
    )


def _accuracy_table(accuracies: Sequence[Accuracy]) -> Table:
    rows = [
        (a.model, a.top1.value, a.top1.low, a.top1.high, a.top5.value, a.top5.low, a.top5.high, a.reliability.ece, a.top1.n)
        for a in accuracies
    ]  # fmt: skip
    return Table(
        key="accuracy",
        title="How often the answer means the label",
        columns=(
            Column("model", "model"),
            Column("accuracy", "top-1", "share"),
            Column("low", "low", "share"),
            Column("high", "high", "share"),
            Column("top5", "top-5", "share"),
            Column("top5_low", "top-5 low", "share"),
            Column("top5_high", "top-5 high", "share"),
            Column("ece", "ECE", "share"),
            Column("n", "n"),
        ),
        rows=rows,
        note="low, high: 95 % Wilson intervals. ECE: expected calibration error, 15 bins. An answer means the label "
        "where names agree, by the shipped map from WordNet's "
        "relations (CIFAR-10, STL-10), or by --meanings.",
    )


def figures(m: PredictionsMeasures) -> tuple[AnyFigure, ...]:
    captions = [
        "; ".join(
            (f"{t.model}: " if len(m.top) > 1 else "") + f"{t.names[k][0]} {percent(t.probabilities[k][0], 0)}"
            for t in m.top
        )
        for k in range(len(m.shown))
    ]
    predicted = Gallery(
        key="predicted",
        title="What the models say",
        caption="The chosen pictures with the most probable class of each model.",
        images=m.thumbnails,
        captions=captions,
    )
    return (predicted, _reliability_diagram(m.accuracies)) if m.accuracies else (predicted,)


def _reliability_diagram(accuracies: Sequence[Accuracy]) -> Lines:
    curves = [
        Series(
            name=f"{a.model} (ECE {percent(a.reliability.ece)})",
            x=a.reliability.confidence.tolist(),
            y=a.reliability.accuracy.tolist(),
            low=a.reliability.low.tolist(),
            high=a.reliability.high.tolist(),
        )
        for a in accuracies
    ]
    return Lines(
        key="reliability",
        title="Is it as right as it is sure?",
        caption="Accuracy by confidence, 15 bins; bands: 95 % Wilson intervals. Below the diagonal a model is surer than it is right.",
        x_label="confidence",
        y_label="accuracy",
        x_unit="share",
        unit="share",
        series=(*curves, Series(name="calibrated", x=(0.0, 1.0), y=(0.0, 1.0))),
    )


def findings(m: PredictionsMeasures) -> tuple[Finding, ...]:
    said = [finding for a in m.accuracies for finding in _accuracy_said(a)]
    said += [_pair_said(p.comparison) for p in m.pairs]
    said += [Finding(_unjudged_said(u, m.images)) for u in m.unjudged]
    for a in m.accuracies:
        if a.unmeant:
            text = f"No output of {a.model} means {', '.join(a.unmeant)}: pictures of these classes are left out of its accuracy."
            said.append(Finding(text, kind="caution"))
    return tuple(said)


def _accuracy_said(a: Accuracy) -> tuple[Finding, Finding]:
    first = f"The first answer of {a.model} means the label for {a.top1.text('pictures')}."
    rest = f"One of the first five answers of {a.model} does for {percent(a.top5.value)}; its calibration error is {percent(a.reliability.ece)}."
    return (
        Finding(first, metrics=(key_of(a.model, "accuracy"),), shows=("accuracy",)),
        Finding(rest, metrics=(key_of(a.model, "top-5"), key_of(a.model, "ece")), shows=("accuracy", "reliability")),
    )


def _pair_said(c: Comparison) -> Finding:
    """'A is ahead of B by +3.0 points, 95 % interval +1.0 to +5.0.'"""
    ahead = c.ahead
    sure = ", which may be chance" if c.undecided else ""
    text = f"{ahead.a} is ahead of {ahead.b} by {ahead.text()} (paired){sure}."
    return Finding(text, metrics=(_pair_key(c),), shows=("accuracy-pairs",), kind=c.kind)


def _unjudged_said(u: Unjudged, images: str) -> str:
    if u.multi_label:
        return (
            f"{u.model} has a multi-label head: neither accuracy nor calibration of one answer is told; it is judged by whether its "
            "strongest label stays the same."
        )
    return f"{u.model} has classes of its own that mean none of {images}'s: it is judged by whether its answer stays the same."


def predictions(m: PredictionsMeasures, images: ImageSet) -> Mapping[str, Any]:
    """Columns of the first judged model's answers, a row a test image that it can name; none without one. images: the test images."""
    if not m.accuracies or images.labels is None:
        return {}
    a = m.accuracies[0]
    at = np.flatnonzero(a.asked)
    return {
        "id": [images.ids[i] for i in at],
        "split": ["test"] * len(at),
        "label": [images.classes[images.labels[i]] for i in at],
        "model": [a.model] * len(at),
        "prediction": list(a.answers),
        "confidence": a.confidence,
        "right": a.right,
    }
