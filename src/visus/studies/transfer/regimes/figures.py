"""What the training regimes show: accuracy against compute, curves by epoch, the choice of learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from visus.studies.common.schema1 import Figure
from visus.studies.transfer.regimes.scores import Epoch, Regimes, RegimeScore, chosen


def draw(s: Regimes) -> tuple[Figure, ...]:
    """Every figure, in reading order: the front first, which is the study's main figure."""
    figures = [_front(s)]
    if any(run.epochs for score in s.scores for run in score.runs):
        figures.append(
            _curves(s, "loss", "loss, nats", "How the loss falls", lambda e: e.train_loss, lambda e: e.val_loss)
        )
        figures.append(
            _curves(
                s, "learning", "accuracy, %", "How the accuracy rises",
                lambda e: 100 * e.train_accuracy, lambda e: 100 * e.val_accuracy,
            )
        )  # fmt: skip
    if any(len(run.trials) > 1 for score in s.scores for run in score.runs):
        figures.append(_learning_rates(s))
    return tuple(figures)


def short(regime: str) -> str:
    """A regime beside its marker: 'last-block' -> 'last block'."""
    return "LoRA" if regime == "lora" else regime.replace("-", " ")


def _front(s: Regimes) -> Figure:
    from visus.measures.front import pareto

    accuracy = np.array([s.accuracy(score) for score in s.scores])
    points = []
    for score, value in zip(s.scores, accuracy, strict=True):
        low, high = s.interval(score)
        points.append(
            {"label": short(score.regime), "group": score.model, "y": 100 * value, "low": 100 * low, "high": 100 * high}
        )
    panels: list[dict[str, Any]] = []
    missing: list[str] = []
    costs: dict[str, tuple[Callable[[RegimeScore], float], bool]] = {
        "training operations (FLOPs)": (lambda score: score.flops, True),
        "wall time, seconds": (lambda score: score.seconds, False),
    }
    for label, (of, si) in costs.items():
        x = np.array([of(score) for score in s.scores], dtype=np.float64)
        # A logarithmic axis has no place for nothing, and what was not counted has no place at all.
        x[~((x > 0) & np.isfinite(x))] = np.nan
        missing += [f"{s.name(c)} ({label.split(',')[0]})" for c, v in zip(s.scores, x, strict=True) if np.isnan(v)]
        panels.append({"x_label": label, "x": x.tolist(), "front": pareto(x, accuracy).tolist(), "si": si})
    caption = (
        f"Accuracy on {len(s.test_y):,} test images with 95 % Wilson intervals, against what training cost in all: learning rates "
        f"tried{', every seed' if s.seeds > 1 else ''} and what a frozen front computes once included. Up and to the left is better; no "
        "regime is both cheaper and more accurate on these images than one on the Pareto front, which describes them and chooses "
        "nothing: the best trade-off is chosen on validation images."
    )
    if missing:
        caption += f" Not shown, as the cost is unknown: {', '.join(missing)}."
    data = {"y_label": "test accuracy, %", "points": points, "panels": panels}
    return Figure("front", "front", "What does more training buy?", caption, data)


def _curves(
    s: Regimes, name: str, y_label: str, title: str, train: Callable[[Epoch], float], held: Callable[[Epoch], float]
) -> Figure:
    panels = []
    for score in s.scores:
        runs = [run for run in score.runs if run.epochs]
        series = [
            {"name": part, "x": [e.number for e in run.epochs], "y": [float(of(e)) for e in run.epochs]}
            for part, of in (("training", train), ("validation", held))
            for run in runs
        ]
        kept = [run.epochs[run.best] for run in runs]
        marks = [{"label": "epoch that was kept", "x": e.number, "y": float(held(e))} for e in kept]
        if runs:
            where = short(score.regime) if len(s.models) == 1 else f"{short(score.regime)} · {score.model}"
            panels.append({"title": where, "series": series, "marks": marks})
    caption = (
        "By epoch, on the same axes. Training values are of the batches as they were trained on (augmented, with dropout and label "
        "smoothing where the regime has them, while the weights move), so that they may lie on the wrong side of validation; "
        "how the distance changes is what tells. The kept epoch is the one with the best validation accuracy."
    )
    if s.seeds > 1:
        caption += " One curve a seed."
    return Figure(name, "curves", title, caption, {"x_label": "epoch", "y_label": y_label, "panels": panels})


def _learning_rates(s: Regimes) -> Figure:
    panels = []
    for regime in dict.fromkeys(score.regime for score in s.scores):
        series, marks = [], []
        for score in (c for c in s.scores if c.regime == regime):
            for run in score.runs:
                trials = sorted(run.trials, key=lambda t: t.lr)
                y = [100 * t.val_accuracy for t in trials]
                if len(trials) > 1:
                    series.append({"name": score.model, "x": [t.lr for t in trials], "y": y})
                marks += [
                    {"label": "trained with", "x": t.lr, "y": 100 * t.val_accuracy}
                    for t in trials
                    if len(trials) > 1 and chosen(t, run)
                ]
        if series:
            panels.append({"title": short(regime), "series": series, "marks": marks})
    data = {"x_label": "learning rate", "y_label": "validation accuracy, %", "x_log": True, "panels": panels}
    caption = "Validation accuracy of every learning rate tried. A ring at the end of a curve is a warning: a better one may lie beyond."
    return Figure("learning-rates", "curves", "How the learning rates were chosen", caption, data)
