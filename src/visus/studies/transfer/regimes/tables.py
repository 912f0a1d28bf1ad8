"""The tables of the training regimes: what they reached, what it cost, which differences hold, how learning rates were chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from visus.result import Column, Table
from visus.studies.common.comparisons import comparisons_table
from visus.studies.common.proportion import ACCURACY
from visus.studies.transfer.regimes.measure import RegimesMeasures
from visus.studies.transfer.regimes.scores import RegimeScore, chosen, operations, rate

OF_REGIME = (Column("model", "model"), Column("regime", "regime"))


def tables(m: RegimesMeasures) -> tuple[Table, ...]:
    """Every table, in reading order."""
    found = [_regimes(m), _cost(m)]
    what = "Regimes" if m.seeds == 1 else "Regimes, means over their seeds (McNemar: the first seed),"
    if m.within:
        found.append(comparisons_table("regimes-compared", "Regimes of the same model, in pairs", m.within, what=what))
    if m.across:
        found.append(
            comparisons_table("regimes-across-models", "Models in the same regime, in pairs", m.across, what=what)
        )
    if any(run.trials for r in m.rows for run in r.score.runs):
        found.append(_learning_rates(m))
    return (*found, _trained(m)) if m.trained else tuple(found)


def _regimes(m: RegimesMeasures) -> Table:
    repeated = m.seeds > 1
    columns = [*OF_REGIME, *ACCURACY]
    if repeated:
        columns += [
            Column("seeds", "seeds"),
            Column("lowest", "lowest", "share"),
            Column("highest", "highest", "share"),
            Column("sd", "sd", "share"),
        ]
    columns += [
        Column("balanced_accuracy", "balanced accuracy", "share"),
        Column("nll", "NLL"),
        Column("ece", "ECE"),
        Column("validation", "validation", "share", better="higher"),
        Column("chosen", "chosen"),
        Column("epochs", "epochs"),
        Column("best_epoch", "best epoch"),
    ]
    rows = []
    for r in m.rows:
        row: list[Any] = [r.model, r.words, *r.accuracy.cells]
        if repeated:
            row += [r.spread.n, r.spread.lowest, r.spread.highest, r.spread.deviation]
        runs = [run for run in r.score.runs if run.epochs]
        row += [r.balanced_accuracy, r.nll, r.ece, r.score.validation, _chosen(r.score)]
        row += [_among(len(run.epochs) for run in runs), _among(run.epochs[run.best].number for run in runs)]
        rows.append(tuple(row))
    note = (
        "low, high: 95 % Wilson interval. Learning rate, λ, epoch and the best regime (bold) were chosen on validation images; the test "
        "images were used once. NLL in nats, ECE over 15 bins. The linear probe is the convex fit, with no epochs."
    )
    if repeated:
        note += (
            " Numbers are means over seeds; lowest, highest and sd (n − 1) are of the accuracy over seeds, and say how far another "
            "start would move it; the interval says how far other test images would."
        )
    title = "What each way of training reaches on the test images"
    return Table(key="regimes", title=title, columns=tuple(columns), rows=rows, note=note)


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


def _cost(m: RegimesMeasures) -> Table:
    rows = [
        (
            r.model,
            r.words,
            r.score.trainable,
            r.score.parameters,
            operations(r.score.flops),
            r.score.flops,
            float(r.score.seconds),
            r.throughput,
            r.score.peak_memory / 1e6,
            _batch(r.score),
            f"{r.score.size[0]} × {r.score.size[1]}",
            r.score.augmented or "no",
        )
        for r in m.rows
    ]
    return Table(
        key="training-cost",
        title="What each way of training costs",
        columns=(
            *OF_REGIME,
            Column("trainable", "trainable"),
            Column("parameters", "parameters"),
            Column("operations", "training operations"),
            Column("flops", "FLOP", digits=0),
            Column("seconds", "time", "s", digits=1),
            Column("images_per_second", "images/s", digits=1),
            Column("peak_memory", "peak memory", "MB", digits=1),
            Column("batch", "batch"),
            Column("pixels", "pixels"),
            Column("augmented", "augmented"),
        ),
        rows=rows,
        note="Operations: forward and backward, a multiply-add being two; what a frozen front computes is counted once, as it was "
        "computed once. Operations and seconds are of all of it: learning rates tried, every seed, and the test. images/s: in "
        "an epoch of training and validation, where the whole network runs in every epoch.",
    )


def _batch(score: RegimeScore) -> str:
    if score.probe is not None:
        return "all at once"
    return f"{score.batch}" if score.accumulate == 1 else f"{score.batch} in {score.accumulate} passes"


def _learning_rates(m: RegimesMeasures) -> Table:
    scores = [r.score for r in m.rows]
    many = any(len(score.runs) > 1 and score.runs[1].trials for score in scores)
    rows = []
    for score in scores:
        for run in score.runs:
            for trial in sorted(run.trials, key=lambda t: t.lr):
                known = (trial.val_accuracy, trial.val_loss) if np.isfinite(trial.val_loss) else (None, None)
                seed = (run.seed,) if many else ()
                cost = (float(trial.epochs), float(trial.seconds))
                rows.append((score.model, score.words, *seed, trial.lr, *known, *cost, chosen(trial, run)))
    grids = {score.words: sorted({t.lr for r in score.runs for t in r.trials}) for score in scores}
    stated = "; ".join(f"{words}: {', '.join(map(rate, grid))}" for words, grid in grids.items() if grid)
    return Table(
        key="learning-rates",
        title="How the learning rate was chosen",
        columns=(
            *OF_REGIME,
            *((Column("seed", "seed"),) if many else ()),
            Column("lr", "learning rate", digits=5),
            Column("validation_accuracy", "validation accuracy", "share"),
            Column("validation_loss", "validation loss", "nats"),
            Column("epochs", "epochs tried", digits=1),
            Column("seconds", "time", "s", digits=1),
            Column("chosen", "chosen"),
        ),
        rows=rows,
        note=f"By validation accuracy, then loss; no test image was looked at. The grid: {stated}. A dash: training broke down.",
    )


def _trained(m: RegimesMeasures) -> Table:
    return Table(
        key="trained-models",
        title="Where the trained networks are",
        columns=(*OF_REGIME, Column("folder", "folder")),
        rows=m.trained,
        note="Each is a model to every command: visus predict --model FOLDER. $VISUS_HOME is the lab's cache folder.",
    )
