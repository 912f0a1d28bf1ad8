"""Curves by model, areas of maps, and one image as its patches go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from visus.figures import AnyFigure, Gallery, Group, Intervals, Lines, Series
from visus.formats import percent
from visus.studies.vit.masking.measure import Area, Band, MaskingMeasures, ModelFaithfulness
from visus.studies.vit.masking.tables import MEANS
from visus.studies.vit.overlays import resized

SIDE = 128
HIDDEN = {"mean": "painted with the mean colour", "black": "painted black", "blur": "blurred"}
LABELS = {"accuracy": "accuracy", "agreement": "same answer as for the whole picture"}


def figures(m: MaskingMeasures) -> tuple[AnyFigure, ...]:
    faithful = (_faithfulness(f, k) for k, f in enumerate(m.faithful))
    return (*_lines(m), *faithful, _strip(m))


def curve_figures(m: MaskingMeasures) -> Mapping[tuple[str, str, str], str]:
    """Keys of the figures of curves, by (model, 'drop' or 'blank', 'accuracy' or 'agreement')."""
    found: dict[tuple[str, str, str], str] = {}
    for model, how in dict.fromkeys((c.model, c.how) for c in m.curves):
        counted = {c.counted for c in m.curves if (c.model, c.how) == (model, how)}
        for what in LABELS:
            if what == "agreement" or what in counted:
                found[model, how, what] = f"masking_{what}_{len(found)}"
    return found


def _lines(m: MaskingMeasures) -> list[Lines]:
    found = []
    for (model, how, what), key in curve_figures(m).items():
        own = [c for c in m.curves if (c.model, c.how) == (model, how)]
        drawn = [(c, c.agreement if what == "agreement" else c.hits) for c in own if what in ("agreement", c.counted)]
        found.append(
            Lines(
                key=key,
                title=f"What {model} loses with its patches, {MEANS[how]}: {what}",
                caption="Against the share of patches kept. "
                + (
                    "Tokens dropped: they leave the sequence with their positions. "
                    if how == "drop"
                    else f"Pixels blanked: the same for every model, by the patches and the attention of {m.leader}. "
                )
                + "Bands: 95 % Wilson intervals.",
                x_label="share of patches kept",
                y_label=LABELS[what],
                unit="share",
                series=tuple(_series(c.pattern, c.ratios, band) for c, band in drawn),
            )
        )
    return found


def _series(name: str, ratios: tuple[float, ...], band: Band) -> Series:
    return Series(name=name, x=ratios, y=band.values, low=band.low, high=band.high)


def _faithfulness(f: ModelFaithfulness, k: int) -> Intervals:
    def group(way: str, areas: list[Area]) -> Group:
        return Group(
            name=way,
            labels=[one.map for one in f.maps],
            values=[a.value for a in areas],
            low=[a.low for a in areas],
            high=[a.high for a in areas],
        )

    return Intervals(
        key=f"faithfulness_{k}",
        title=f"Do the maps of {f.model} show what it uses?",
        caption="Area under the curve of the probability of the answer, over the share of patches kept. A faithful map "
        "has a low deletion area and a high insertion "
        "area; a random order is the floor. 95 % bootstrap intervals.",
        x_label="map",
        y_label="area of probability",
        unit="share",
        groups=(group("deletion", [o.deletion for o in f.maps]), group("insertion", [o.insertion for o in f.maps])),
    )


def _strip(m: MaskingMeasures) -> Gallery:
    return Gallery(
        key="masked",
        title="What is left to see",
        caption=f"{m.strip.name} with 100, 70 and 40 % of its patches, by pattern; what is hidden is {HIDDEN[m.fill]}.",
        images=np.stack([resized(image, SIDE) for image in m.strip.images.values()]).astype(np.uint8),
        captions=[f"{percent(ratio, 0)} kept" for _, ratio in m.strip.images],
        groups=[pattern for pattern, _ in m.strip.images],
    )
