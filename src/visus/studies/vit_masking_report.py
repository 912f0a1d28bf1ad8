"""The masking part of a ViT study as figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.result import Figure, Table
from visus.studies.common import percent
from visus.studies.parts import Part
from visus.studies.vit_masking import FAITHFUL, Curve, Masked, hidden, painted

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.studies.vit_subject import Viewer

STRIP = (1.0, 0.7, 0.4)
SIDE = 128


def part(
    masked: Masked, viewers: Sequence[Viewer], imageset: ImageSet, rows: np.ndarray, *, fill: str, seed: int
) -> Part:
    """Curves by model, the table of areas and halving points, the faithfulness of maps, and a strip of masked pictures."""
    strip, arrays = _strip(viewers, imageset, rows, fill=fill, seed=seed, patterns=[c.pattern for c in masked.curves])
    figures = [*_lines(masked), *_faithful_figures(masked, seed), *strip]
    tables = {"masking": _table(masked, seed)}
    if masked.faithful:
        tables["faithfulness"] = _faithful_table(masked, seed)
    return Part(_findings(masked, seed), tables, tuple(figures), arrays, ())


def _series(curve: Curve, hits: np.ndarray, name: str) -> dict[str, Any]:
    from visus.measures import wilson

    bounds = [wilson(int(row.sum()), len(row)) for row in hits]
    return {
        "name": name,
        "x": list(curve.ratios),
        "y": [100 * float(row.mean()) for row in hits],
        "low": [100 * low for low, _ in bounds],
        "high": [100 * high for _, high in bounds],
    }


def _lines(masked: Masked) -> list[Figure]:
    found: list[Figure] = []
    for model, how in dict.fromkeys((c.model, c.how) for c in masked.curves):
        own = [c for c in masked.curves if (c.model, c.how) == (model, how)]
        for what in ("accuracy", "agreement"):
            drawn = [c for c in own if what == "agreement" or c.right is not None]
            series = [_series(c, c.agreement if what == "agreement" else c.hits, c.pattern) for c in drawn]
            if series:
                label = "accuracy, %" if what == "accuracy" else "same answer as for the whole picture, %"
                found.append(
                    Figure(
                        f"masking_{what}_{len(found)}",
                        "lines",
                        f"What {model} loses with its patches, {_means(drawn[0])}: {what}",
                        "Against the share of patches kept. Tokens dropped: they leave the sequence with their positions. Pixels blanked: they "
                        "are painted over. Bands: 95 % Wilson intervals.",
                        {
                            "x_label": "share of patches kept",
                            "y_label": label,
                            "x_log": False,
                            "y_log": False,
                            "series": series,
                        },
                    )
                )
    return found


def _means(curve: Curve) -> str:
    return "tokens dropped" if curve.how == "drop" else "pixels blanked"


def _area(curve: Curve, values: np.ndarray, seed: int) -> tuple[float, float, float]:
    from visus.measures.masking import area_intervals

    return area_intervals(np.array(curve.ratios), values.astype(np.float64), seed=seed)


def _table(masked: Masked, seed: int) -> Table:
    from visus.measures.masking import halving

    rows = []
    for c in masked.curves:
        area, low, high = _area(c, c.hits, seed) if len(c.ratios) > 1 else (float(c.hits.mean()),) * 3
        means = c.hits.mean(axis=1)
        half = halving(np.array(c.ratios), means)
        rows.append(
            (
                c.model, _means(c), c.pattern, "agreement" if c.right is None else "accuracy", 100 * float(means[0]),
                100 * float(means[-1]), 100 * area, 100 * low, 100 * high, None if half is None else 100 * half,
                100 * float(c.agreement[-1].mean()), c.hits.shape[1],
            )
        )  # fmt: skip
    least = percent(masked.curves[0].ratios[-1], 0) if masked.curves else ""
    return Table(
        ("model", "masked by", "pattern", "counted", "whole, %", f"at {least}, %", "area, %", "low", "high", "halved at, % kept",
         f"agreement at {least}, %", "n"),
        tuple(rows),
        title="What is left when patches go",
        digits=1,
        note="area: under the curve over the share kept, as a mean in %; low, high: 95 % bootstrap interval over "
        "images, 10,000 resamples. halved at: share kept "
        "at which the count falls to half of that of whole pictures (a dash: never). most-attended: the most attended patches go first.",
    )  # fmt: skip


def _faithful_table(masked: Masked, seed: int) -> Table:
    rows = []
    for model in dict.fromkeys(m for m, _, _ in masked.faithful):
        for name in FAITHFUL:
            cells: list[float] = []
            for way in ("deletion", "insertion"):
                curve = masked.faithful[model, name, way]
                cells += [100 * v for v in _area(curve, curve.chosen, seed)]
            rows.append((model, name, *cells, cells[3] - cells[0]))
    return Table(
        ("model", "map", "deletion, %", "low", "high", "insertion, %", "low ", "high ", "insertion − deletion"),
        tuple(rows),
        title="Which map tells what the answer rests on",
        digits=1,
        note="Mean probability of the answer to the whole picture, area under the curve (Petsiuk et al. 2018, on "
        "tokens). Deletion: the patches that the map ranks first go "
        "first (lower is better). Insertion: they stay longest (higher is better). low, high: 95 % bootstrap interval over images.",
    )


def _faithful_figures(masked: Masked, seed: int) -> list[Figure]:
    found = []
    for k, model in enumerate(dict.fromkeys(m for m, _, _ in masked.faithful)):
        groups = []
        for way in ("deletion", "insertion"):
            areas = [_area(c, c.chosen, seed) for c in (masked.faithful[model, name, way] for name in FAITHFUL)]
            groups.append(
                {
                    "name": way,
                    "labels": list(FAITHFUL),
                    "values": [100 * a for a, _, _ in areas],
                    "low": [100 * low for _, low, _ in areas],
                    "high": [100 * high for _, _, high in areas],
                }
            )
        found.append(
            Figure(
                f"faithfulness_{k}",
                "intervals",
                f"Do the maps of {model} show what it uses?",
                "Area under the curve of the probability of the answer, over the share of patches kept. A faithful map "
                "has a low deletion area and a high insertion "
                "area; a random order is the floor. 95 % bootstrap intervals.",
                {"x_label": "map", "y_label": "area, % probability", "groups": groups},
            )
        )
    return found


def _strip(
    viewers: Sequence[Viewer], imageset: ImageSet, rows: np.ndarray, *, fill: str, seed: int, patterns: Sequence[str]
) -> tuple[list[Figure], dict[str, np.ndarray]]:
    """One picture at 100, 70 and 40 %, by every pattern, as a vision transformer is shown it."""
    from PIL import Image

    from visus.measures.masking import patch_order
    from visus.studies.vit_masking import importance
    from visus.studies.vit_subject import prepared

    viewer = next((v for v in viewers if v.anatomy), None)
    if viewer is None or viewer.anatomy is None:
        return [], {}
    shown = prepared(viewer, imageset, rows[:1])
    scores = importance(viewer, shown, "cpu")["attention"]
    paint = painted(shown.raw, fill, viewer)
    pictures, captions, groups = [], [], []
    for pattern in dict.fromkeys(p for p in patterns if "," not in p):
        order = patch_order(pattern, viewer.anatomy.grid, 1, seed=seed, scores=scores)
        for ratio in STRIP:
            raw = hidden(shown.raw, paint, order, viewer.anatomy.grid, ratio)[0]
            pictures.append(np.asarray(Image.fromarray(raw).resize((SIDE, SIDE), Image.Resampling.NEAREST)))
            captions.append(f"{percent(ratio, 0)} kept")
            groups.append(pattern)
    figure = Figure(
        "masked",
        "gallery",
        "What is left to see",
        f"{imageset.ids[int(rows[0])]} with 100, 70 and 40 % of its patches, by pattern; what is hidden is shown as {fill}.",
        {"images": "masked_pictures", "captions": captions, "groups": groups},
    )
    return [figure], {"masked_pictures": np.stack(pictures).astype(np.uint8)}


def _findings(masked: Masked, seed: int) -> tuple[str, ...]:
    from visus.measures.masking import halving

    said = []
    for model in dict.fromkeys(c.model for c in masked.curves):
        own = [c for c in masked.curves if c.model == model]
        curve = next((c for c in own if c.pattern == "random"), own[0])
        means = curve.hits.mean(axis=1)
        half = halving(np.array(curve.ratios), means)
        what = "gives the same answer for" if curve.right is None else "is right on"
        when = (
            f"falls to half of that with {percent(half, 0)} of them"
            if half is not None
            else f"still has {percent(float(means[-1]))} with {percent(curve.ratios[-1], 0)} of them, more than half"
        )
        said.append(
            f"{model} {what} {percent(float(means[0]))} of {curve.hits.shape[1]:,} pictures with all patches; with patches gone at random "
            f"({_means(curve)}) it {when}."
        )
        dropped = {c.pattern: c for c in own if c.how == "drop"}
        if "most-attended" in dropped and "least-attended" in dropped:
            most, least = (_area(dropped[p], dropped[p].hits, seed)[0] for p in ("most-attended", "least-attended"))
            said.append(
                f"Without the patches that {model} attends to most, the mean over the curve is {percent(most)}; without "
                f"those it attends to least, {percent(least)}: "
                + (
                    "attention points at what it needs."
                    if least > most + 0.02
                    else "attention does not tell what it needs."
                )
            )
    for model in dict.fromkeys(m for m, _, _ in masked.faithful):
        gaps = {}
        for name in FAITHFUL:
            down, up = (masked.faithful[model, name, way] for way in ("deletion", "insertion"))
            gaps[name] = _area(up, up.chosen, seed)[0] - _area(down, down.chosen, seed)[0]
        best = max(gaps, key=lambda name: gaps[name])
        said.append(
            f"The map most faithful to {model} is {best}: insertion less deletion area {100 * gaps[best]:.1f} points "
            f"(attention {100 * gaps['attention']:.1f}, "
            f"random {100 * gaps['random']:.1f})."
        )
    return tuple(said)
