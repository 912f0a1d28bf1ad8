"""The regimes' tables against slow loops and closed forms."""

from __future__ import annotations

from dataclasses import replace
from math import comb, exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from tests.studies.transfer import regime_sample as sample

from visus.errors import DataError
from visus.result import Table
from visus.studies.transfer import regimes
from visus.studies.transfer.regimes.measure import measure
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore, Trial, duration, operations

Y, CLASSES = sample.Y, sample.CLASSES


def tables(s: Regimes, *, seed: int) -> dict[str, Table]:
    return {table.key: table for table in regimes.tables(measure(s, seed=seed))}


def column(table: Table, name: str) -> list[Any]:
    return list(table.column(name))


def _slow(z: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Accuracy, macro recall, NLL and ECE of logits, one image after the other."""
    hits, nll, seen, found = 0, 0.0, [0] * len(CLASSES), [0] * len(CLASSES)
    bins: list[list[tuple[bool, float]]] = [[] for _ in range(15)]
    for row, label in zip(z.astype(float).tolist(), y.tolist(), strict=True):
        total = sum(exp(v) for v in row)
        p = [exp(v) / total for v in row]
        said = p.index(max(p))
        hits += said == label
        seen[label] += 1
        found[label] += said == label
        nll -= log(p[label])
        at = next(b for b in range(15) if b / 15 < max(p) <= (b + 1) / 15 or b == 14)
        bins[at].append((said == label, max(p)))
    ece = sum(abs(sum(r for r, _ in b) - sum(c for _, c in b)) for b in bins) / len(y)
    return hits / len(y), float(np.mean([f / s for f, s in zip(found, seen, strict=True)])), nll / len(y), ece


def _wilson(p: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_regimes_reach_equals_slow_loops(seeds: int) -> None:
    s = sample.study(("a", "b"), seeds)
    table = tables(s, seed=0)["regimes"]
    for i, score in enumerate(s.scores):
        each = np.array([_slow(run.logits, s.test_y) for run in score.runs])
        accuracy, recall, nll, ece = each.mean(axis=0)
        for name, expected in (("accuracy", accuracy), ("balanced_accuracy", recall), ("nll", nll), ("ece", ece)):
            assert column(table, name)[i] == pytest.approx(expected, rel=1e-6), (name, score.regime)
        low, high = _wilson(round(accuracy * len(Y)) / len(Y), len(Y))
        assert (column(table, "low")[i], column(table, "high")[i]) == pytest.approx((low, high), rel=1e-9)
        assert column(table, "validation")[i] == pytest.approx(np.mean([r.epochs[2].val_accuracy for r in score.runs]))
        assert column(table, "best_epoch")[i] == 3
        assert column(table, "epochs")[i] == 4
        assert column(table, "chosen")[i] == "lr 0.001"
        if seeds > 1:
            tops = each[:, 0].tolist()
            spread = sqrt(sum((t - accuracy) ** 2 for t in tops) / (seeds - 1))
            assert column(table, "lowest")[i] == min(tops)
            assert column(table, "highest")[i] == max(tops)
            assert column(table, "sd")[i] == pytest.approx(spread)
            assert column(table, "seeds")[i] == seeds
    assert ("sd" in [c.key for c in table.columns]) == (seeds > 1)


def test_pairs_are_all_there_with_exact_tests_and_holms_correction() -> None:
    s = sample.study(("a", "b"))
    found = tables(s, seed=3)
    within, across = found["regimes-compared"], found["regimes-across-models"]
    assert len(within.rows) == 2 * comb(6, 2)
    assert len(across.rows) == 6
    by_name = {s.name(score): score for score in s.scores}
    ps = []
    for row in within.rows:
        a, b = (by_name[name].runs[0].logits.argmax(1) == s.test_y for name in row[:2])
        only_a, only_b = int(sum(a & ~b)), int(sum(b & ~a))
        m = only_a + only_b
        tail = sum(comb(m, k) for k in range(min(only_a, only_b) + 1)) / 2**m
        ps.append(min(1.0, 2 * tail))
        assert row[2] == pytest.approx(a.mean() - b.mean())
        assert row[3] < row[2] < row[4]
        assert row[5:7] == (only_a, only_b)
        assert row[7] == pytest.approx(ps[-1], rel=1e-9)
    order, running = np.argsort(ps, kind="stable"), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(ps) - rank) * ps[i]))
        assert within.rows[i][8] == pytest.approx(running, rel=1e-9)


def test_several_seeds_are_compared_by_their_means() -> None:
    a = sample.score("full", [sample.run(sample.mixed(p, seed=k), val=0.9, seed=k) for k, p in enumerate((0.9, 0.8))])
    b = sample.score("head", [sample.run(sample.mixed(0.7, seed=9), val=0.7)])
    s = sample.regimes([a, b])
    (row,) = tables(s, seed=0)["regimes-compared"].rows
    assert row[2] == pytest.approx(0.85 - 0.7)
    first, other = a.runs[0].logits.argmax(1) == s.test_y, b.runs[0].logits.argmax(1) == s.test_y
    assert row[5] == sum(first & ~other)
    # The interval is that of the mean over seeds, resampled image by image.
    delta = (np.mean([r.logits.argmax(1) == s.test_y for r in a.runs], axis=0) - other).astype(float)
    rng = np.random.default_rng(1)
    means = [delta[rng.integers(0, len(delta), len(delta))].mean() for _ in range(4000)]
    assert row[3:5] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.0035)


def test_costs_are_stated_and_images_a_second_only_where_the_network_runs() -> None:
    table = tables(sample.study(), seed=0)["training-cost"]
    by = {row["regime"]: row for row in table.records()}
    assert by["full fine-tuning"]["images_per_second"] == pytest.approx(600 / 2.0)
    assert by["head"]["images_per_second"] is None
    assert by["last block"]["operations"] == "40.0 TFLOP"
    assert by["last block"]["flops"] == 4e13
    assert by["head"]["peak_memory"] == 512.0


def test_learning_rates_list_every_trial_and_name_the_chosen() -> None:
    broken = (*sample.run(sample.first(0.8), val=0.8).trials, Trial(1e-1, 0.0, float("inf"), 0.2, 1.0))
    s = sample.regimes([sample.score("head", [sample.run(sample.first(0.8), val=0.8, trials=broken)])])
    table = tables(s, seed=0)["learning-rates"]
    assert column(table, "lr") == [0.0003, 0.001, 0.003, 0.1]
    assert column(table, "chosen") == [False, True, False, False]
    assert column(table, "validation_accuracy")[-1] is None
    assert "0.0003, 0.001, 0.003, 0.1" in table.note


def test_a_convex_probe_stands_in_the_same_table_with_its_own_numbers() -> None:
    from visus.measures.probe import linear_probe
    from visus.studies.transfer.evaluation import LayerScore

    rng = np.random.default_rng(0)
    y = np.arange(300) % len(CLASSES)
    x = (rng.normal(size=(300, 6)) + 1.2 * np.eye(4, 6)[y]).astype(np.float32)
    rows = np.arange(300)
    probe = linear_probe(
        x, y, folds=[(rows[:150], rows[150:200])], train=rows[:200], test=rows[200:], n_classes=len(CLASSES)
    )
    layer = LayerScore("tiny", "late", "late", 6, probe, None, None, {1: 0.5}, 1, y[200:], 0.0, 0.0)
    score = RegimeScore.from_probe(layer, flops=1e9, seconds=2.0, size=(64, 64), parameters=528)
    assert score.trainable == 7 * 4
    s = Regimes("planted", CLASSES, y[200:], (score,), fitted=200)
    found = tables(s, seed=0)
    (values,) = found["regimes"].records()
    for name, expected in (
        ("accuracy", probe.top1), ("balanced_accuracy", probe.balanced_accuracy), ("nll", probe.nll), ("ece", probe.ece),
        ("validation", probe.validation_accuracy), ("epochs", None), ("best_epoch", None),
    ):  # fmt: skip
        assert values[name] == (expected if expected is None else pytest.approx(expected, rel=1e-5)), name
    assert values["chosen"].startswith("λ ")
    assert np.array_equal(score.predictions[0], probe.predictions)
    assert set(found) == {"regimes", "training-cost"}


def test_logits_that_broke_down_leave_gaps_and_no_crash() -> None:
    z = sample.logits(sample.first(0.5))
    z[3] = np.nan
    s = sample.regimes([sample.score("full", [sample.run(sample.first(0.5), val=0.5, logits=z)])])
    table = tables(s, seed=0)["regimes"]
    assert column(table, "nll") == [None]
    assert 0.49 < column(table, "accuracy")[0] < 0.51


# The rule of the trade-off, on images where each better regime is right wherever a worse one is.


def _ladder(reach: dict[str, float], n: int = 400, **cost: float) -> Regimes:
    scores = [
        sample.score(r, [sample.run(sample.first(p, n), val=p)], flops=cost.get(r, sample.COST[r]))
        for r, p in reach.items()
    ]
    return sample.regimes(scores)


@pytest.mark.parametrize(
    ("reach", "cost", "pick"),
    [
        ({"head": 0.80, "last-block": 0.90, "full": 0.9025}, {}, "last-block"),  # a quarter of a point behind
        ({"head": 0.80, "last-block": 0.85, "full": 0.90}, {}, "full"),  # both give up more than a point
        ({"head": 0.8925, "last-block": 0.8975, "full": 0.90}, {}, "head"),
        ({"head": 0.89, "full": 0.90}, {}, "head"),  # a point exactly
        ({"head": 0.8899, "full": 0.90}, {}, "full"),
        ({"head": 0.91, "full": 0.90}, {}, "head"),  # validation prefers the cheapest
        ({"head": 0.90, "full": 0.9025}, {"head": float("nan")}, "full"),  # unknown cost is never the cheaper one
        ({"full": 0.9}, {}, "full"),
    ],
)
def test_the_trade_off_takes_the_cheapest_that_gives_up_little_on_validation(
    reach: dict[str, float], cost: dict[str, float], pick: str
) -> None:
    s = _ladder(reach, **cost)
    found = measure(s, seed=0).trades[0]
    assert found.pick.regime == pick
    assert (found.rival is None) == (found.comparison is None) == (len(reach) == 1)
    if found.pick is not found.top:
        assert found.rival is found.top


@pytest.mark.parametrize("test", [(0.5, 0.9), (0.9, 0.5), (0.7, 0.7)])
def test_test_images_have_no_say_in_the_trade_off(test: tuple[float, float]) -> None:
    # On test the head is clearly behind, clearly ahead, or equal: its validation alone keeps it out, or lets it in.
    for val, pick in ((0.85, "full"), (0.895, "head")):
        runs = {"head": sample.run(sample.first(test[0]), val=val), "full": sample.run(sample.first(test[1]), val=0.90)}
        s = sample.regimes([sample.score(r, [one]) for r, one in runs.items()])
        found = measure(s, seed=0).trades[0]
        assert found.pick.regime == pick
        assert found.comparison is not None
        sign = 1 if pick == "head" else -1
        assert found.comparison.difference == pytest.approx(sign * (test[0] - test[1]))


def test_where_the_dearest_is_picked_its_rival_is_what_validation_puts_next() -> None:
    s = _ladder({"head": 0.70, "last-block": 0.80, "lora": 0.75, "full": 0.90})
    found = measure(s, seed=0).trades[0]
    assert found.pick is found.top
    assert found.rival is not None
    assert found.rival.score is s.of("tiny")["last-block"]


def test_test_images_have_no_say_in_which_regime_is_best() -> None:
    s = sample.study()
    best = s.best("tiny").regime
    assert best == "full"
    for shift in range(1, len(s.scores)):
        swapped = tuple(
            replace(c, runs=(replace(c.runs[0], logits=s.scores[(i + shift) % len(s.scores)].runs[0].logits),))
            for i, c in enumerate(s.scores)
        )
        again = replace(s, scores=swapped)
        assert again.best("tiny").regime == best
        assert measure(again, seed=0).trades[0].top.regime == best


def test_what_does_not_fit_is_named_in_one_line() -> None:
    one = sample.score("full", [sample.run(sample.first(0.5), val=0.5)])
    with pytest.raises(DataError, match="at least one run"):
        sample.score("full", [])
    with pytest.raises(DataError, match="no regime"):
        Regimes("x", CLASSES, Y, ())
    with pytest.raises(DataError, match="399 test images"):
        Regimes("x", CLASSES, Y[:399], (one,))
    with pytest.raises(DataError, match="two scores"):
        Regimes("x", CLASSES, Y, (one, one))


def test_quantities_are_read_by_people() -> None:
    assert [operations(v) for v in (3.14e12, 9.9996e11, 2.5e9, 1.5e17, float("nan"), 12.0)] == [
        "3.1 TFLOP", "1.0 TFLOP", "2.5 GFLOP", "150 PFLOP", "–", "12 FLOP",
    ]  # fmt: skip
    assert [duration(v) for v in (3.21, 754.0, 9000.0)] == ["3.2 s", "12.6 min", "2.5 h"]
