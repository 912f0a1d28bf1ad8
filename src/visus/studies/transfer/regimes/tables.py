"""The tables of the training regimes: what they reached, what it cost, which differences hold, how learning rates were chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from visus.studies.common.pairs import table_of_pairs
from visus.studies.common.schema1 import Table
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore, chosen, operations
from visus.training.regimes import WHOLE


def tables(s: Regimes, *, seed: int) -> dict[str, Table]:
    """Every table, in reading order. seed: of the bootstrap."""
    found = {"regimes": _regimes(s), "training cost": _cost(s)}
    what = "Regimes" if s.seeds == 1 else "Regimes, means over their seeds (McNemar: the first seed),"
    within, across = s.regime_pairs(seed=seed), s.model_pairs(seed=seed)
    if within:
        found["regimes compared"] = table_of_pairs(within, "Regimes of the same model, in pairs", what=what)
    if across:
        found["regimes across models"] = table_of_pairs(across, "Models in the same regime, in pairs", what=what)
    if any(run.trials for score in s.scores for run in score.runs):
        found["learning rates"] = _learning_rates(s)
    return found


def quality(s: Regimes, score: RegimeScore) -> tuple[float, float, float]:
    """Macro recall, NLL in nats and ECE over 15 bins on the test images, means over runs; NLL and ECE NaN where a logit is not finite."""
    from scipy.special import softmax

    from visus.measures.calibration import ece, nll
    from visus.measures.confusion import balanced_accuracy

    rows = []
    for run, predicted in zip(score.runs, score.predictions, strict=True):
        recall, row = balanced_accuracy(s.test_y, predicted, n_classes=len(s.classes)), (float("nan"), float("nan"))
        if np.isfinite(run.logits).all():
            p = softmax(run.logits.astype(np.float64), axis=1)
            row = nll(p, s.test_y), ece(p, s.test_y)
        rows.append((recall, *row))
    recall, likelihood, calibration = np.mean(rows, axis=0).tolist()
    return recall, likelihood, calibration


def rate(lr: float) -> str:
    """0.00031623 -> '0.00032'."""
    return f"{lr:.2g}"


def _regimes(s: Regimes) -> Table:
    n, repeated = len(s.test_y), s.seeds > 1
    rows = []
    for score in s.scores:
        low, high = s.interval(score)
        recall, likelihood, calibration = quality(s, score)
        row: list[Any] = [score.model, score.words, s.accuracy(score), low, high, n]
        if repeated:
            each = score.right(s.test_y).mean(axis=1)
            row += [len(each), float(each.min()), float(each.max())]
            row.append(float(each.std(ddof=1)) if len(each) > 1 else None)
        row += [recall, likelihood, calibration, score.validation, _chosen(score)]
        row += [_among(len(r.epochs) for r in score.runs if r.epochs)]
        row += [_among(r.epochs[r.best].number for r in score.runs if r.epochs)]
        rows.append(tuple(row))
    columns = ["model", "regime", "accuracy", "low", "high", "n"]
    columns += ["seeds", "lowest", "highest", "sd"] if repeated else []
    columns += ["macro recall", "NLL", "ECE", "validation", "chosen", "epochs", "best epoch"]
    note = (
        "low, high: 95 % Wilson interval. Learning rate, λ, epoch and the best regime (bold) were chosen on validation images; the test "
        "images were used once. NLL in nats, ECE over 15 bins. The linear probe is the convex fit, with no epochs."
    )
    if repeated:
        note += (
            " Numbers are means over seeds; lowest, highest and sd (n − 1) are of the accuracy over seeds, and say how far another "
            "start would move it; the interval says how far other test images would."
        )
    return Table(
        tuple(columns),
        tuple(rows),
        title="What each way of training reaches on the test images",
        note=note,
        bold={"validation": "max"},
    )


def _chosen(score: RegimeScore) -> str:
    if score.probe is not None:
        return f"λ {score.probe.lambda_:.1e}"
    return "lr " + ", ".join(dict.fromkeys(rate(run.lr) for run in score.runs))


def _among(values: Iterable[int]) -> int | str | None:
    """One number where all runs agree, else the lowest and the highest: '7–10'."""
    known = list(values)
    if not known:
        return None
    return known[0] if min(known) == max(known) else f"{min(known)}–{max(known)}"


def _cost(s: Regimes) -> Table:
    rows = [
        (
            score.model,
            score.words,
            score.trainable,
            score.parameters,
            operations(score.flops),
            float(score.seconds),
            throughput(s, score),
            score.peak_memory / 1e6,
            _batch(score),
            f"{score.size[0]} × {score.size[1]}",
            score.augmented or "no",
        )
        for score in s.scores
    ]
    return Table(
        (
            "model",
            "regime",
            "trainable",
            "parameters",
            "training operations",
            "seconds",
            "images/s",
            "peak memory, MB",
            "batch",
            "pixels",
            "augmented",
        ),
        tuple(rows),
        title="What each way of training costs",
        note="Operations: forward and backward, a multiply-add being two; what a frozen front computes is counted once, as it was "
        "computed once. Operations and seconds are of all of it: learning rates tried, every seed, and the test. images/s: in "
        "an epoch of training and validation, where the whole network runs in every epoch.",
        digits=1,
    )


def throughput(s: Regimes, score: RegimeScore) -> float | None:
    """Images trained on a second, in the median epoch; None where an epoch runs on cached features, or the number is unknown."""
    whole = score.regime in WHOLE or score.augmented == "every epoch"
    seconds = [e.seconds for run in score.runs for e in run.epochs]
    if not whole or s.fitted is None or not seconds or np.median(seconds) <= 0:
        return None
    return float(s.fitted / np.median(seconds))


def _batch(score: RegimeScore) -> str:
    if score.probe is not None:
        return "all at once"
    return f"{score.batch}" if score.accumulate == 1 else f"{score.batch} in {score.accumulate} passes"


def _learning_rates(s: Regimes) -> Table:
    many = any(len(score.runs) > 1 and score.runs[1].trials for score in s.scores)
    rows = []
    for score in s.scores:
        for run in score.runs:
            for trial in sorted(run.trials, key=lambda t: t.lr):
                finite = bool(np.isfinite(trial.val_loss))
                rows.append(
                    (
                        score.model,
                        score.words,
                        *((run.seed,) if many else ()),
                        rate(trial.lr),
                        trial.val_accuracy if finite else None,
                        trial.val_loss if finite else None,
                        float(trial.epochs),
                        float(trial.seconds),
                        chosen(trial, run),
                    )
                )
    grids = {score.words: sorted({t.lr for r in score.runs for t in r.trials}) for score in s.scores}
    stated = "; ".join(f"{words}: {', '.join(map(rate, grid))}" for words, grid in grids.items() if grid)
    seed = ("seed",) if many else ()
    return Table(
        (
            "model",
            "regime",
            *seed,
            "learning rate",
            "validation accuracy",
            "validation loss",
            "epochs tried",
            "seconds",
            "chosen",
        ),
        tuple(rows),
        title="How the learning rate was chosen",
        note=f"By validation accuracy, then loss; no test image was looked at. The grid: {stated}. A dash: training broke down.",
    )
