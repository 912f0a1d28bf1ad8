"""What is left when patches go, models beside each other, and the faithfulness of maps: tables and metrics."""

from __future__ import annotations

from visus.formats import percent
from visus.result import Column, Metric, Table, key_of
from visus.studies.vit.masking.measure import ComparedModels, CurveMeasures, MaskingMeasures

MEANS = {"drop": "tokens dropped", "blank": "pixels blanked"}


def curve_key(c: CurveMeasures, what: str) -> str:
    """Of a curve's metric: model/tokens-dropped/random/accuracy/area."""
    return key_of(c.model, MEANS[c.how], c.pattern, c.counted, what)


def pair_key(c: ComparedModels) -> str:
    """Of the difference of two models' areas."""
    return key_of("pixels-blanked", c.pattern, c.counted, c.a, "minus", c.b)


def map_key(model: str, name: str, what: str) -> str:
    """Of a map's faithfulness: model/rollout/above-random."""
    return key_of(model, name, what)


def metrics(m: MaskingMeasures) -> tuple[Metric, ...]:
    # The first curve of the leader goes ahead, as it stands in the result's headline.
    curves = sorted(m.curves, key=lambda c: c not in m.main_curves()[:1])
    found = [metric for c in curves for metric in _curve_metrics(c)]
    found += [
        Metric(
            pair_key(c), c.area.difference, c.area.low, c.area.high, c.area.n, "points", "higher",
            label=f"{c.a} − {c.b}, area, {c.pattern}",
        )
        for c in m.pairs
    ]  # fmt: skip
    for model in m.faithful:
        for f in model.maps:
            down, up = f.deletion, f.insertion
            found += [
                Metric(
                    map_key(model.model, f.map, "deletion"), down.value, down.low, down.high, m.n, "share", "lower",
                    label=f"deletion area by {f.map}, {model.model}",
                ),
                Metric(
                    map_key(model.model, f.map, "insertion"), up.value, up.low, up.high, m.n, "share", "higher",
                    label=f"insertion area by {f.map}, {model.model}",
                ),
            ]  # fmt: skip
            if f.above_random is not None:
                a, label = f.above_random, f"{f.map} above a random order, {model.model}"
                key = map_key(model.model, f.map, "above-random")
                found.append(Metric(key, a.difference, a.low, a.high, a.n, "points", "higher", label=label))
    return tuple(found)


def _curve_metrics(c: CurveMeasures) -> tuple[Metric, ...]:
    where = f"{c.counted} of {c.model}, {MEANS[c.how]}, {c.pattern}"
    hits, least = c.hits, percent(c.ratios[-1], 0)
    area = Metric(
        curve_key(c, "area"), c.area.value, c.area.low, c.area.high, c.n, "share", "higher", label=f"area, {where}"
    )
    ends = [
        Metric(
            curve_key(c, what), hits.values[k], hits.low[k], hits.high[k], c.n, "share", "higher", label=f"{words}, {where}"
        )
        for what, k, words in (("whole", 0, "all patches"), ("least", -1, f"{least} of the patches"))
    ]  # fmt: skip
    half = Metric(curve_key(c, "halved"), c.halved, n=c.n, unit="share", better="lower", label=f"halved at, {where}")
    return (area, *ends, half)


def tables(m: MaskingMeasures) -> tuple[Table, ...]:
    found = [_masking(m)]
    if m.pairs:
        found.append(_pairs(m))
    if m.faithful:
        found.append(_faithfulness(m))
    return tuple(found)


def _masking(m: MaskingMeasures) -> Table:
    least = percent(m.curves[0].ratios[-1], 0) if m.curves else ""
    rows = [
        (
            c.model, MEANS[c.how], c.pattern, c.counted, c.hits.values[0], c.hits.values[-1], c.area.value, c.area.low, c.area.high,
            c.halved, c.agreement.values[-1], c.n,
        )
        for c in m.curves
    ]  # fmt: skip
    return Table(
        key="masking",
        title="What is left when patches go",
        columns=(
            Column("model", "model"),
            Column("masked_by", "masked by"),
            Column("pattern", "pattern"),
            Column("counted", "counted"),
            Column("whole", "whole", "share"),
            Column("least", f"at {least}", "share"),
            Column("area", "area", "share"),
            Column("low", "low", "share"),
            Column("high", "high", "share"),
            Column("halved", "halved at share kept", "share"),
            Column("agreement_least", f"agreement at {least}", "share"),
            Column("n", "n"),
        ),
        rows=rows,
        note="area: under the curve over the share kept, as a mean in %; low, high: 95 % bootstrap interval over "
        "images, 10,000 resamples. halved at: share kept "
        "at which the count falls to half of that of whole pictures (a dash: never). most-attended: the most attended patches go first; of "
        f"blanked pixels by the attention of {m.leader}, for every model.",
    )


def _pairs(m: MaskingMeasures) -> Table:
    rows = [
        (c.a, c.b, c.pattern, c.counted, c.area.difference, c.area.low, c.area.high, c.p, c.p_holm, c.area.n)
        for c in m.pairs
    ]
    return Table(
        key="masking-pairs",
        title="Models compared on the same blanked pixels",
        columns=(
            Column("a", "A"),
            Column("b", "B"),
            Column("pattern", "pattern"),
            Column("counted", "counted"),
            Column("difference", "area A − B", "points", digits=2),
            Column("low", "low", "points", digits=2),
            Column("high", "high", "points", digits=2),
            Column("p_mcnemar", "McNemar p", digits=2),
            Column("p_holm", "Holm p", digits=2),
            Column("n", "n"),
        ),
        rows=rows,
        note="Area under the curve over the share kept; low, high: 95 % paired bootstrap interval over images, 10,000 resamples. "
        f"McNemar: exact, with {percent(m.pairs[0].at, 0)} kept; Holm: corrected for the number of rows.",
    )


def _faithfulness(m: MaskingMeasures) -> Table:
    rows = []
    for model in m.faithful:
        for f in model.maps:
            above = f.above_random
            beyond = (None,) * 3 if above is None else (above.difference, above.low, above.high)
            areas = (v for a in (f.deletion, f.insertion) for v in (a.value, a.low, a.high))
            rows.append((model.model, f.map, *areas, f.insertion.value - f.deletion.value, *beyond))
    return Table(
        key="faithfulness",
        title="Which map tells what the answer rests on",
        columns=(
            Column("model", "model"),
            Column("map", "map"),
            Column("deletion", "deletion", "share"),
            Column("deletion_low", "deletion low", "share"),
            Column("deletion_high", "deletion high", "share"),
            Column("insertion", "insertion", "share"),
            Column("insertion_low", "insertion low", "share"),
            Column("insertion_high", "insertion high", "share"),
            Column("gap", "insertion − deletion", "points"),
            Column("above_random", "above random", "points"),
            Column("above_low", "above random, low", "points"),
            Column("above_high", "above random, high", "points"),
        ),
        rows=rows,
        note="Mean probability of the answer to the whole picture, area under the curve (Petsiuk et al. 2018, on "
        "tokens). Deletion: the patches that the map ranks first go "
        "first (lower is better). Insertion: they stay longest (higher is better). above random: insertion less deletion, "
        "less that of a random order (none, as one order serves both ways), paired. low, high: 95 % bootstrap intervals over images.",
    )
