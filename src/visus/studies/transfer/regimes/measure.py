"""From the scores of every regime to what is told of them: each number and each comparison once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy.special import softmax

from visus.measures.calibration import ece, nll
from visus.measures.confusion import balanced_accuracy
from visus.measures.front import pareto
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.proportion import Proportion, of_value
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore, cost
from visus.training.regimes import WHOLE

WORTH = 0.01  # what a cheaper regime may give up of validation accuracy
# From the least that is trained to the most: each is set against the one before it.
LADDER = ("probe", "head", "last-block", "full")


@dataclass(frozen=True)
class SeedSpread:
    """Test accuracy over seeds: how many, the lowest, the highest, their standard deviation (n - 1; None of one)."""

    n: int
    lowest: float
    highest: float
    deviation: float | None


@dataclass(frozen=True)
class RegimeRow:
    """One regime of one model on the test images, means over its seeds. nll in nats and ece over 15 bins: NaN where a logit is not finite.

    throughput: images trained on a second, in the median epoch; None where an epoch runs on cached features, or the number is unknown.
    """

    score: RegimeScore
    accuracy: Proportion
    spread: SeedSpread
    balanced_accuracy: float
    nll: float
    ece: float
    throughput: float | None
    finite: bool

    @property
    def model(self) -> str:
        return self.score.model

    @property
    def regime(self) -> str:
        return self.score.regime

    @property
    def words(self) -> str:
        return self.score.words


@dataclass(frozen=True)
class Trade:
    """The best trade-off of a model, chosen on validation. top: the regime that validation prefers; pick: the cheapest that gives up
    little there, which may be top itself. rival: what pick is set against on the test images, top or, where pick is top, the regime
    that validation puts next (None: there is no other). comparison: pick minus rival on the test images."""

    top: RegimeRow
    pick: RegimeRow
    rival: RegimeRow | None
    comparison: Comparison | None
    cheaper: bool  # whether another regime of the model is cheaper than top


@dataclass(frozen=True)
class Step:
    """One more thing trained against one less, of a model: more minus less on the test images."""

    more: RegimeRow
    less: RegimeRow
    comparison: Comparison


@dataclass(frozen=True)
class RegimesMeasures:
    """rows: in the order trained. within: every two regimes of a model; across: every two models in a regime. trades: one a model. steps: each
    regime against the one before it, and full against scratch. fronts: by cost ('flops', 'seconds'), whether each row is on the front.
    trained: (model, regime, folder)."""

    rows: tuple[RegimeRow, ...]
    n: int
    seeds: int
    within: tuple[Comparison, ...]
    across: tuple[Comparison, ...]
    trades: tuple[Trade, ...]
    steps: tuple[Step, ...]
    fronts: Mapping[str, tuple[tuple[float, ...], tuple[bool, ...]]]
    trained: tuple[tuple[str, str, str], ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.model for r in self.rows))

    def name(self, row: RegimeRow) -> str:
        """'last block', or 'model · last block' where there are several models."""
        return row.words if len(self.models) == 1 else f"{row.model} · {row.words}"


def measure(s: Regimes, *, seed: int, trained: Sequence[tuple[str, str, str]] = ()) -> RegimesMeasures:
    """Every accuracy, comparison and choice. seed: of the bootstrap. trained: (model, regime, folder) of the networks kept."""
    rows = {(c.model, c.regime): _row(s, c) for c in s.scores}
    right = {key: r.score.right(s.test_y) for key, r in rows.items()}
    pairs: dict[tuple[str, str, str], Comparison] = {}
    for m in s.models:
        for a, b in combinations(s.of(m), 2):
            names = (s.name(rows[m, a].score), s.name(rows[m, b].score))
            pairs[m, a, b] = compare(right[m, a], right[m, b], names=names, seed=seed)

    def against(model: str, a: str, b: str) -> Comparison:
        return pairs[model, a, b] if (model, a, b) in pairs else pairs[model, b, a].reversed()

    across = [
        compare(
            right[a, regime],
            right[b, regime],
            names=(s.name(rows[a, regime].score), s.name(rows[b, regime].score)),
            seed=seed,
        )
        for regime in dict.fromkeys(c.regime for c in s.scores)
        for a, b in combinations([c.model for c in s.scores if c.regime == regime], 2)
    ]
    trades, steps = [], []
    for m in s.models:
        mine = {r: rows[m, r] for r in s.of(m)}
        top, pick, rival = trade_off(s, m)
        trades.append(
            Trade(
                mine[top.regime],
                mine[pick.regime],
                None if rival is None else mine[rival.regime],
                None if rival is None else against(m, pick.regime, rival.regime),
                any(c.flops < top.flops for c in s.of(m).values()),
            )
        )
        steps += [Step(mine[a], mine[b], against(m, a, b)) for a, b in _ladder(list(mine))]
    accuracy = np.array([r.accuracy.value for r in rows.values()])
    fronts = {}
    for what in ("flops", "seconds"):
        x = np.array([getattr(r.score, what) for r in rows.values()], dtype=np.float64)
        # A logarithmic axis has no place for nothing, and what was not counted has no place at all.
        x[~((x > 0) & np.isfinite(x))] = np.nan
        fronts[what] = (tuple(x.tolist()), tuple(pareto(x, accuracy).tolist()))
    return RegimesMeasures(
        rows=tuple(rows.values()),
        n=len(s.test_y),
        seeds=s.seeds,
        within=family(list(pairs.values())),
        across=family(across),
        trades=tuple(trades),
        steps=tuple(steps),
        fronts=fronts,
        trained=tuple(trained),
    )


def trade_off(s: Regimes, model: str) -> tuple[RegimeScore, RegimeScore, RegimeScore | None]:
    """(top, pick, rival) of a model: the regime with the fewest training operations among those that give up at most one point of validation
    accuracy.

    The point is counted from the highest validation accuracy of the model's regimes. Test images have no say in it: they are
    asked once, how far the pick is from its rival (see Trade). A regime whose operations are unknown is never the cheaper one.
    """
    top = s.best(model)
    # 1e-9: a loss of exactly one point is not to turn on the rounding of a mean.
    near = [c for c in s.of(model).values() if top.validation - c.validation <= WORTH + 1e-9]
    pick = min((c for c in near if cost(c) < cost(top)), key=cost, default=top)
    others = [c for c in s.of(model).values() if c is not pick]
    rival = top if pick is not top else max(others, key=lambda c: (c.validation, -cost(c)), default=None)
    return top, pick, rival


def _ladder(have: Sequence[str]) -> list[tuple[str, str]]:
    """Which regime is set against which, by name."""
    steps = list(pairwise(r for r in reversed(LADDER) if r in have))
    if "full" in have and "lora" in have:
        steps.append(("lora", "full"))
    if "full" in have and "scratch" in have:
        steps.append(("full", "scratch"))
    return steps


def _row(s: Regimes, score: RegimeScore) -> RegimeRow:
    right, n = score.right(s.test_y), len(s.test_y)
    each = right.mean(axis=1)
    balanced, likelihood, calibration = _quality(s, score)
    return RegimeRow(
        score=score,
        # Runs share the test images, so that more runs do not make the interval narrower.
        accuracy=of_value(float(right.mean()), n),
        spread=SeedSpread(
            len(each), float(each.min()), float(each.max()), float(each.std(ddof=1)) if len(each) > 1 else None
        ),
        balanced_accuracy=balanced,
        nll=likelihood,
        ece=calibration,
        throughput=_throughput(s, score),
        finite=all(np.isfinite(run.logits).all() for run in score.runs),
    )


def _quality(s: Regimes, score: RegimeScore) -> tuple[float, float, float]:
    """Balanced accuracy, NLL in nats and ECE over 15 bins on the test images, means over runs; NLL and ECE NaN where a logit is not finite."""
    rows = []
    for run, predicted in zip(score.runs, score.predictions, strict=True):
        balanced, row = balanced_accuracy(s.test_y, predicted, n_classes=len(s.classes)), (float("nan"), float("nan"))
        if np.isfinite(run.logits).all():
            p = softmax(run.logits.astype(np.float64), axis=1)
            row = nll(p, s.test_y), ece(p, s.test_y)
        rows.append((balanced, *row))
    recall, likelihood, calibration = np.mean(rows, axis=0).tolist()
    return recall, likelihood, calibration


def _throughput(s: Regimes, score: RegimeScore) -> float | None:
    whole = score.regime in WHOLE or score.augmented == "every epoch"
    seconds = [e.seconds for run in score.runs for e in run.epochs]
    if not whole or s.fitted is None or not seconds or np.median(seconds) <= 0:
        return None
    return float(s.fitted / np.median(seconds))
