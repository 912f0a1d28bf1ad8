"""The figures of networks without their skip connections."""

from __future__ import annotations

from visus.figures import AnyFigure, CurvePanel, Curves, Lines, Series
from visus.studies.common.comparisons import Comparison
from visus.studies.transfer.skips.measure import SkipsMeasures, Sweep, WithoutChosen
from visus.studies.transfer.skips.tables import prefixed, sweep_note


def figures(m: SkipsMeasures) -> tuple[AnyFigure, ...]:
    found: list[AnyFigure] = []
    for c in m.chosen:
        found += [_curves(m, c), _gradients(m, c)]
    return (*found, *(_damage(m, s) for s in m.swept))


def _curves(m: SkipsMeasures, c: WithoutChosen) -> Curves:
    panels = tuple(
        CurvePanel(
            title=title,
            series=tuple(Series(name=r.name, x=[e[0] for e in r.epochs], y=[e[at] for e in r.epochs]) for r in c.rows),
        )
        for title, at in (("training", 1), ("validation", 2))
    )
    return Curves(
        key=prefixed(m, c.model, "skips-curves"),
        title="Training a new head with and without skips",
        caption="Accuracy by epoch of a head trained by gradient descent over each frozen network, same splits, same recipe, learning rate "
        "chosen on validation.",
        x_label="epoch",
        y_label="accuracy",
        unit="share",
        panels=panels,
    )


def _gradients(m: SkipsMeasures, c: WithoutChosen) -> Lines:
    stages = list(c.rows[0].gradients)
    return Lines(
        key=prefixed(m, c.model, "skips-gradients"),
        title="The gradient's way back",
        caption=f"L2 norm of the loss's gradient with respect to each stage's parameters. Stages from the input: {', '.join(stages)}.",
        x_label="stage, counted from the input",
        y_label="gradient norm",
        y_log=all(g > 0 for r in c.rows for g in r.gradients.values()),
        series=tuple(
            Series(name=r.name, x=list(range(len(stages))), y=[r.gradients[s] for s in stages]) for r in c.rows
        ),
    )


def _damage(m: SkipsMeasures, s: Sweep) -> Lines:
    def curve(name: str, pairs: list[tuple[float, Comparison]]) -> Series:
        return Series(
            name=name,
            x=[depth for depth, _ in pairs],
            y=[c.difference for _, c in pairs],
            low=[c.low for _, c in pairs],
            high=[c.high for _, c in pairs],
        )

    series = [curve("as it stands", [(b.depth, b.damage) for b in s.blocks])]
    again = [(b.depth, b.recalibrated_damage) for b in s.blocks if b.recalibrated_damage is not None]
    if again:
        series.append(curve("BatchNorm recalibrated", again))
    return Lines(
        key=prefixed(m, s.model, "skips-sweep"),
        title="The damage of one missing skip, block by block",
        caption=sweep_note(s),
        x_label="depth of the block, 0 at the input",
        y_label="damage",
        unit="points",
        series=tuple(series),
    )
