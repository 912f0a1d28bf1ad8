"""From the answers at every share kept to curves with intervals, areas, halving points, and which map is faithful: each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from visus.images import ImageSet
from visus.measures.compare import PairedDifference, holm, mcnemar, paired_bootstrap
from visus.measures.intervals import wilson
from visus.measures.masking import area_each, bootstrap_mean, halving
from visus.studies.vit.evaluated import EvaluatedModel
from visus.studies.vit.masking.curves import FAITHFUL, Curve, Curves, How, hidden, masked_curves
from visus.studies.vit.options import MaskingOptions

HALF = 0.5  # the share kept at which two models are tested against each other
STRIP = (1.0, 0.7, 0.4)


@dataclass(frozen=True)
class Band:
    """Proportions at every keep ratio, with their 95 % Wilson intervals."""

    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Area:
    """Under a curve over the share kept, a mean, with its 95 % bootstrap interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveMeasures:
    """One model, its patches dropped or blanked by a pattern. counted: 'accuracy' or 'agreement', over n images; hits: of what is counted;
    agreement: with the answer to the whole image. halved: share kept at which the count falls to half of that of whole images."""

    model: str
    how: How
    pattern: str
    counted: str
    ratios: tuple[float, ...]
    hits: Band
    agreement: Band
    area: Area
    halved: float | None
    n: int


@dataclass(frozen=True)
class ComparedModels:
    """Two models on the same blanked pixels: the difference of their areas over the images that both can be counted on; McNemar's p at
    one share kept, and Holm's over all these comparisons."""

    a: str
    b: str
    pattern: str
    counted: str
    area: PairedDifference
    at: float
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class AttendedPatches:
    """Areas of a model without the patches that it attends to most, and without those it attends to least; apart: least minus most."""

    model: str
    most: float
    least: float
    apart: PairedDifference


@dataclass(frozen=True)
class MapFaithfulness:
    """Areas of the probability of the answer to the whole image, by deletion and by insertion in the order of a map. above_random: insertion
    less deletion, less that of a random order; None of the random order."""

    map: str
    deletion: Area
    insertion: Area
    above_random: PairedDifference | None


@dataclass(frozen=True)
class MapChoice:
    """The map that every second image ranks first, and on the others, which had no say in it, by how much its insertion less deletion area
    lies above a random order (`chance`), and above the map ranked next (`ahead`)."""

    best: str
    following: str
    chance: PairedDifference
    ahead: PairedDifference


@dataclass(frozen=True)
class ModelFaithfulness:
    """The maps of one model. choice: None where one image cannot choose."""

    model: str
    maps: tuple[MapFaithfulness, ...]
    choice: MapChoice | None


@dataclass(frozen=True)
class Strip:
    """One image with fewer and fewer patches: uint8 [h, w, 3] by (pattern, share kept)."""

    name: str
    images: Mapping[tuple[str, float], np.ndarray]


@dataclass(frozen=True)
class MaskingMeasures:
    """leader: the first vision transformer, whose patches are blanked for every model and whose attention orders them. fill: what hides
    pixels. flat: (model, map, on how many of n images it is the same for every patch). refused: why no tokens are dropped."""

    n: int
    leader: str
    fill: str
    patterns: tuple[str, ...]
    curves: tuple[CurveMeasures, ...]
    pairs: tuple[ComparedModels, ...]
    attended: tuple[AttendedPatches, ...]
    faithful: tuple[ModelFaithfulness, ...]
    strip: Strip
    flat: tuple[tuple[str, str, int], ...] = ()
    refused: tuple[str, ...] = ()

    def main_curves(self) -> tuple[CurveMeasures, ...]:
        """The curve of each model that stands for it: at random where that was asked for, tokens before pixels."""
        found = []
        for model in dict.fromkeys(c.model for c in self.curves):
            own = [c for c in self.curves if c.model == model]
            found.append(next((c for c in own if c.pattern == "random"), own[0]))
        return tuple(found)


def measure(
    models: Sequence[EvaluatedModel], test: ImageSet, options: MaskingOptions, *, device: str, seed: int
) -> MaskingMeasures:
    """Mask some of the test images, and measure what is left."""
    images = test.limit(options.images, seed=seed)
    curves = masked_curves(models, images, options, device=device, seed=seed)
    return masking_measures(curves, images.ids[0], options, seed)


def masking_measures(curves: Curves, first: str, options: MaskingOptions, seed: int) -> MaskingMeasures:
    """first: name of the first image."""
    # An image enters every interval, comparison and choice by its own area, which is taken once.
    own = [area_each(c.ratios, c.hits) for c in curves.patterns]
    areas = dict(zip(map(_place, curves.patterns), own, strict=True))
    return MaskingMeasures(
        n=curves.n,
        leader=curves.blanking.model,
        fill=options.fill,
        patterns=options.patterns,
        curves=tuple(_measured(c, a, seed) for c, a in zip(curves.patterns, own, strict=True)),
        pairs=_compared([c for c in curves.patterns if c.how == "blank"], areas, seed),
        attended=_attended(curves.patterns, areas, seed),
        faithful=_faithful(curves.faithful, seed),
        strip=_strip(curves, first),
        flat=curves.flat,
        refused=curves.refused,
    )


def _place(c: Curve) -> tuple[str, str, str]:
    return c.model, c.how, c.pattern


def _measured(c: Curve, own: np.ndarray, seed: int) -> CurveMeasures:
    hits = _band(c.hits)
    return CurveMeasures(
        model=c.model,
        how=c.how,
        pattern=c.pattern,
        counted=c.counted,
        ratios=c.ratios,
        hits=hits,
        agreement=hits if c.right is None else _band(c.agreement),
        area=Area(*bootstrap_mean(own, seed=seed)),
        halved=halving(np.array(c.ratios), np.array(hits.values)),
        n=c.hits.shape[1],
    )


def _band(hits: np.ndarray) -> Band:
    low, high = wilson(hits.sum(axis=1), np.full(len(hits), hits.shape[1]))
    return Band(tuple(map(float, hits.mean(axis=1))), tuple(map(float, low)), tuple(map(float, high)))


def _compared(
    blanked: Sequence[Curve], areas: Mapping[tuple[str, str, str], np.ndarray], seed: int
) -> tuple[ComparedModels, ...]:
    """Every two models by every pattern, on the images that both can be counted on; by agreement where one cannot be right."""
    agreements: dict[tuple[str, str, str], np.ndarray] = {}

    def agreement(c: Curve) -> np.ndarray:
        if c.right is None:
            return areas[_place(c)]
        if _place(c) not in agreements:
            agreements[_place(c)] = area_each(c.ratios, c.agreement)
        return agreements[_place(c)]

    found = []
    for pattern in dict.fromkeys(c.pattern for c in blanked):
        for a, b in combinations([c for c in blanked if c.pattern == pattern], 2):
            k = min(range(len(a.ratios)), key=lambda i: abs(a.ratios[i] - HALF))
            both = a.asked & b.asked
            if a.right is not None and b.right is not None and both.any():
                counted, in_a, in_b = "accuracy", both[a.asked], both[b.asked]
                area_a, area_b = areas[_place(a)][in_a], areas[_place(b)][in_b]
                hits_a, hits_b = a.right[k, in_a], b.right[k, in_b]
            else:
                counted, area_a, area_b = "agreement", agreement(a), agreement(b)
                hits_a, hits_b = a.agreement[k], b.agreement[k]
            area = paired_bootstrap(area_a, area_b, seed=seed)
            p = mcnemar(hits_a, hits_b).p_value
            found.append(ComparedModels(a.model, b.model, pattern, counted, area, a.ratios[k], p))
    if not found:
        return ()
    corrected = holm(np.array([c.p for c in found]))
    return tuple(replace(c, p_holm=float(p)) for c, p in zip(found, corrected, strict=True))


def _attended(
    curves: Sequence[Curve], areas: Mapping[tuple[str, str, str], np.ndarray], seed: int
) -> tuple[AttendedPatches, ...]:
    found = []
    for model in dict.fromkeys(c.model for c in curves):
        most, least = (areas.get((model, "drop", f"{which}-attended")) for which in ("most", "least"))
        if most is not None and least is not None:
            apart = paired_bootstrap(least, most, seed=seed)
            found.append(AttendedPatches(model, float(most.mean()), float(least.mean()), apart))
    return tuple(found)


def _faithful(curves: Mapping[tuple[str, str, str], Curve], seed: int) -> tuple[ModelFaithfulness, ...]:
    found = []
    for model in dict.fromkeys(model for model, _, _ in curves):
        # A random order serves both ways, so that one curve may stand twice here.
        each: dict[int, tuple[np.ndarray, Area]] = {}

        def areas(name: str, way: str, model: str = model, each: dict[int, tuple[np.ndarray, Area]] = each) -> tuple[np.ndarray, Area]:  # fmt: skip
            curve = curves[model, name, way]
            if id(curve) not in each:
                own = area_each(curve.ratios, curve.chosen)
                each[id(curve)] = own, Area(*bootstrap_mean(own, seed=seed))
            return each[id(curve)]

        both = {name: (areas(name, "deletion"), areas(name, "insertion")) for name in FAITHFUL}
        gaps = {name: up[0] - down[0] for name, (down, up) in both.items()}
        maps = tuple(
            MapFaithfulness(
                name,
                down[1],
                up[1],
                None if name == "random" else paired_bootstrap(gaps[name], gaps["random"], seed=seed),
            )
            for name, (down, up) in both.items()
        )
        found.append(ModelFaithfulness(model, maps, choose_map(gaps, seed)))
    return tuple(found)


def choose_map(gaps: Mapping[str, np.ndarray], seed: int) -> MapChoice | None:
    """The map that every second image ranks first by its gap (insertion less deletion area, float64 [n]), judged on the other images."""
    choosing = np.arange(len(gaps["random"])) % 2 == 0
    if choosing.all():
        return None
    names = sorted((n for n in gaps if n != "random"), key=lambda n: -gaps[n][choosing].mean())
    best, following = names[:2]
    chance, ahead = (
        paired_bootstrap(gaps[best][~choosing], gaps[n][~choosing], seed=seed) for n in ("random", following)
    )
    return MapChoice(best, following, chance, ahead)


def _strip(curves: Curves, name: str) -> Strip:
    """The first image by every pattern, as the first vision transformer sees it."""
    seen = curves.blanking
    images = {
        (pattern, ratio): hidden(seen.raw[:1], seen.paint[:1], order[:1], seen.grid, ratio)[0]
        for pattern, order in seen.orders.items()
        for ratio in STRIP
    }
    return Strip(name, images)
