"""Where the features of the images are, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from visus.features import Features
from visus.figures import AnyFigure
from visus.images import ImageSet, Quarantined
from visus.models import Backbone
from visus.result import Column, Finding, Metric, Table
from visus.studies.common.quarantine import quarantine_table

KEY, QUESTION = "features", "Where are the features?"


@dataclass(frozen=True)
class LayerFolder:
    """One layer's features. shape: of the layer's output; width: of the vectors kept."""

    layer: str
    shape: tuple[int, ...]
    width: int
    folder: str


@dataclass(frozen=True)
class FeaturesMeasures:
    """images_per_second: None where the features were in the store already."""

    model: str
    n: int
    layers: tuple[LayerFolder, ...]
    images_per_second: float | None
    quarantine: tuple[Quarantined, ...]


def measure(imageset: ImageSet, backbone: Backbone, features: Features) -> FeaturesMeasures:
    """Read off where every layer's features lie and how wide they are."""
    by_name = {tap.name: tap for tap in backbone.taps}
    layers = tuple(
        LayerFolder(name, tuple(by_name[name].shape), next(features.blocks(name, 1)).shape[1], str(folder))
        for name, folder in features.folders.items()
    )
    rate = None if features.cost.get("cached") else float(features.cost["images_per_second"])
    aside = (*imageset.quarantine, *features.quarantine)
    return FeaturesMeasures(backbone.spec, len(features), layers, rate, aside)


def metrics(m: FeaturesMeasures) -> tuple[Metric, ...]:
    return (Metric("images", m.n, split="all", label="images"),)


def tables(m: FeaturesMeasures) -> tuple[Table, ...]:
    found = Table(
        key="features",
        title="Where the features are",
        columns=(
            Column("layer", "layer"),
            Column("shape", "output shape"),
            Column("images", "images"),
            Column("features", "features"),
            Column("folder", "folder"),
        ),
        rows=[(one.layer, "×".join(map(str, one.shape)), m.n, one.width, one.folder) for one in m.layers],
        note="Folders of Parquet files: index, id (unique among all sets), name, label, pixels (hash of the decoded image), vector.",
    )
    return (found, quarantine_table(m.quarantine)) if m.quarantine else (found,)


def figures(m: FeaturesMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: FeaturesMeasures) -> tuple[Finding, ...]:
    rate = m.images_per_second
    speed = "they were in the store already" if rate is None else f"at {rate:,.0f} images/s"
    text = f"{m.n:,} images went through {m.model} once, {len(m.layers)} layers tapped; {speed}."
    return (Finding(text, ("images",), ("features",)),)
