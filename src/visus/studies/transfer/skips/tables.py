"""The tables of networks without their skip connections."""

from __future__ import annotations

from typing import Any

from visus.result import Column, Table, key_of
from visus.studies.common.comparisons import comparisons_table
from visus.studies.common.proportion import ACCURACY
from visus.studies.transfer.skips.measure import SkipsMeasures, Sweep, WithoutChosen


def tables(m: SkipsMeasures) -> tuple[Table, ...]:
    found = []
    for c in m.chosen:
        key = prefixed(m, c.model, "skips-compared")
        pairs = comparisons_table(key, "Networks without skips against the intact one", c.comparisons)
        found += [_removed(m, c), pairs, _gradients(m, c)]
    return (*found, *(_sweep(m, s) for s in m.swept))


def prefixed(m: SkipsMeasures, model: str, key: str) -> str:
    """The key, with the model in front where there are several."""
    return key_of(model, key) if m.several else key


def _removed(m: SkipsMeasures, c: WithoutChosen) -> Table:
    return Table(
        key=prefixed(m, c.model, "skips-removed"),
        title=f"Without the skip connections of {c.skips}",
        columns=(
            Column("network", "network"),
            *ACCURACY,
            Column("by_descent", "head by gradient descent", "share"),
            Column("validation", "validation", "share"),
        ),
        rows=[(r.name, *r.accuracy.cells, r.by_descent, r.validation) for r in c.rows],
        note="The head was fitted again for each network (convex linear probe; beside it the same head by gradient descent); all "
        "other weights are those of the intact network. low, high: 95 % Wilson interval.",
    )


def _gradients(m: SkipsMeasures, c: WithoutChosen) -> Table:
    return Table(
        key=prefixed(m, c.model, "gradients"),
        title="How much of the loss's gradient reaches each stage",
        columns=(Column("stage", "stage"), *(Column(key_of(r.name), r.name, digits=4) for r in c.rows)),
        rows=[(stage, *(r.gradients[stage] for r in c.rows)) for stage in c.rows[0].gradients],
        note="L2 norm of the gradient of the mean cross-entropy with respect to the stage's parameters, over training images, with the "
        "retrained head.",
    )


def sweep_note(s: Sweep) -> str:
    """How the damage was measured."""
    return (
        f"Damage: accuracy of the intact network ({100 * s.intact:.1f} %) minus that without the block's skip, in points, with its 95 % "
        f"paired bootstrap interval over {s.n:,} test images. A new head was fitted each time, on {s.n_train:,} "
        "training images. Recalibrated: with BatchNorm statistics estimated anew on training images."
    )


def _sweep(m: SkipsMeasures, s: Sweep) -> Table:
    again = any(b.recalibrated_damage is not None for b in s.blocks)
    columns = [
        Column("block", "block"),
        Column("depth", "depth", digits=2),
        Column("projection", "projection"),
        Column("accuracy", "accuracy", "share"),
        Column("damage", "damage", "points", better="lower"),
        Column("low", "low", "points"),
        Column("high", "high", "points"),
    ]
    if again:
        columns += [
            Column("accuracy_recalibrated", "accuracy, recalibrated", "share"),
            Column("damage_recalibrated", "damage, recalibrated", "points"),
            Column("low_recalibrated", "low, recalibrated", "points"),
            Column("high_recalibrated", "high, recalibrated", "points"),
        ]
    rows = []
    for b in s.blocks:
        row: list[Any] = [b.block, b.depth, b.projection, b.accuracy, b.damage.difference, b.damage.low, b.damage.high]
        if again:
            d = b.recalibrated_damage
            row += [b.recalibrated, *((None, None, None) if d is None else (d.difference, d.low, d.high))]
        rows.append(tuple(row))
    title = "The damage of one missing skip, block by block"
    key = prefixed(m, s.model, "skip-sweep")
    return Table(key=key, title=title, columns=tuple(columns), rows=rows, note=sweep_note(s))
