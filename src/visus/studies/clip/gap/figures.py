"""The gap in figures: both modalities in one map, and what moving them together and apart does."""

from __future__ import annotations

from visus.figures import Lines, Map, Mark, Series
from visus.result import AnyFigure
from visus.studies.clip.gap.measure import GapMeasures, ModalityMap

NAMES = {"tsne": "t-SNE", "umap": "UMAP"}
MARKS = (Mark("as trained", 0.0), Mark("closed", 1.0))
MOVED = "by how far images and texts are moved together (1: the centroids meet) or apart (below 0)"
CLOSED = "share of the gap closed"


def figures(m: GapMeasures) -> tuple[AnyFigure, ...]:
    """A map for each method, then score and loss of the sweep."""
    return (*(_map(m, one) for one in m.maps.maps), _score(m), _loss(m))


def _map(m: GapMeasures, one: ModalityMap) -> Map:
    return Map(
        key=f"modality_{one.method}",
        title=f"Images and texts in one map, {NAMES[one.method]}",
        caption=f"{m.maps.images:,} images and their {m.maps.texts:,} texts, unit vectors, seed {m.seed}. A map of two modalities shows "
        "that they are apart, not how far: read the distance in the table.",
        points=one.points,
        labels=m.maps.labels,
        classes=("images", "texts"),
        ids=m.maps.ids,
        sprite=m.maps.sprite,
        trust=one.trust,
    )


def _score(m: GapMeasures) -> Lines:
    sweep, scores = m.sweep, [s.score for s in m.sweep.steps]
    return Lines(
        key="gap_shift",
        title="Does the gap matter?",
        caption=f"{sweep.score[0].upper()}{sweep.score[1:]} with 95 % Wilson intervals, {MOVED}.",
        x_label=CLOSED,
        y_label=sweep.score,
        unit="share",
        series=(
            Series(
                name=m.space.name,
                x=[s.shift for s in sweep.steps],
                y=[s.value for s in scores],
                low=[s.low for s in scores],
                high=[s.high for s in scores],
            ),
        ),
        marks=MARKS,
    )


def _loss(m: GapMeasures) -> Lines:
    steps = m.sweep.steps
    return Lines(
        key="gap_loss",
        title="And the loss?",
        caption=f"Contrastive loss of the pairs, {MOVED}.",
        x_label=CLOSED,
        y_label="contrastive loss",
        unit="nats",
        series=(Series(name=m.space.name, x=[s.shift for s in steps], y=[s.loss for s in steps]),),
        marks=MARKS,
    )
