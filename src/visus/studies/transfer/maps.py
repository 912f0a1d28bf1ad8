"""What lies together: t-SNE and UMAP maps of the test images by layer, with how far each may be believed (P5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visus import threads
from visus.figures import AnyFigure, Map, key_of
from visus.images.thumbnails import thumbnails
from visus.measures.maps import FEWEST, layer_maps
from visus.progress import task
from visus.result import Finding, Metric, Table
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.remembered import remembered
from visus.studies.transfer.evaluation import LayerScore, LayerVectors

KEY, QUESTION = "maps", "Which images lie together?"
THUMBNAIL, MOST = 48, 2000  # pixels of a thumbnail's side; points of a map
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}

__all__ = ["FEWEST", "KEY", "QUESTION", "MapsMeasures", "figures", "findings", "measure", "metrics", "tables"]


@dataclass(frozen=True)
class LayerMap:
    """One map of one layer. points: float32 [n, 2]; pca: the dimensions that it was made from; trust: how far to believe it, or {}."""

    model: str
    tap: str
    label: str
    method: str
    points: np.ndarray
    pca: int | float | str
    notes: tuple[str, ...]
    trust: Mapping[str, float]


@dataclass(frozen=True)
class MapsMeasures:
    """maps: by method, layer by layer. labels: int64 [n]; ids: n names; thumbnails: uint8 [n, 48, 48, 3], of the images shown."""

    maps: tuple[LayerMap, ...]
    labels: np.ndarray
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    thumbnails: np.ndarray
    seed: int
    several: bool


def measure(images: LabelledImages, scores: Sequence[LayerScore], features: LayerVectors, *, seed: int) -> MapsMeasures:
    """Maps of every layer over the same test images, a seeded sample where there are many. Needs FEWEST of them."""
    test = images.splits.test
    shown = test if len(test) <= MOST else np.sort(np.random.default_rng(seed).choice(test, MOST, replace=False))
    positions = images.valid_indices[shown]
    found: dict[str, list[LayerMap]] = {}
    with task("drawing maps", len(scores)) as progress:
        for s in scores:
            drawn = remembered(layer_maps, features[s.model, s.tap][shown], seed=seed, threads=threads.count())
            for method, one in drawn.items():
                trust = {}
                if one.trust is not None:
                    trust = {"trustworthiness": one.trust.trustworthiness, "neighbours_kept": one.trust.neighbours_kept}
                layer = LayerMap(s.model, s.tap, s.label, method, one.z, one.settings["pca"], tuple(one.notes), trust)
                found.setdefault(method, []).append(layer)
            progress.advance()
    return MapsMeasures(
        # One method after the other, so that the layers stand side by side.
        maps=tuple(one for layers in found.values() for one in layers),
        labels=images.y[shown],
        ids=tuple(images.imageset.ids[i] for i in positions),
        classes=images.classes,
        thumbnails=thumbnails(images.imageset, positions, THUMBNAIL),
        seed=seed,
        several=len({s.model for s in scores}) > 1,
    )


def metrics(m: MapsMeasures) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            key_of(one.model, one.label.split(" ")[0], one.method, name.replace("_", "-")),
            value,
            n=len(m.ids),
            better="higher",
        )
        for one in m.maps
        for name, value in one.trust.items()
    )


def tables(m: MapsMeasures) -> tuple[Table, ...]:
    return ()


def figures(m: MapsMeasures) -> tuple[AnyFigure, ...]:
    found = []
    for one in m.maps:
        where = f"{one.model} · {one.label}" if m.several else one.label
        caption = (
            f"{NAMES[one.method]} of {len(m.ids):,} test images, after PCA to {one.pca} dimensions, seed {m.seed}."
        )
        found.append(
            Map(
                key=key_of(one.method, one.model, one.tap),
                title=f"{NAMES[one.method]}: {where}",
                caption=" ".join([caption, *(f"{note[0].upper()}{note[1:]}." for note in one.notes)]),
                points=one.points,
                labels=m.labels,
                classes=m.classes,
                ids=m.ids,
                sprite=m.thumbnails,
                trust=one.trust,
            )
        )
    return tuple(found)


def findings(m: MapsMeasures) -> tuple[Finding, ...]:
    return ()
