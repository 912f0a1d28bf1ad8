"""Recall and zero-shot accuracy after alignment, in-sample and held-out, against the number of pairs."""

from __future__ import annotations

from visus.figures import CurvePanel, Curves, Series
from visus.result import AnyFigure
from visus.studies.clip.alignment.judge import ACCURACY, RECALL
from visus.studies.clip.alignment.measure import AlignmentMeasures
from visus.studies.clip.alignment.tables import TITLES


def figures(m: AlignmentMeasures) -> tuple[AnyFigure, ...]:
    """Alignments that move images alone, beside the space as it is."""
    if not m.fits:
        return ()
    found = [_curves(m, "alignment_recall", "recall@1, image to text", RECALL)]
    if m.zero_shot:
        found.append(_curves(m, "alignment_accuracy", "zero-shot accuracy", ACCURACY))
    return tuple(found)


def _curves(m: AlignmentMeasures, key: str, label: str, what: str) -> Curves:
    short = [f.n for f in m.fits if f.short]
    few = f"; up to {max(short):,} pairs are too few for {m.d} dimensions (under {3 * m.d:,})" if short else ""
    panels = []
    for title in ("in-sample", "held-out"):
        series = []
        for kind in ("none", *TITLES):
            own = [f for f in m.fits if f.kind == kind and not f.both]
            y = [(f.inside if title == "in-sample" else f.held).score(what) for f in own]
            series.append(Series(name=TITLES.get(kind, "as it is"), x=[f.n for f in own], y=y))
        panels.append(CurvePanel(title=title, series=tuple(series)))
    return Curves(
        key=key,
        title=f"What alignment does: {label}",
        caption=f"Images moved, texts as they are. What rises on the left and falls on the right is memory of the pairs{few}. "
        "Read it beside 'as it is' at the same number: each number is judged on as many pairs, and among more a text is harder to find.",
        x_label="pairs fitted on",
        y_label=label,
        unit="share",
        x_log=True,
        panels=tuple(panels),
    )
