"""Zero-shot classification in figures: accuracy by prompts, confusion, the hardest images and those that the prompts decide."""

from __future__ import annotations

import numpy as np

from visus.figures import Gallery, Group, Heatmap, Intervals, Reference
from visus.result import AnyFigure
from visus.studies.clip.zero_shot.measure import ZeroShotMeasures
from visus.studies.clip.zero_shot.tables import scored


def figures(m: ZeroShotMeasures) -> tuple[AnyFigure, ...]:
    """None where images have several labels."""
    if not m.scores:
        return ()
    found: list[AnyFigure] = [_accuracy(m)]
    if m.confusion is not None:
        found.append(_confusion(m, m.confusion))
    if m.hardest is not None:
        found.append(
            Gallery(
                key="hardest",
                title="Hardest images",
                caption="Wrong answers with the least probability on the label: hard pictures, or wrong labels.",
                images=m.hardest.images,
                captions=m.hardest.captions,
            )
        )
    if m.decided is not None:
        first, last = m.scores[0].prompts, m.scores[-1].prompts
        found.append(
            Gallery(
                key="flipped",
                title="Images that the prompts decide",
                caption=f"Right with one of {first} and {last} prompts and wrong with the other: the label, then the wrong answer.",
                images=m.decided.images,
                captions=m.decided.captions,
                groups=m.decided.groups,
            )
        )
    return tuple(found)


def _accuracy(m: ZeroShotMeasures) -> Intervals:
    shown = scored(m)
    return Intervals(
        key="zero_shot",
        title="Class names as a classifier",
        caption=f"Accuracy on {m.n:,} images with 95 % Wilson intervals.",
        x_label="prompts",
        y_label="accuracy",
        unit="share",
        groups=(
            Group(
                name=m.name,
                labels=[s.prompts for s in shown],
                values=[s.accuracy.value for s in shown],
                low=[s.accuracy.low for s in shown],
                high=[s.accuracy.high for s in shown],
            ),
        ),
        reference=(Reference("chance", m.chance),),
    )


def _confusion(m: ZeroShotMeasures, shares: np.ndarray) -> Heatmap:
    return Heatmap(
        key="confusion",
        title=f"What is taken for what, {m.scores[0].prompts} prompts",
        caption="Rows: the label. Columns: the answer. Shares of the row's images.",
        values=shares.tolist(),
        rows=m.classes,
        columns=m.classes,
        label="share of the class",
        unit="share",
        low=0.0,
        high=1.0,
    )
