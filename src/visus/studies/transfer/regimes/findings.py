"""What the training regimes say: the trade-off, what each step gains, overfitting, and what to know before trusting it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from visus.formats import percent
from visus.result import Finding, Metric, key_of
from visus.studies.common.comparisons import Comparison
from visus.studies.transfer.regimes.measure import RegimeRow, RegimesMeasures, Step, Trade
from visus.studies.transfer.regimes.scores import RegimeScore, Run, duration, operations, rate

LEAST_RISE = 0.01  # nats of validation loss: less would read as no rise
COMPARED = ("front", "regimes-compared")


def metrics(m: RegimesMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        label = f"{r.words}, {r.model}"
        found.append(r.accuracy.metric(_key(r, "accuracy"), label=label))
        found += [
            Metric(_key(r, "balanced-accuracy"), r.balanced_accuracy, n=m.n, unit="share", better="higher"),
            Metric(_key(r, "nll"), r.nll, n=m.n, unit="nats", better="lower"),
            Metric(
                _key(r, "validation-accuracy"), r.score.validation, unit="share", better="higher", split="validation"
            ),
            Metric(_key(r, "flops"), r.score.flops, unit="FLOP", better="lower", split="train"),
            Metric(_key(r, "seconds"), r.score.seconds, unit="s", better="lower", split="train"),
        ]
    found += [_difference(m, t.comparison, t.pick, t.rival) for t in m.trades if t.comparison and t.rival]
    return tuple(found)


def headline(m: RegimesMeasures) -> tuple[str, ...]:
    """The accuracy of the first model's best trade-off, and how far it is from its rival."""
    trade = m.trades[0]
    keys = [_key(trade.pick, "accuracy")]
    return (*keys, _minus(trade.pick, trade.rival)) if trade.rival else tuple(keys)


def _key(r: RegimeRow, *parts: str) -> str:
    return key_of(r.model, "regime", r.regime, *parts)


def _minus(a: RegimeRow, b: RegimeRow) -> str:
    return _key(a, "minus", b.regime)


def _difference(m: RegimesMeasures, c: Comparison, a: RegimeRow, b: RegimeRow) -> Metric:
    return Metric(_minus(a, b), c.difference, c.low, c.high, m.n, "points", "higher", label=f"{a.words} − {b.words}")


def answer(m: RegimesMeasures) -> str:
    """The study's one sentence."""
    trade = m.trades[0]
    text = f"The best trade-off is {trade.pick.words}: {percent(trade.pick.accuracy.value)} of {m.n:,} test images"
    if trade.comparison is None or trade.rival is None:
        return text + "."
    if trade.comparison.undecided:
        return f"{text}; whether it differs from {trade.rival.words} is undecided."
    return f"{text}, {100 * trade.comparison.difference:+.1f} points from {trade.rival.words}."


def findings(m: RegimesMeasures) -> tuple[Finding, ...]:
    """The trade-off of each model (its rule: `measure.trade_off`), what each step gains, overfitting, cautions."""
    said = [f for trade in m.trades for f in _trade(m, trade)]
    said += [_gain(m, step) for step in m.steps]
    said += [Finding(text, shows=("loss",)) for r in m.rows if (text := overfitting(r.score))]
    return (*said, *(Finding(text, kind="caution") for text in cautions(m)))


def _trade(m: RegimesMeasures, trade: Trade) -> list[Finding]:
    top, pick, rival = trade.top, trade.pick, trade.rival
    key = _key(pick, "accuracy")
    head = f"The best trade-off of {pick.model} is {pick.words}"
    if rival is None or trade.comparison is None:
        why = ", the only one trained"
    elif pick is not top:
        given = f"{100 * (top.score.validation - pick.score.validation):.1f} points against {top.words}"
        why = f", the cheapest that gives up at most a point on validation ({given})"
    else:
        no = "every cheaper regime gives up more than a point there" if trade.cheaper else "no other regime is cheaper"
        why = f", which validation prefers; {no}"
    said = [Finding(f"{head}{why}.", (_key(pick, "validation-accuracy"),), COMPARED[:1])]
    reached = f"It gets {pick.accuracy.text()} for {_price(pick.score)}"
    if rival is not None and pick is not top and np.isfinite(top.score.flops):
        reached += f", {_share(pick.score.flops / top.score.flops)} of the operations of {top.words}"
    said.append(Finding(f"{reached}.", (key,), ("regimes", "front")))
    if pick.spread.n > 1:
        span = f"{100 * pick.spread.lowest:.1f} to {percent(pick.spread.highest)}"
        said.append(Finding(f"That is the mean of {pick.spread.n} seeds, from {span}.", (key,), ("regimes",)))
    if rival is not None and trade.comparison is not None:
        said.append(_beside(rival, trade.comparison, pick))
    return said


def _beside(rival: RegimeRow, c: Comparison, pick: RegimeRow) -> Finding:
    """How far the pick is from its rival on the test images, or that it is undecided."""
    against = f"{rival.words} ({percent(rival.accuracy.value)} for {_price(rival.score)})"
    if c.undecided:
        text = f"On the test images it is undecided whether it differs from {against}: {c.text()}."
    else:
        text = f"On the test images it is {'ahead of' if c.difference > 0 else 'behind'} {against}: {c.text()}."
    return Finding(text, (_minus(pick, rival),), ("regimes-compared",), c.kind)


def _price(score: RegimeScore) -> str:
    if not np.isfinite(score.flops):
        return duration(score.seconds)
    return f"{operations(score.flops)} and {duration(score.seconds)}"


def _share(ratio: float) -> str:
    """0.0123 -> '1/81'; 0.83 -> '83 %'."""
    return f"1/{1 / ratio:,.0f}" if 0 < ratio < 0.4 else f"{100 * ratio:.0f} %"


def _gain(m: RegimesMeasures, step: Step) -> Finding:
    more, less = step.more, step.less
    a = "head by gradient descent" if (more.regime, less.regime) == ("head", "probe") else more.words
    b = "convex linear probe" if less.regime == "probe" else less.words
    cost = f"; it took {duration(more.score.seconds)} against {duration(less.score.seconds)}"
    if less.regime == "scratch":
        a, b, cost = "full fine-tuning from pretrained weights", "the same network trained from scratch", ""
    return Finding(f"{more.model}: {_verdict(a, b, step.comparison)}{cost}.", (), COMPARED, step.comparison.kind)


def _verdict(a: str, b: str, c: Comparison) -> str:
    if c.undecided:
        return f"{a} against {b} is undecided on these images ({c.text()})"
    span = c.ahead.text().split(", ", 1)[1]
    return f"{a} {'gains' if c.difference > 0 else 'loses'} {100 * abs(c.difference):.1f} points against {b} ({span})"


def cautions(m: RegimesMeasures) -> tuple[str, ...]:
    """What a reader must know before trusting a number: choices at an edge, training that ended too early, what was cut."""
    said = []
    for r in m.rows:
        score = r.score
        name = f"{score.model}, {score.words}"
        if score.probe is not None and score.probe.at_edge:
            said.append(
                f"{name}: validation chose the λ at the edge of the path ({score.probe.lambda_:.1e}); a better one may lie beyond."
            )
        said += _unique(_edge(name, run) for run in score.runs)
        said += _unique(_ending(name, run) for run in score.runs)
        if not r.finite:
            said.append(f"{name}: some logits are not finite; training broke down, and NLL and ECE are unknown.")
        if score.note:
            said.append(f"{name}: {score.note}")
    return tuple(said)


def overfitting(score: RegimeScore) -> str:
    """A sentence when training went on to fit its images at the expense of others, '' when it did not.

    Overfitting here: after the epoch with the lowest validation loss, that loss ended higher while the training loss ended lower,
    in the first run. Only changes are compared: the level of the training loss depends on augmentation and smoothing.
    """
    run = score.runs[0]
    losses = np.array([e.val_loss for e in run.epochs])
    if not np.isfinite(losses).any():
        return ""
    low, last = run.epochs[int(np.nanargmin(losses))], run.epochs[-1]
    if not (last.val_loss - low.val_loss >= LEAST_RISE and last.train_loss < low.train_loss):
        return ""
    return (
        f"{score.model}: {score.words} overfits after epoch {low.number}: by epoch {last.number} the training loss falls from "
        f"{low.train_loss:.2f} to {last.train_loss:.2f} nats, the validation loss rises from {low.val_loss:.2f} to {last.val_loss:.2f}."
    )


def _edge(name: str, run: Run) -> str:
    grid = sorted({t.lr for t in run.trials})
    if len(grid) == 1:
        return f"{name}: a single learning rate was tried ({rate(grid[0])}); another may be better."
    if grid and run.lr in (grid[0], grid[-1]):
        end = "lower" if run.lr == grid[0] else "upper"
        return f"{name}: validation chose the learning rate at the {end} edge of the grid ({rate(run.lr)}); a better one may lie beyond."
    return ""


def _ending(name: str, run: Run) -> str:
    if not run.epochs:
        return ""
    last = run.epochs[-1].number
    if run.stopped == "early stopping":
        best = run.epochs[run.best].number
        return f"{name}: stopped early after epoch {last}, as validation had not improved since epoch {best}."
    if run.stopped:
        return f"{name}: training ended after epoch {last} ({run.stopped}), before all that was planned."
    if run.best == len(run.epochs) - 1:
        return f"{name}: the last epoch ({last}) was the best on validation; longer training may reach more."
    return ""


def _unique(sentences: Iterable[str]) -> list[str]:
    return [sentence for sentence in dict.fromkeys(sentences) if sentence]
