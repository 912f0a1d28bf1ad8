"""Alignments as metrics and tables, in-sample and held-out side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visus.result import Column, Metric, Table, key_of
from visus.studies.clip.alignment.judge import ACCURACY, AT, RECALL, SideMeasures
from visus.studies.clip.alignment.measure import AlignmentMeasures, Fit

TITLES = {
    "procrustes": "Procrustes",
    "procrustes-raw": "Procrustes, no L2",
    "centring": "centring",
    "ridge": "ridge",
    "whitening": "whitening",
}
SIDES = (("in_sample", "in-sample"), ("held_out", "held-out"))


def fit_key(m: AlignmentMeasures, kind: str, what: str) -> str:
    """Of a number of an alignment that moves images alone, on the most pairs, judged on other pairs."""
    return key_of(m.name, "alignment", kind, what)


def metrics(m: AlignmentMeasures) -> tuple[Metric, ...]:
    """Of every alignment on the most pairs, judged on other pairs: cosine, gap, recall and accuracy, and what they gain over the space as it is."""
    return tuple(_metrics(m)) if m.fits else ()


def _metrics(m: AlignmentMeasures) -> Iterator[Metric]:
    for kind in ("none", *TITLES):
        f, split = m.at_most(kind), "held-out"
        n, title = f.held.n, TITLES.get(kind, "as it is")
        yield Metric(
            fit_key(m, kind, "cosine"),
            f.held.cosine,
            n=n,
            better="higher",
            split=split,
            label=f"cosine of pairs, {title}",
        )
        yield Metric(
            fit_key(m, kind, "gap"),
            f.held.distance,
            n=n,
            better="lower",
            split=split,
            label=f"centroid distance, {title}",
        )
        for what, label, change in ((RECALL, "recall@1, image to text", f.recall), (ACCURACY, ACCURACY, f.accuracy)):
            if what == RECALL or m.zero_shot:
                key, score = fit_key(m, kind, what), f.held.score(what)
                yield Metric(key, score, n=n, unit="share", better="higher", split=split, label=f"{label}, {title}")
            if change is not None:
                key = fit_key(m, kind, f"{what}-gained")
                yield Metric(
                    key, change.difference, change.low, change.high, n, "points", "higher", split, f"{label} gained, {title}"
                )  # fmt: skip


def tables(m: AlignmentMeasures) -> tuple[Table, ...]:
    """Every alignment at every number of pairs, and of random weights at the most."""
    if not m.fits:
        return ()
    found = [_table(m, m.fits, "alignment", "Alignment, in-sample and held-out side by side")]
    if m.control:
        found.append(_table(m, m.control, "alignment-control", "Alignment of the same network with random weights"))
    return tuple(found)


def _table(m: AlignmentMeasures, fits: Sequence[Fit], key: str, title: str) -> Table:
    return Table(
        key=key,
        title=title,
        columns=(
            Column("alignment", "alignment"),
            Column("moves", "moves"),
            Column("fitted_on", "fitted on"),
            *_columns(m),
            Column("judged_on", "judged on"),
            Column("half_width", "± at most", "points"),
        ),
        rows=[
            (
                TITLES.get(f.kind, f.kind), "" if f.kind == "none" else "both" if f.both else "images", f.n,
                *(cell for both in zip(_cells(f.inside, m), _cells(f.held, m), strict=True) for cell in both),
                f.held.n, f.half_width,
            )
            for f in fits
        ],
        note="Fitted on so many pairs; in-sample: judged on these, held-out: on equally many others"
        + (" (other images; the texts are the same class names)" if m.texts_are_classes else " (other images with other texts)")
        + f". ± at most: half of the 95 % Wilson interval of a share of one half. Space of {m.d} "
        f"dimensions: of maps fitted on under {3 * m.d} pairs believe the held-out columns alone. A rotation of both sides changes no score; "
        "whitening moves images and texts into a space of their own. gap: distance of centroids. A dash: no more to find among than are counted.",
    )  # fmt: skip


def _columns(m: AlignmentMeasures) -> Iterator[Column]:
    """Two of each number, in-sample and held-out, in the order of `_cells`."""
    measured = [("cosine", "cosine", ""), ("gap", "gap", "")]
    for way, label in (("image_to_text", "image to text"), ("text_to_image", "text to image")):
        measured += [(f"{way}_{k}", f"{label} @{k}" if k == 1 else f"@{k}", "share") for k in AT]
    if m.zero_shot:
        measured.append(("zero_shot", "zero-shot", "share"))
    for key, label, unit in measured:
        for suffix, side in SIDES:
            yield Column(f"{key}_{suffix}", f"{label}, {side}", unit)


def _cells(side: SideMeasures, m: AlignmentMeasures) -> tuple[float | None, ...]:
    return (side.cosine, side.distance, *side.to_text, *side.to_image, *((side.accuracy,) if m.zero_shot else ()))
