"""What the removal of skip connections came to: tables, figures and sentences (P7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.pairs import Pair, compare_right, table_of_pairs
from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part
from visus.studies.common.shared import interval_text, percent

if TYPE_CHECKING:
    from visus.images import Splits
    from visus.models.skips import Skip
    from visus.studies.transfer.skips.measure import AblationSetup, Removal, Variant


def of_variants(scene: AblationSetup, skips: Sequence[Skip], found: Sequence[Variant], *, prefix: str = "") -> Part:
    """The chosen blocks without their skips beside the intact network. prefix: the model, where there are several."""
    from visus.measures.intervals import wilson

    y, n = scene.test_y, len(scene.test_y)
    right = {v.name: v.probe.predictions == y for v in found}
    intact, *others = found
    pairs = [
        compare_right(right[v.name], right[intact.name], names=(v.name, intact.name), seed=scene.seed) for v in others
    ]
    rows = []
    for v in found:
        low, high = wilson(int(right[v.name].sum()), n)
        by_descent = float(np.mean(v.run.logits.argmax(1) == y))
        rows.append((v.name, v.probe.top1, low, high, n, by_descent, v.probe.validation_accuracy))
    named = names_of(skips)
    tables = {
        f"{prefix}skips removed": Table(
            ("network", "accuracy", "low", "high", "n", "head by gradient descent", "validation"),
            tuple(rows),
            title=f"Without the skip connections of {named}",
            note="The head was fitted again for each network (convex linear probe; beside it the same head by gradient descent); all "
            "other weights are those of the intact network. low, high: 95 % Wilson interval.",
        ),
        f"{prefix}skips compared": table_of_pairs(pairs, "Networks without skips against the intact one"),
        f"{prefix}gradients": _gradients(found),
    }
    said = [
        f"Without the skips of {named} in {scene.backbone.spec} a newly fitted head gets {percent(v.probe.top1)} of the test images right "
        f"({interval_text(*wilson(int(right[v.name].sum()), n))}), against {percent(intact.probe.top1)} for the intact network"
        f"{', after BatchNorm statistics were estimated anew' if 'recalibrated' in v.name else ''} ({_span(pair)})."
        for v, pair in zip(others, pairs, strict=True)
    ]
    figures = (_curves(found, prefix), _gradient_figure(found, prefix))
    return Part((*said, *_flow(found)), tables, figures)


def of_sweep(
    scene: AblationSetup, intact: np.ndarray, removals: Sequence[Removal], used: Splits, *, prefix: str = ""
) -> Part:
    """The damage that every block's missing skip does, over depth."""
    plain, again = [], []
    for r in removals:
        names = (r.skip.name, "intact")
        plain.append(compare_right(r.right, intact, names=names, seed=scene.seed))
        if r.recalibrated is not None:
            again.append(compare_right(r.recalibrated, intact, names=names, seed=scene.seed))
    rows = []
    for k, (r, pair) in enumerate(zip(removals, plain, strict=True)):
        row = [r.skip.name, r.skip.depth, r.skip.projection, float(r.right.mean())]
        row += [-100 * pair.difference, -100 * pair.high, -100 * pair.low]
        if again:
            row += [
                float(np.mean(np.asarray(r.recalibrated))),
                -100 * again[k].difference,
                -100 * again[k].high,
                -100 * again[k].low,
            ]
        rows.append(tuple(row))
    columns = ["block", "depth", "projection", "accuracy", "damage, points", "low", "high"]
    columns += (
        ["accuracy, recalibrated", "damage, recalibrated", "low, recalibrated", "high, recalibrated"] if again else []
    )
    title = "The damage of one missing skip, block by block"
    note = (
        f"Damage: accuracy of the intact network ({100 * intact.mean():.1f} %) minus that without the block's skip, in points, with its 95 % "
        f"paired bootstrap interval over {len(used.test):,} test images. A new head was fitted each time, on {len(used.train):,} "
        "training images. Recalibrated: with BatchNorm statistics estimated anew on training images."
    )
    tables = {f"{prefix}skip sweep": Table(tuple(columns), tuple(rows), title=title, note=note, digits=2)}
    figure = _damage(removals, plain, again, title, note, prefix)
    return Part(_sweep_words(scene, removals, plain, again), tables, (figure,))


def names_of(skips: Sequence[Skip]) -> str:
    """'layer3.1', 'layer3.1 and layer3.2', 'layer3.1 to layer3.20 (20 blocks)'."""
    if len(skips) <= 2:
        return " and ".join(s.name for s in skips)
    return f"{skips[0].name} to {skips[-1].name} ({len(skips)} blocks)"


def _gradients(found: Sequence[Variant]) -> Table:
    rows = tuple((stage, *(v.gradients[stage] for v in found)) for stage in found[0].gradients)
    return Table(
        ("stage", *(v.name for v in found)),
        rows,
        title="How much of the loss's gradient reaches each stage",
        note="L2 norm of the gradient of the mean cross-entropy with respect to the stage's parameters, over training images, with the "
        "retrained head.",
        digits=4,
    )


def _curves(found: Sequence[Variant], prefix: str) -> Figure:
    panels = []
    for title, part in (("training", "train"), ("validation", "val")):
        series = [
            {
                "name": v.name,
                "x": [e.number for e in v.run.epochs],
                "y": [100 * getattr(e, f"{part}_accuracy") for e in v.run.epochs],
            }
            for v in found
        ]
        panels.append({"title": title, "series": series, "marks": []})
    return Figure(
        f"{_slug(prefix)}skips-curves",
        "curves",
        "Training a new head with and without skips",
        "Accuracy by epoch of a head trained by gradient descent over each frozen network, same splits, same recipe, learning rate "
        "chosen on validation.",
        {"x_label": "epoch", "y_label": "accuracy, %", "panels": panels},
    )


def _gradient_figure(found: Sequence[Variant], prefix: str) -> Figure:
    stages = list(found[0].gradients)
    series = [
        {
            "name": v.name,
            "x": list(range(len(stages))),
            "y": [v.gradients[s] for s in stages],
            "low": None,
            "high": None,
        }
        for v in found
    ]
    positive = all(g > 0 for v in found for g in v.gradients.values())
    return Figure(
        f"{_slug(prefix)}skips-gradients",
        "lines",
        "The gradient's way back",
        f"L2 norm of the loss's gradient with respect to each stage's parameters. Stages from the input: {', '.join(stages)}.",
        {"x_label": "stage, counted from the input", "y_label": "gradient norm", "y_log": positive, "series": series},
    )


def _damage(
    removals: Sequence[Removal], plain: Sequence[Pair], again: Sequence[Pair], title: str, note: str, prefix: str
) -> Figure:
    series = []
    for name, pairs in (("as it stands", plain), ("BatchNorm recalibrated", again)):
        if pairs:
            series.append(
                {
                    "name": name,
                    "x": [r.skip.depth for r in removals],
                    "y": [-100 * p.difference for p in pairs],
                    "low": [-100 * p.high for p in pairs],
                    "high": [-100 * p.low for p in pairs],
                }
            )
    data = {"x_label": "depth of the block, 0 at the input", "y_label": "damage, points of accuracy", "series": series}
    return Figure(f"{_slug(prefix)}skips-sweep", "lines", title, note, data)


def _sweep_words(
    scene: AblationSetup, removals: Sequence[Removal], plain: Sequence[Pair], again: Sequence[Pair]
) -> tuple[str, ...]:
    worst = min(range(len(plain)), key=lambda k: plain[k].difference)
    clear = sum(p.high < 0 for p in plain)
    said = [
        f"Of {len(removals)} residual blocks of {scene.backbone.spec}, {clear} do clear damage when their skip is missing; the worst is "
        f"{removals[worst].skip.name}, {-100 * plain[worst].difference:.1f} points ({_span(plain[worst])})."
    ]
    if again:
        mended = np.mean([-100 * p.difference for p in again])
        before = np.mean([-100 * p.difference for p in plain])
        said.append(
            f"Estimating BatchNorm's statistics anew takes the mean damage of one missing skip from {before:.1f} to {mended:.1f} points."
        )
    return tuple(said)


def _times(ratio: float) -> str:
    """Two digits: '0.031', '2.8', '240'."""
    return f"{ratio:.2g}" if ratio < 99.5 else f"{float(f'{ratio:.2g}'):,.0f}"


def _flow(found: Sequence[Variant]) -> tuple[str, ...]:
    intact, *others = found
    first = next(iter(intact.gradients))
    if not intact.gradients[first] > 0:
        return ()
    ratios = [
        f"{_times(v.gradients[first] / intact.gradients[first])} times as large for the network {v.name}"
        for v in others
    ]
    return (f"The loss's gradient at the first stage ({first}) is {', and '.join(ratios)} as for the intact one.",)


def _span(pair: Pair) -> str:
    return f"{100 * pair.difference:+.1f} points, 95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}"


def _slug(prefix: str) -> str:
    from visus.studies.transfer.layers.figures import slug

    return f"{slug(prefix)}-" if prefix else ""
