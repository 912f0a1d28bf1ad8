"""Maps laid on the images, and heads as heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visus.figures import AnyFigure, Gallery, Heatmap
from visus.studies.vit.attention.measure import AttentionMeasures, HeadsMeasures, ImageMaps
from visus.studies.vit.overlays import UNIFORM, overlaid, resized, stacked

SIDE, SMALL = 128, 96
SCALES = {True: "times uniform", False: "own scale"}


def figures(m: AttentionMeasures) -> tuple[AnyFigure, ...]:
    found: list[AnyFigure] = [_looked(m)] if m.looks else []
    place = {h.model: k for k, h in enumerate(m.heads)}
    found += [_every_head(look, place[look.model], m.shown[0]) for look in m.looks if look.heads is not None]
    return (*found, *(figure for k, heads in enumerate(m.heads) for figure in _heatmaps(heads, k)))


def _looked(m: AttentionMeasures) -> Gallery:
    """On each image, once on each scale, the maps of all models side by side."""
    images: list[np.ndarray] = []
    captions: list[str] = []
    groups: list[str] = []
    for i, name in enumerate(m.shown):
        for absolute, scale in SCALES.items():
            for look in m.looks:
                whose = f"{look.model}: " if len(m.looks) + len(m.refused) > 1 else ""
                tiles = {f"{whose}picture": resized(look.raw[i], SIDE)}
                for title, maps in look.maps.items():
                    laid = overlaid(look.raw[i : i + 1], maps[i : i + 1], SIDE, absolute=absolute)
                    tiles[title] = laid[0]
                images += tiles.values()
                captions += tiles
                groups += [f"{name}: {scale}"] * len(tiles)
    return Gallery(
        key="looked",
        title=f"Where {', '.join(look.model for look in m.looks)} look{'' if len(m.looks) > 1 else 's'}",
        caption=f"{' '.join(dict.fromkeys(_what(look) for look in m.looks))} Each map twice: 'times uniform' colours a patch by its share, from "
        f"nothing to {UNIFORM:g} times that of a flat map, the same for all "
        "pictures; 'own scale' from the map's least to its largest value, which makes even a flat map look sharp.",
        images=stacked(images),
        captions=captions,
        groups=groups,
    )


def _what(look: ImageMaps) -> str:
    if look.heads is None:
        return "Grad-CAM (Selvaraju et al. 2017): of the predicted class, at the last layer that has positions."
    who = "the mean over the patches' rows" if look.mean_pooled else "the row of the CLS token"
    return (
        f"Last layer: {who}, averaged over the heads. Rollout: Abnar and Zuidema 2020. Gradients: gradient-weighted attention, Chefer et al. "
        "2021, of the predicted class."
    )


def _every_head(look: ImageMaps, k: int, name: str) -> Gallery:
    """A row for each layer: its heads, and their mean."""
    images, captions, groups = [], [], []
    for layer, heads in enumerate(() if look.heads is None else look.heads):
        for title, one in [*((f"head {h + 1}", m) for h, m in enumerate(heads)), ("mean", heads.mean(axis=0))]:
            images.append(overlaid(look.raw[:1], one[None], SMALL, absolute=True)[0])
            captions.append(title)
            groups.append(f"layer {layer + 1}")
    return Gallery(
        key=f"heads_{k}",
        title=f"All layers and heads of {look.model}",
        caption=f"{'Mean of the patch rows' if look.mean_pooled else 'The CLS row'} on {name}, in times uniform (0 to {UNIFORM:g}).",
        images=np.stack(images),
        captions=captions,
        groups=groups,
    )


def _heatmaps(h: HeadsMeasures, k: int) -> tuple[Heatmap, Heatmap]:
    flat = f" A flat map has {h.flat_entropy:.2f} nats."
    return (
        _heatmap(f"entropy_{k}", "Entropy of the attention", h, h.entropy, "nats", flat),
        _heatmap(f"distance_{k}", "Mean attention distance", h, h.distance, "pixels", ""),
    )


def _heatmap(
    key: str, title: str, h: HeadsMeasures, values: Sequence[Sequence[float | None]], unit: str, more: str
) -> Heatmap:
    return Heatmap(
        key=key,
        title=f"{title} of every head of {h.model}",
        caption=f"Mean over {h.n:,} pictures, in {unit}.{more}",
        values=values,
        rows=[f"layer {i + 1}" for i in range(len(values))],
        columns=[f"head {i + 1}" for i in range(len(values[0]))],
        unit=unit,
    )
