"""The tables of features before and after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visus.studies.common.schema1 import Table

if TYPE_CHECKING:
    from visus.studies.transfer.before_after.subject import Course

SHOWN = 12  # mistakes that fell, and as many that rose, for each comparison


def tables(c: Course) -> dict[str, Table]:
    """Every table, in reading order; that of the mistakes only where a mistake became rarer or more frequent."""
    found = {"before and after": _layers(c), "before and after, difference": _moves(c)}
    if any(change.change for m in c.mistakes for change in m.changes):
        found["before and after, mistakes"] = _mistakes(c)
    return found


def _layers(c: Course) -> Table:
    from visus.measures.intervals import wilson

    n = len(c.test_y)
    rows = []
    for state in c.states:
        for tap in c.taps:
            s = c.scores[state, tap.name]
            probe, knn = wilson(round(s.probe.top1 * n), n), wilson(round(s.knn_top1 * n), n)
            rows.append(
                (
                    state,
                    c.labels[tap.name],
                    n,
                    float(s.probe.top1),
                    *probe,
                    s.knn_top1,
                    *knn,
                    s.knn_k,
                    s.silhouette,
                    s.scatter,
                )
            )
    return Table(
        (
            "network",
            "layer",
            "n",
            "probe",
            "probe low",
            "probe high",
            "kNN",
            "kNN low",
            "kNN high",
            "k",
            "silhouette",
            "between / within scatter",
        ),
        tuple(rows),
        title="Every layer before and after training",
        note="The same test images for all. low, high: 95 % Wilson interval of the accuracy; λ of the probe and k were chosen on validation "
        "images. Silhouette: cosine, from −1 to 1; scatter: trace ratio of between-class to within-class scatter.",
    )


def _moves(c: Course) -> Table:
    rows = tuple(
        (
            m.after,
            m.label,
            m.cka,
            100 * m.probe.difference,
            100 * m.probe.low,
            100 * m.probe.high,
            m.probe.only_a,
            m.probe.only_b,
            m.probe.p,
            m.holm,
            m.silhouette.difference,
            m.silhouette.low,
            m.silhouette.high,
        )
        for m in c.moves
    )
    return Table(
        (
            "network",
            "layer",
            "CKA",
            "probe, points",
            "low",
            "high",
            "it alone right",
            f"{c.before} alone right",
            "McNemar p",
            "Holm p",
            "silhouette change",
            "silhouette low",
            "silhouette high",
        ),
        rows,
        title=f"Every network against {c.before}, layer by layer",
        note=f"Over the same {len(c.test_y):,} test images. CKA: linear, unbiased, 1 when the features are those of {c.before} up to rotation and "
        "scale. Differences of probe accuracy and of mean silhouette, with 95 % paired bootstrap intervals over images, 10,000 resamples "
        "(the silhouette of an image is resampled, not the images that it is compared with). McNemar: exact; Holm: corrected for the number of rows.",
    )


def _mistakes(c: Course) -> Table:
    names = c.images.classes
    rows: list[tuple[Any, ...]] = []
    for m in c.mistakes:
        fell = [x for x in m.changes if x.change < 0][:SHOWN]
        # The list runs from what fell the most to what rose the most; equal rises again by p.
        rose = sorted((x for x in m.changes if x.change > 0), key=lambda x: (-x.change, x.p))[:SHOWN]
        rows += [
            (
                m.judge,
                f"{m.before} → {m.after}",
                names[x.true],
                names[x.predicted],
                x.before,
                x.after,
                x.change,
                x.images,
                x.p,
                x.holm,
            )
            for x in (*fell, *rose)
        ]
    return Table(
        (
            "judged by",
            "networks",
            "class",
            "taken for",
            "before",
            "after",
            "change",
            "images of the class",
            "McNemar p",
            "Holm p",
        ),
        tuple(rows),
        title="Which classes stopped being confused, and which began to be",
        note=f"Test images of the class that were taken for another, those that fell the most first, then those that rose; at most {SHOWN} of "
        "each. McNemar: exact, over the images of the class; Holm: corrected for all mistakes of the comparison, shown or not.",
    )
