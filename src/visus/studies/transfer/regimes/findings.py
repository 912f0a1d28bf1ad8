"""What the training regimes say: findings made from their numbers, and warnings."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from visus.studies.common.pairs import Pair
from visus.studies.common.shared import interval_text, percent
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore, Run, duration, operations, trade_off
from visus.studies.transfer.regimes.tables import rate

# From the least that is trained to the most: each is set against the one before it.
LADDER = ("probe", "head", "last-block", "full")
LEAST_RISE = 0.01  # nats of validation loss: less would read as no rise


def findings(s: Regimes, *, seed: int) -> tuple[str, ...]:
    """Sentences made from the numbers: the trade-off of each model (its rule: `regime_scores.trade_off`), what each step gains, overfitting."""
    said = [_trade(s, model, seed=seed) for model in s.models]
    for model in s.models:
        have = s.of(model)
        steps = list(pairwise(have[r] for r in reversed(LADDER) if r in have))
        if "full" in have and "lora" in have:
            steps.append((have["lora"], have["full"]))
        said += [_gain(s, more, less, seed=seed) for more, less in steps]
        if "full" in have and "scratch" in have:
            said.append(_pretraining(s, have["full"], have["scratch"], seed=seed))
    return (*said, *(sentence for score in s.scores if (sentence := overfitting(score))))


def warnings(s: Regimes) -> tuple[str, ...]:
    """What a reader must know before trusting a number: choices at an edge, training that ended too early, what was cut."""
    said = []
    for score in s.scores:
        name = f"{score.model}, {score.words}"
        if score.probe is not None and score.probe.at_edge:
            said.append(
                f"{name}: validation chose the λ at the edge of the path ({score.probe.lambda_:.1e}); a better one may lie beyond."
            )
        said += _unique(_edge(name, run) for run in score.runs)
        said += _unique(_ending(name, run) for run in score.runs)
        if any(not np.isfinite(run.logits).all() for run in score.runs):
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
    before, after = low.val_loss - low.train_loss, last.val_loss - last.train_loss
    return (
        f"{score.model}: {score.words} overfits after epoch {low.number}: by epoch {last.number} the training loss falls from "
        f"{low.train_loss:.2f} to {last.train_loss:.2f} nats while the validation loss rises from {low.val_loss:.2f} to {last.val_loss:.2f}, "
        f"so that the gap between them goes from {before:+.2f} to {after:+.2f}."
    )


def _trade(s: Regimes, model: str, *, seed: int) -> str:
    found, n = trade_off(s, model, seed=seed), len(s.test_y)
    top, pick = found.top, found.pick
    reached = f"{percent(s.accuracy(pick))} of {n:,} test images right ({interval_text(*s.interval(pick))})"
    if len(pick.runs) > 1:
        each = pick.right(s.test_y).mean(axis=1)
        reached += f", mean of {len(each)} seeds from {100 * each.min():.1f} to {percent(float(each.max()))}"
    head = f"The best trade-off of {model} is {pick.words}"
    if found.rival is None or found.pair is None:
        return f"{head}, the only one trained: {reached} for {_price(pick)}."
    if pick is not top:
        share = f", {_share(pick.flops / top.flops)} of the operations of {top.words}" if np.isfinite(top.flops) else ""
        given = f"{100 * (top.validation - pick.validation):.1f} points against {top.words}"
        why = f"the cheapest that gives up at most a point on validation ({given})"
        return f"{head}, {why}: {reached} for {_price(pick)}{share}. {_beside(s, found.rival, found.pair)}."
    cheaper = any(c.flops < top.flops for c in s.of(model).values())
    why = "every cheaper regime gives up more than a point there" if cheaper else "no other regime is cheaper"
    return (
        f"{head}, which validation prefers; {why}: {reached} for {_price(pick)}. {_beside(s, found.rival, found.pair)}."
    )


def _beside(s: Regimes, rival: RegimeScore, pair: Pair) -> str:
    """How far the pick is from its rival on the test images, or that it is undecided."""
    span = f"{100 * pair.difference:+.1f} points, {_span(s, pair)}"
    against = f"{rival.words} ({percent(s.accuracy(rival))} for {_price(rival)})"
    if pair.low <= 0 <= pair.high:
        return f"On the test images it is undecided whether it differs from {against}: {span}"
    return f"On the test images it is {'ahead of' if pair.difference > 0 else 'behind'} {against}: {span}"


def _price(score: RegimeScore) -> str:
    if not np.isfinite(score.flops):
        return duration(score.seconds)
    return f"{operations(score.flops)} and {duration(score.seconds)}"


def _share(ratio: float) -> str:
    """0.0123 -> '1/81'; 0.83 -> '83 %'."""
    return f"1/{1 / ratio:,.0f}" if 0 < ratio < 0.4 else f"{100 * ratio:.0f} %"


def _span(s: Regimes, pair: Pair) -> str:
    """The interval, and McNemar's p where there is one run each: of several seeds it would be of the first alone."""
    p = f", McNemar p = {pair.p:.2g}" if s.seeds == 1 else ""
    return f"95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}{p}"


def _gain(s: Regimes, more: RegimeScore, less: RegimeScore, *, seed: int) -> str:
    pair = s.compare(more, less, seed=seed)
    cost = f"it took {duration(more.seconds)} against {duration(less.seconds)}"
    a = "head by gradient descent" if (more.regime, less.regime) == ("head", "probe") else more.words
    b = "convex linear probe" if less.regime == "probe" else less.words
    return f"{more.model}: {_verdict(s, a, b, pair)}; {cost}."


def _pretraining(s: Regimes, full: RegimeScore, scratch: RegimeScore, *, seed: int) -> str:
    pair = s.compare(full, scratch, seed=seed)
    return f"{full.model}: {_verdict(s, 'full fine-tuning from pretrained weights', 'the same network trained from scratch', pair)}."


def _verdict(s: Regimes, a: str, b: str, pair: Pair) -> str:
    if pair.low <= 0 <= pair.high:
        return f"{a} against {b} is undecided on these images ({100 * pair.difference:+.1f} points, {_span(s, pair)})"
    word = "gains" if pair.difference > 0 else "loses"
    return f"{a} {word} {100 * abs(pair.difference):.1f} points against {b} ({_span(s, pair)})"


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
        kept = run.epochs[run.best].number
        return f"{name}: stopped early after epoch {last}, as validation had not improved since epoch {kept}."
    if run.stopped:
        return f"{name}: training ended after epoch {last} ({run.stopped}), before all that was planned."
    if run.best == len(run.epochs) - 1:
        return f"{name}: the last epoch ({last}) was the best on validation; longer training may reach more."
    return ""


def _unique(sentences: Iterable[str]) -> list[str]:
    return [sentence for sentence in dict.fromkeys(sentences) if sentence]
