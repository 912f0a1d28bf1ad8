"""What a classifier says about images: the top classes of each with probabilities (P8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure, Gallery
from visus.formats import percent
from visus.images import ImageSet, Quarantined
from visus.images.thumbnails import thumbnails
from visus.models import Backbone
from visus.models.classify import Classified, top_classes
from visus.models.labels import short
from visus.result import Column, Finding, Metric, Table
from visus.studies.common.quarantine import quarantine_table

KEY, QUESTION = "predictions", "What does the model say?"
THUMBNAIL, SHOWN = 96, 60  # pixels; images in the gallery, the table has all of them
TOLD, FEW = 10, 3  # images that a finding each is made of, and how many where there are more
PRESENT = 0.5  # from which probability on a label that stands alone is there
NOTES = {
    "classes": "Probability: softmax over all classes of the model (of one logit: its sigmoid).",
    "labels": "Probability: sigmoid of each label by itself; a picture may have several or none, and they do not add up to 1.",
}


@dataclass(frozen=True)
class Prediction:
    """The top classes of one image: names, positions in the model's output, probabilities, the most probable first."""

    id: str
    labels: tuple[str, ...]
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class PredictionsMeasures:
    """head: 'classes' (one is right) or 'labels' (each by itself). thumbnails: uint8 [k, 96, 96, 3], of the first images. mean: probability
    of the first class over all images."""

    head: str
    predictions: tuple[Prediction, ...]
    thumbnails: np.ndarray
    mean: float
    quarantine: tuple[Quarantined, ...]


def measure(
    imageset: ImageSet, backbone: Backbone, said: Classified, quarantine: Sequence[Quarantined], *, top: int
) -> PredictionsMeasures:
    """The top classes of every image that could be read."""
    labels = backbone.labels or ()
    found, probabilities = top_classes(said.probabilities, top)
    predictions = tuple(
        Prediction(imageset.ids[i], tuple(labels[c] for c in cs), tuple(map(int, cs)), tuple(map(float, ps)))
        for i, cs, ps in zip(said.rows, found, probabilities, strict=True)
    )
    mean = sum(p.probabilities[0] for p in predictions) / len(predictions)
    shown = thumbnails(imageset, said.rows[:SHOWN], THUMBNAIL)
    return PredictionsMeasures(backbone.head, predictions, shown, mean, tuple(quarantine))


def metrics(m: PredictionsMeasures) -> tuple[Metric, ...]:
    first = "class" if m.head == "classes" else "label"
    label = f"mean probability of the first {first}"
    return (Metric("confidence/mean", m.mean, n=len(m.predictions), unit="share", split="all", label=label),)


def tables(m: PredictionsMeasures) -> tuple[Table, ...]:
    found = Table(
        key="predictions",
        title=f"Top {len(m.predictions[0].labels)} {m.head} of each picture",
        columns=(
            Column("image", "image"),
            Column("rank", "rank"),
            Column("label", "label"),
            Column("probability", "probability", digits=3),
            Column("index", "index"),
        ),
        rows=[
            (p.id, rank, *row)
            for p in m.predictions
            for rank, row in enumerate(zip(p.labels, p.probabilities, p.indices, strict=True), 1)
        ],
        note=NOTES[m.head] + " Index: position in the model's output.",
    )
    return (found, quarantine_table(m.quarantine)) if m.quarantine else (found,)


def figures(m: PredictionsMeasures) -> tuple[AnyFigure, ...]:
    more = f" The first {SHOWN} of {len(m.predictions):,}." if len(m.predictions) > SHOWN else ""
    return (
        Gallery(
            key="predictions",
            title="What the model says",
            caption="Each picture with the most probable class." + more,
            images=m.thumbnails,
            captions=[f"{p.id}: {short(p.labels[0])} {percent(p.probabilities[0])}" for p in m.predictions[:SHOWN]],
        ),
    )


def findings(m: PredictionsMeasures) -> tuple[Finding, ...]:
    said = [_present(p) if m.head == "labels" else _first(p) for p in m.predictions[:TOLD]]
    if len(m.predictions) > TOLD:
        said = [*_summary(m), *said[:FEW]]
    found = [Finding(text, shows=("predictions",)) for text in said]
    if m.quarantine:
        verb = "picture was" if len(m.quarantine) == 1 else "pictures were"
        found.append(Finding(f"{len(m.quarantine)} {verb} set aside; the table says why.", shows=("quarantine",)))
    return tuple(found)


def _first(p: Prediction) -> str:
    return f"{p.id}: {short(p.labels[0])} ({percent(p.probabilities[0])})."


def _present(p: Prediction) -> str:
    """'a.png: cat (90 %), indoors (70 %).' of a multi-label head: what is as likely there as not, of the labels asked for."""
    pairs = list(zip(p.labels, p.probabilities, strict=True))
    there = [f"{label} ({percent(value)})" for label, value in pairs if value >= PRESENT]
    none = f"no label reaches {percent(PRESENT)}; nearest {pairs[0][0]} ({percent(pairs[0][1])})"
    return f"{p.id}: {', '.join(there) or none}."


def _summary(m: PredictionsMeasures) -> list[str]:
    counted = Counter(short(p.labels[0]) for p in m.predictions).most_common(5)
    common = ", ".join(f"{label} ({n})" for label, n in counted)
    first = "class" if m.head == "classes" else "label"
    return [
        f"{len(m.predictions):,} pictures; named most often: {common}.",
        f"The mean probability of the first {first} is {percent(m.mean)}.",
    ]
