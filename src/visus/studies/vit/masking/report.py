"""The masking part of a ViT study as figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part
from visus.studies.common.shared import percent
from visus.studies.vit.masking.measure import FAITHFUL, Curve, Masked, hidden, painted

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.measures.compare import PairedDifference
    from visus.studies.vit.subject import EvaluatedModel

STRIP = (1.0, 0.7, 0.4)
SIDE = 128
HALF = 0.5  # the share kept at which two models are tested against each other
HIDDEN = {"mean": "painted with the mean colour", "black": "painted black", "blur": "blurred"}
AT_RANDOM = {
    "random": "at random",
    "centre": "from the border inwards",
    "periphery": "from the centre outwards",
    "block": "in a block",
}


def part(
    masked: Masked, viewers: Sequence[EvaluatedModel], imageset: ImageSet, rows: np.ndarray, *, fill: str, seed: int
) -> Part:
    """Curves by model, the table of areas and halving points, the faithfulness of maps, and a strip of masked pictures."""
    strip, arrays = _strip(viewers, imageset, rows, fill=fill, seed=seed, patterns=[c.pattern for c in masked.curves])
    figures = [*_lines(masked), *_faithful_figures(masked, seed), *strip]
    tables = {"masking": _table(masked, seed)}
    side_by_side = _side_by_side(masked, seed)
    if side_by_side:
        tables["masking pairs"] = _pairs_table(side_by_side)
    if masked.faithful:
        tables["faithfulness"] = _faithful_table(masked, seed)
    return Part(_findings(masked, side_by_side, seed), tables, tuple(figures), arrays, masked.warnings)


@dataclass(frozen=True)
class SideBySide:
    """Two models on the same blanked pixels: the difference of their areas over the pictures that both can be counted on, paired; McNemar's
    test at one share kept."""

    a: str
    b: str
    pattern: str
    counted: str
    area: PairedDifference
    at: float
    p: float


def _side_by_side(masked: Masked, seed: int) -> list[SideBySide]:
    from visus.measures.compare import mcnemar, paired_bootstrap
    from visus.measures.masking import area_each

    found = []
    blanked = [c for c in masked.curves if c.how == "blank"]
    for pattern in dict.fromkeys(c.pattern for c in blanked):
        for a, b in combinations([c for c in blanked if c.pattern == pattern], 2):
            if a.right is not None and b.right is not None and (a.asked & b.asked).any():
                both = a.asked & b.asked
                counted, hits_a, hits_b = "accuracy", a.right[:, both[a.asked]], b.right[:, both[b.asked]]
            else:
                counted, hits_a, hits_b = "agreement", a.agreement, b.agreement
            area = paired_bootstrap(area_each(a.ratios, hits_a), area_each(b.ratios, hits_b), seed=seed)
            k = min(range(len(a.ratios)), key=lambda i: abs(a.ratios[i] - HALF))
            p = mcnemar(hits_a[k], hits_b[k]).p_value
            found.append(SideBySide(a.model, b.model, pattern, counted, area, a.ratios[k], p))
    return found


def _pairs_table(found: Sequence[SideBySide]) -> Table:
    from visus.measures.compare import holm

    corrected = holm(np.array([s.p for s in found]))
    return Table(
        ("A", "B", "pattern", "counted", "area A − B, points", "low", "high", "McNemar p", "Holm p", "n"),
        tuple(
            (
                s.a, s.b, s.pattern, s.counted, 100 * s.area.difference, 100 * s.area.low, 100 * s.area.high, s.p, float(h), s.area.n,
            )
            for s, h in zip(found, corrected, strict=True)
        ),
        title="Models compared on the same blanked pixels",
        digits=2,
        note="Area under the curve over the share kept; low, high: 95 % paired bootstrap interval over images, 10,000 resamples. "
        f"McNemar: exact, with {percent(found[0].at, 0)} kept; Holm: corrected for the number of rows.",
    )  # fmt: skip


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
                        "Against the share of patches kept. "
                        + (
                            "Tokens dropped: they leave the sequence with their positions. "
                            if how == "drop"
                            else f"Pixels blanked: the same for every model, by the patches and the attention of {masked.leader}. "
                        )
                        + "Bands: 95 % Wilson intervals.",
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
        "at which the count falls to half of that of whole pictures (a dash: never). most-attended: the most attended patches go first; of "
        f"blanked pixels by the attention of {masked.leader}, for every model.",
    )  # fmt: skip


def _faithful_table(masked: Masked, seed: int) -> Table:
    rows = []
    for model in dict.fromkeys(m for m, _, _ in masked.faithful):
        for name in FAITHFUL:
            cells: list[float] = []
            for way in ("deletion", "insertion"):
                curve = masked.faithful[model, name, way]
                cells += [100 * v for v in _area(curve, curve.chosen, seed)]
            above = None if name == "random" else _above_random(masked, model, name, seed)
            beyond = (None,) * 3 if above is None else tuple(100 * v for v in (above.difference, above.low, above.high))
            rows.append((model, name, *cells, cells[3] - cells[0], *beyond))
    return Table(
        ("model", "map", "deletion, %", "low", "high", "insertion, %", "low ", "high ", "insertion − deletion",
         "above random", "low  ", "high  "),
        tuple(rows),
        title="Which map tells what the answer rests on",
        digits=1,
        note="Mean probability of the answer to the whole picture, area under the curve (Petsiuk et al. 2018, on "
        "tokens). Deletion: the patches that the map ranks first go "
        "first (lower is better). Insertion: they stay longest (higher is better). above random: insertion less deletion, "
        "less that of a random order (none, as one order serves both ways), paired. low, high: 95 % bootstrap intervals over images.",
    )  # fmt: skip


def _gap(masked: Masked, model: str, name: str) -> np.ndarray:
    """float64 [n]: a map's insertion area less its deletion area, picture by picture."""
    from visus.measures.masking import area_each

    down, up = (masked.faithful[model, name, way] for way in ("deletion", "insertion"))
    gap: np.ndarray = area_each(up.ratios, up.chosen) - area_each(down.ratios, down.chosen)
    return gap


def _above_random(masked: Masked, model: str, name: str, seed: int) -> PairedDifference:
    """By how much a map's insertion area less its deletion area exceeds that of a random order, over the same pictures."""
    from visus.measures.compare import paired_bootstrap

    return paired_bootstrap(_gap(masked, model, name), _gap(masked, model, "random"), seed=seed)


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
    viewers: Sequence[EvaluatedModel],
    imageset: ImageSet,
    rows: np.ndarray,
    *,
    fill: str,
    seed: int,
    patterns: Sequence[str],
) -> tuple[list[Figure], dict[str, np.ndarray]]:
    """One picture at 100, 70 and 40 %, by every pattern, as a vision transformer is shown it."""
    from visus.measures.masking import patch_order
    from visus.studies.vit.masking.measure import importance
    from visus.studies.vit.overlays import resized
    from visus.studies.vit.subject import prepared

    viewer = next((v for v in viewers if v.layout), None)
    if viewer is None or viewer.layout is None:
        return [], {}
    shown = prepared(viewer, imageset, rows[:1])
    scores = importance(viewer, shown, "cpu")["attention"]
    paint = painted(shown.raw, fill, viewer)
    pictures, captions, groups = [], [], []
    for pattern in dict.fromkeys(p for p in patterns if "," not in p):
        order = patch_order(pattern, viewer.layout.grid, 1, seed=seed, scores=scores)
        for ratio in STRIP:
            raw = hidden(shown.raw, paint, order, viewer.layout.grid, ratio)[0]
            pictures.append(resized(raw, SIDE))
            captions.append(f"{percent(ratio, 0)} kept")
            groups.append(pattern)
    figure = Figure(
        "masked",
        "gallery",
        "What is left to see",
        f"{imageset.ids[int(rows[0])]} with 100, 70 and 40 % of its patches, by pattern; what is hidden is {HIDDEN[fill]}.",
        {"images": "masked_pictures", "captions": captions, "groups": groups},
    )
    return [figure], {"masked_pictures": np.stack(pictures).astype(np.uint8)}


def _findings(masked: Masked, side_by_side: Sequence[SideBySide], seed: int) -> tuple[str, ...]:
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
            f"{model} {what} {percent(float(means[0]))} of {curve.hits.shape[1]:,} pictures with all patches; with patches gone "
            f"{AT_RANDOM.get(curve.pattern, f'by {curve.pattern}')} ({_means(curve)}) it {when}."
        )
        said += _attention_said(model, {c.pattern: c for c in own if c.how == "drop"}, seed)
    said += [_side_said(s) for s in side_by_side if s.pattern == side_by_side[0].pattern]
    said += [_faithful_said(masked, model, seed) for model in dict.fromkeys(m for m, _, _ in masked.faithful)]
    return tuple(said)


def _attention_said(model: str, dropped: dict[str, Curve], seed: int) -> list[str]:
    from visus.measures.compare import paired_bootstrap
    from visus.measures.masking import area_each

    if not {"most-attended", "least-attended"} <= set(dropped):
        return []
    least, most = (dropped[p] for p in ("least-attended", "most-attended"))
    apart = paired_bootstrap(area_each(least.ratios, least.hits), area_each(most.ratios, most.hits), seed=seed)
    verdict = "the difference may be chance"
    if apart.clear:
        verdict = "attention points at what it needs" if apart.difference > 0 else "it needs what it attends to least"
    return [
        f"Without the patches that {model} attends to most, the mean over the curve is {percent(_area(most, most.hits, seed)[0])}; without "
        f"those it attends to least, {percent(_area(least, least.hits, seed)[0])}; apart by {_points(apart)}: {verdict}."
    ]


def _side_said(s: SideBySide) -> str:
    sign = 1 if s.area.difference >= 0 else -1
    more, less = (s.a, s.b) if sign > 0 else (s.b, s.a)
    what = "is right" if s.counted == "accuracy" else "keeps its answer"
    sure = "" if s.area.clear else ", which may be chance"
    return (
        f"With the same pixels blanked {AT_RANDOM.get(s.pattern, f'by {s.pattern}')}, {more} {what} more often than {less}, by "
        f"{_points(s.area, sign)} over the shares kept{sure}."
    )


def _faithful_said(masked: Masked, model: str, seed: int) -> str:
    """The map that every second picture ranks first, and what the other pictures, which had no say in it, make of that."""
    from visus.measures.compare import paired_bootstrap

    gaps = {name: _gap(masked, model, name) for name in FAITHFUL}
    choosing = np.arange(len(gaps["random"])) % 2 == 0
    if choosing.all():
        return f"Which map is most faithful to {model} cannot be told from one image."
    names = sorted((n for n in FAITHFUL if n != "random"), key=lambda n: -gaps[n][choosing].mean())
    best, following = names[:2]
    chance, ahead = (
        paired_bootstrap(gaps[best][~choosing], gaps[n][~choosing], seed=seed) for n in ("random", following)
    )
    sure = "" if chance.clear else ", undecided"
    beside = "" if ahead.clear else ", undecided"
    return (
        f"Half of the images rank {best} first among the maps of {model}. On the other half its insertion less deletion area is "
        f"{_points(chance)} above a random order{sure}, and {_points(ahead)} above {following}, the next{beside}."
    )


def _points(found: PairedDifference, sign: int = 1) -> str:
    """'3.0 points (95 % interval 1.0 to 5.0, paired)'."""
    low, high = sorted((100 * sign * found.low, 100 * sign * found.high))
    return f"{100 * sign * found.difference:.1f} points (95 % interval {low:.1f} to {high:.1f}, paired)"
