"""Plans that fit the time given, whatever it is, and say what they leave out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.errors import SpecError
from visus.training.budget import SLACK, RegimeBudget, Sizes, Throughput, fit_to, predicted, seconds_of

SIZES = Sizes(3200, 400, 900)
CACHED = Throughput({224: 30.0}, {224: 1e-4}, {224: 1e-4})
SLOW = Throughput(
    {224: 9.0, 160: 6.0, 128: 5.0}, {224: 0.04, 160: 0.02, 128: 0.013}, {224: 0.01, 160: 0.005, 128: 0.003}
)
PACES = {"head": CACHED, "last-block": CACHED, "full": SLOW, "scratch": SLOW}
ASKED = {
    "head": RegimeBudget(10, 224, (1e-3, 1e-2), 10),
    "last-block": RegimeBudget(10, 224, (1e-4, 1e-3), 3),
    "full": RegimeBudget(10, 224, (1e-4, 3e-4, 1e-3), 3),
    "scratch": RegimeBudget(10, 224, (3e-4, 1e-3, 3e-3), 3),
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("90s", 90), ("600", 600), ("1h30m", 5400), ("1.5h", 5400), (None, None), ("none", None)],
)
def test_times_are_read_as_people_write_them(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5m", "0s", "m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="10m"):
        seconds_of(text)


def test_with_time_enough_nothing_changes() -> None:
    plan, left_out = fit_to(ASKED, PACES, SIZES, seconds=1e6)
    assert left_out == ()
    assert {r: (a.epochs, a.size, a.grid, a.trial_epochs) for r, a in plan.items()} == {
        r: (a.epochs, a.size, a.grid, a.trial_epochs) for r, a in ASKED.items()
    }


def test_ten_minutes_are_kept_by_smaller_pictures_first_and_fine_tuning_gets_most() -> None:
    plan, left_out = fit_to(ASKED, PACES, SIZES, seconds=460)
    assert sum(predicted(PACES[r], a, SIZES) for r, a in plan.items()) <= 460
    assert plan["head"] == ASKED["head"]
    assert plan["full"].size == 128
    assert plan["full"].epochs >= 4 > plan["scratch"].epochs >= 1
    assert plan["scratch"].grid == (1e-3,)
    assert any("128 pixels instead of 224" in s for s in left_out)
    assert any("of 10 epochs" in s for s in left_out)


def test_a_little_too_long_costs_epochs_not_pixels() -> None:
    whole = sum(predicted(PACES[r], a, SIZES) for r, a in ASKED.items())
    plan, _ = fit_to(ASKED, PACES, SIZES, seconds=0.8 * whole)
    assert plan["full"].size == 224


def test_the_last_block_is_shortened_before_it_is_given_up() -> None:
    slow = Throughput({224: 20.0}, {224: 2e-3}, {224: 5e-4})
    few = {r: ASKED[r] for r in ("head", "last-block")}
    plan, left_out = fit_to(few, {"head": CACHED, "last-block": slow}, SIZES, seconds=120)
    assert 1 <= plan["last-block"].epochs < 10
    assert f"last-block: {plan['last-block'].epochs} of 10 epochs." in left_out


def test_regimes_fall_away_in_order_and_are_named() -> None:
    plan, left_out = fit_to(ASKED, PACES, SIZES, seconds=200)
    assert "full" in plan
    assert "scratch" not in plan
    assert "scratch: left out, as not even one epoch fits." in left_out
    plan, left_out = fit_to(ASKED, PACES, SIZES, seconds=1.0)
    assert "full" not in plan
    assert any(s.startswith("last-block: left out") for s in left_out)


@settings(max_examples=200, deadline=None)
@given(seconds=st.floats(1, 5000), speed=st.floats(0.05, 20))
def test_whatever_the_time_the_plan_fits_it_or_only_the_head_is_left(seconds: float, speed: float) -> None:
    paces = {
        r: Throughput(p.setup, {k: v * speed for k, v in p.train.items()}, {k: v * speed for k, v in p.held.items()})
        for r, p in PACES.items()
    }
    plan, left_out = fit_to(ASKED, paces, SIZES, seconds=seconds)
    total = sum(predicted(paces[r], a, SIZES) for r, a in plan.items())
    assert total <= SLACK * seconds * (1 + 1e-9) or set(plan) == {"head"}
    assert {s.split(":")[0] for s in left_out} >= set(ASKED) - set(plan)
