"""What is lost with the patches, model beside model, and which map is faithful."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from visus.formats import percent
from visus.measures.compare import PairedDifference
from visus.result import Finding
from visus.studies.vit.masking.figures import curve_figures
from visus.studies.vit.masking.measure import (
    AttendedPatches,
    ComparedModels,
    CurveMeasures,
    MaskingMeasures,
    ModelFaithfulness,
)
from visus.studies.vit.masking.tables import MEANS, curve_key, map_key, pair_key

AT_RANDOM = {
    "random": "at random",
    "centre": "from the border inwards",
    "periphery": "from the centre outwards",
    "block": "in a block",
}


def findings(m: MaskingMeasures) -> tuple[Finding, ...]:
    attended = {a.model: a for a in m.attended}
    said: list[Finding] = []
    for c in m.main_curves():
        said += _curve_said(c, curve_figures(m)[c.model, c.how, c.counted])
        if c.model in attended:
            said += _attended_said(attended[c.model])
    said += [_pair_said(c) for c in m.pairs if c.pattern == m.pairs[0].pattern]
    for k, f in enumerate(m.faithful):
        said += _choice_said(f, f"faithfulness_{k}")
    cautions = (*(_flat_said(m, *flat) for flat in m.flat), *m.refused)
    return (*said, *(Finding(text, kind="caution") for text in cautions))


def _curve_said(c: CurveMeasures, figure: str) -> Iterator[Finding]:
    what = "gives the same answer for" if c.counted == "agreement" else "is right on"
    yield Finding(
        f"{c.model} {what} {percent(c.hits.values[0])} of {c.n:,} pictures with all patches.",
        metrics=(curve_key(c, "whole"),),
        shows=("masking", figure),
    )
    gone = f"With patches gone {AT_RANDOM.get(c.pattern, f'by {c.pattern}')} ({MEANS[c.how]}) {c.model}"
    if c.halved is not None:
        text, metric = f"{gone} falls to half of that with {percent(c.halved, 0)} of them.", "halved"
    else:
        least = f"{percent(c.hits.values[-1])} with {percent(c.ratios[-1], 0)} of them"
        text, metric = f"{gone} still has {least}, more than half.", "least"
    yield Finding(text, metrics=(curve_key(c, metric),), shows=("masking", figure))


def _attended_said(a: AttendedPatches) -> Iterator[Finding]:
    shows = ("masking",)
    yield Finding(
        f"Without the patches that {a.model} attends to most, the mean over the curve is {percent(a.most)}; without "
        f"those it attends to least, {percent(a.least)}.",
        shows=shows,
    )
    verdict = "it may be chance"
    if a.apart.clear:
        verdict = "attention points at what it needs" if a.apart.difference > 0 else "it needs what it attends to least"
    yield Finding(f"For {a.model} the two are apart by {paired_points(a.apart)}: {verdict}.", shows=shows, kind=_kind(a.apart))  # fmt: skip


def _pair_said(c: ComparedModels) -> Finding:
    sign = 1 if c.area.difference >= 0 else -1
    more, less = (c.a, c.b) if sign > 0 else (c.b, c.a)
    what = "is right" if c.counted == "accuracy" else "keeps its answer"
    sure = "" if c.area.clear else ", which may be chance"
    text = (
        f"With the same pixels blanked {AT_RANDOM.get(c.pattern, f'by {c.pattern}')}, {more} {what} more often than {less}, by "
        f"{paired_points(c.area, sign)} over the shares kept{sure}."
    )
    return Finding(text, metrics=(pair_key(c),), shows=("masking-pairs",), kind=_kind(c.area))


def _choice_said(f: ModelFaithfulness, figure: str) -> Iterator[Finding]:
    """The map that every second image ranks first, and what the other images, which had no say in it, make of that."""
    shows, c = ("faithfulness", figure), f.choice
    if c is None:
        yield Finding(
            f"Which map is most faithful to {f.model} cannot be told from one image.", shows=shows, kind="undecided"
        )
        return
    yield Finding(
        f"Half of the images rank {c.best} first among the maps of {f.model}.",
        metrics=(map_key(f.model, c.best, "insertion"), map_key(f.model, c.best, "deletion")),
        shows=shows,
    )
    area = f"On the other half the insertion less deletion area of {c.best} ({f.model}) is"
    for other, found in (("a random order", c.chance), (f"{c.following}, the next", c.ahead)):
        sure = "" if found.clear else ", undecided"
        yield Finding(f"{area} {paired_points(found)} above {other}{sure}.", shows=shows, kind=_kind(found))


def _flat_said(m: MaskingMeasures, model: str, name: str, flat: int) -> str:
    """Of a map that is the same for every patch of some image, so that it puts the patches in no order."""
    ordered = name == "attention" and any("attended" in p for p in m.patterns)
    asked = " and the patterns ordered by it" if ordered else ""
    return (
        f"The map by {name} of {model} is the same for every patch of {flat:,} of {m.n:,} pictures: there its curves{asked} "
        "follow the order of the grid, and mean nothing."
    )


def paired_points(found: PairedDifference, sign: int = 1) -> str:
    """'3.0 points (95 % interval 1.0 to 5.0, paired)'."""
    low, high = sorted((100 * sign * found.low, 100 * sign * found.high))
    return f"{100 * sign * found.difference:.1f} points (95 % interval {low:.1f} to {high:.1f}, paired)"


def _kind(found: PairedDifference) -> Literal["result", "undecided"]:
    return "result" if found.clear else "undecided"
