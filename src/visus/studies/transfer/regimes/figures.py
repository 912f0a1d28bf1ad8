"""What the training regimes show: accuracy against compute, curves by epoch, the choice of learning rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visus.figures import AnyFigure, CurvePanel, Curves, Front, FrontPanel, FrontPoint, Mark, Series
from visus.studies.transfer.regimes.measure import RegimesMeasures
from visus.studies.transfer.regimes.scores import Epoch, chosen, short

COSTS = {"flops": ("training operations (FLOPs)", True), "seconds": ("wall time, seconds", False)}  # name, SI prefixes


def figures(m: RegimesMeasures) -> tuple[AnyFigure, ...]:
    """Every figure, in reading order: the front first, which is the study's main figure."""
    found: list[AnyFigure] = [_front(m)]
    scores = [r.score for r in m.rows]
    if any(run.epochs for score in scores for run in score.runs):
        loss = Curves(
            key="loss", title="How the loss falls", caption=_by_epoch(m), x_label="epoch", y_label="loss", unit="nats",
            panels=_panels(m, lambda e: e.train_loss, lambda e: e.val_loss),
        )  # fmt: skip
        learning = Curves(
            key="learning", title="How the accuracy rises", caption=_by_epoch(m), x_label="epoch", y_label="accuracy", unit="share",
            panels=_panels(m, lambda e: e.train_accuracy, lambda e: e.val_accuracy),
        )  # fmt: skip
        found += [loss, learning]
    if any(len(run.trials) > 1 for score in scores for run in score.runs):
        found.append(_learning_rates(m))
    return tuple(found)


def _front(m: RegimesMeasures) -> Front:
    points = tuple(
        FrontPoint(label=short(r.regime), group=r.model, y=r.accuracy.value, low=r.accuracy.low, high=r.accuracy.high)
        for r in m.rows
    )
    panels, missing = [], []
    for what, (label, si) in COSTS.items():
        x, front = m.fronts[what]
        missing += [f"{m.name(r)} ({label.split(',')[0]})" for r, v in zip(m.rows, x, strict=True) if np.isnan(v)]
        panels.append(FrontPanel(x_label=label, x=x, front=front, si=si))
    caption = (
        f"Accuracy on {m.n:,} test images with 95 % Wilson intervals, against what training cost in all: learning rates "
        f"tried{', every seed' if m.seeds > 1 else ''} and what a frozen front computes once included. Up and to the left is better; no "
        "regime is both cheaper and more accurate on these images than one on the Pareto front, which describes them and chooses "
        "nothing: the best trade-off is chosen on validation images."
    )
    if missing:
        caption += f" Not shown, as the cost is unknown: {', '.join(missing)}."
    return Front(
        key="front", title="What does more training buy?", caption=caption, y_label="test accuracy", unit="share",
        points=points, panels=tuple(panels),
    )  # fmt: skip


def _by_epoch(m: RegimesMeasures) -> str:
    caption = (
        "By epoch, on the same axes. Training values are of the batches as they were trained on (augmented, with dropout and label "
        "smoothing where the regime has them, while the weights move), so that they may lie on the wrong side of validation; "
        "how the distance changes is what tells. The kept epoch is the one with the best validation accuracy."
    )
    return caption + " One curve a seed." if m.seeds > 1 else caption


def _panels(
    m: RegimesMeasures, train: Callable[[Epoch], float], held: Callable[[Epoch], float]
) -> tuple[CurvePanel, ...]:
    panels = []
    for r in m.rows:
        runs = [run for run in r.score.runs if run.epochs]
        series = tuple(
            Series(name=part, x=[e.number for e in run.epochs], y=[float(of(e)) for e in run.epochs])
            for part, of in (("training", train), ("validation", held))
            for run in runs
        )
        best = [run.epochs[run.best] for run in runs]
        marks = tuple(Mark("epoch that was kept", e.number, float(held(e))) for e in best)
        if runs:
            where = short(r.regime) if len(m.models) == 1 else f"{short(r.regime)} · {r.model}"
            panels.append(CurvePanel(title=where, series=series, marks=marks))
    return tuple(panels)


def _learning_rates(m: RegimesMeasures) -> Curves:
    panels = []
    for regime in dict.fromkeys(r.regime for r in m.rows):
        series: list[Series] = []
        marks: list[Mark] = []
        for r in (r for r in m.rows if r.regime == regime):
            for run in r.score.runs:
                trials = sorted(run.trials, key=lambda t: t.lr)
                if len(trials) > 1:
                    series.append(Series(name=r.model, x=[t.lr for t in trials], y=[t.val_accuracy for t in trials]))
                    marks += [Mark("trained with", t.lr, t.val_accuracy) for t in trials if chosen(t, run)]
        if series:
            panels.append(CurvePanel(title=short(regime), series=tuple(series), marks=tuple(marks)))
    return Curves(
        key="learning-rates",
        title="How the learning rates were chosen",
        caption="Validation accuracy of every learning rate tried. A ring at the end of a curve is a warning: a better one may lie beyond.",
        x_label="learning rate",
        y_label="validation accuracy",
        unit="share",
        x_log=True,
        panels=tuple(panels),
    )
