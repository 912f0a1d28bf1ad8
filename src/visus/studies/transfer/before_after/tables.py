"""The tables of features before and after training."""

from __future__ import annotations

from typing import Any

from visus.result import Column, Table, key_of
from visus.studies.transfer.before_after.measure import BeforeAfterMeasures, FeatureChange

SHOWN = 12  # mistakes that fell, and as many that rose, for each comparison


def tables(m: BeforeAfterMeasures) -> tuple[Table, ...]:
    """Every table, in reading order; that of the mistakes only where a mistake became rarer or more frequent."""
    found = []
    for c in m.changes:
        several = len(m.changes) > 1
        found += [_layers(c, several), _moves(c, several)]
        if any(change.change for one in c.mistakes for change in one.changes):
            found.append(_mistakes(c, several))
    return tuple(found)


def named(key: str, title: str, c: FeatureChange, several: bool) -> dict[str, Any]:
    """Key and title, with the model in them where there are several."""
    return {"key": key_of(key, c.model), "title": f"{title} · {c.model}"} if several else {"key": key, "title": title}


def _layers(c: FeatureChange, several: bool) -> Table:
    rows = []
    for state in c.states:
        for tap, label, _ in c.taps:
            r = c.layers[state, tap]
            probe, knn = (r.probe.value, r.probe.low, r.probe.high), (r.knn.value, r.knn.low, r.knn.high)
            rows.append((state, label, c.n, *probe, *knn, r.knn_k, r.silhouette, r.scatter))
    return Table(
        **named("before-and-after", "Every layer before and after training", c, several),
        columns=(
            Column("network", "network"),
            Column("layer", "layer"),
            Column("n", "n"),
            Column("probe", "probe", "share"),
            Column("probe_low", "probe low", "share"),
            Column("probe_high", "probe high", "share"),
            Column("knn", "kNN", "share"),
            Column("knn_low", "kNN low", "share"),
            Column("knn_high", "kNN high", "share"),
            Column("k", "k"),
            Column("silhouette", "silhouette"),
            Column("scatter", "between / within scatter"),
        ),
        rows=rows,
        note="The same test images for all. low, high: 95 % Wilson interval of the accuracy; λ of the probe and k were chosen on validation "
        "images. Silhouette: cosine, from −1 to 1; scatter: trace ratio of between-class to within-class scatter.",
    )


def _moves(c: FeatureChange, several: bool) -> Table:
    rows = []
    for m in c.moves:
        p, s = m.probe, m.silhouette
        probe = (p.difference, p.low, p.high, p.only_a, p.only_b, p.p, p.p_holm)
        rows.append((m.after, m.label, m.cka, *probe, s.difference, s.low, s.high))
    return Table(
        **named("before-and-after-difference", f"Every network against {c.before}, layer by layer", c, several),
        columns=(
            Column("network", "network"),
            Column("layer", "layer"),
            Column("cka", "CKA"),
            Column("probe", "probe", "points"),
            Column("low", "low", "points"),
            Column("high", "high", "points"),
            Column("only_after", "it alone right"),
            Column("only_before", f"{c.before} alone right"),
            Column("p_mcnemar", "McNemar p"),
            Column("p_holm", "Holm p"),
            Column("silhouette", "silhouette change"),
            Column("silhouette_low", "silhouette low"),
            Column("silhouette_high", "silhouette high"),
        ),
        rows=rows,
        note=f"Over the same {c.n:,} test images. CKA: linear, unbiased, 1 when the features are those of {c.before} up to rotation and "
        "scale. Differences of probe accuracy and of mean silhouette, with 95 % paired bootstrap intervals over images, 10,000 resamples "
        "(the silhouette of an image is resampled, not the images that it is compared with). McNemar: exact; Holm: corrected for the number of rows.",
    )


def _mistakes(c: FeatureChange, several: bool) -> Table:
    rows: list[tuple[Any, ...]] = []
    for m in c.mistakes:
        fell = [x for x in m.changes if x.change < 0][:SHOWN]
        # The list runs from what fell the most to what rose the most; equal rises again by p.
        rose = sorted((x for x in m.changes if x.change > 0), key=lambda x: (-x.change, x.p))[:SHOWN]
        for x in (*fell, *rose):
            names = (m.judge, f"{m.before} → {m.after}", c.classes[x.true], c.classes[x.predicted])
            rows.append((*names, x.before, x.after, x.change, x.images, x.p, x.holm))
    return Table(
        **named("before-and-after-mistakes", "Which classes stopped being confused, and which began to be", c, several),
        columns=(
            Column("judge", "judged by"),
            Column("networks", "networks"),
            Column("class", "class"),
            Column("taken_for", "taken for"),
            Column("before", "before"),
            Column("after", "after"),
            Column("change", "change"),
            Column("images", "images of the class"),
            Column("p_mcnemar", "McNemar p"),
            Column("p_holm", "Holm p"),
        ),
        rows=rows,
        note=f"Test images of the class that were taken for another, those that fell the most first, then those that rose; at most {SHOWN} of "
        "each. McNemar: exact, over the images of the class; Holm: corrected for all mistakes of the comparison, shown or not.",
    )
