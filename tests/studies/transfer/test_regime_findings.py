"""What the regimes' findings and warnings say, where the answer is planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.studies.transfer import regime_sample as sample

from visus.result import Finding
from visus.studies.transfer import regimes
from visus.studies.transfer.regimes.findings import overfitting
from visus.studies.transfer.regimes.measure import measure
from visus.studies.transfer.regimes.scores import Regimes, Trial


def findings(s: Regimes) -> tuple[Finding, ...]:
    return regimes.findings(measure(s, seed=0))


def sentences(s: Regimes) -> tuple[str, ...]:
    return tuple(f.text for f in findings(s) if f.kind != "caution")


def warnings(s: Regimes) -> tuple[str, ...]:
    return tuple(f.text for f in findings(s) if f.kind == "caution")


def _about(said: tuple[str, ...], *words: str) -> str:
    (found,) = [sentence for sentence in said if all(word in sentence for word in words)]
    return found


def _ladder(reach: dict[str, float], **more: Any) -> Regimes:
    return sample.regimes(
        [sample.score(r, [sample.run(sample.first(p), val=p)], **more.get(r, {})) for r, p in reach.items()]
    )


def test_the_trade_off_names_accuracy_interval_price_and_its_rival_on_test() -> None:
    m = measure(_ladder({"head": 0.80, "last-block": 0.90, "full": 0.9025}), seed=0)
    best, reached, rival = regimes.findings(m)[:3]
    assert best.text == (
        "The best trade-off of tiny is last block, the cheapest that gives up at most a point on validation (0.2 points against full "
        "fine-tuning)."
    )
    assert reached.text.startswith("It gets 90.0 % of 400 test images (95 % interval ")
    assert reached.text.endswith("for 40.0 TFLOP and 13.3 min, 1/22 of the operations of full fine-tuning.")
    assert rival.kind == "undecided"
    assert (
        "undecided whether it differs from full fine-tuning (90.2 % for 900 TFLOP and 5.0 h): -0.2 points" in rival.text
    )
    pair = m.trades[0].comparison
    assert pair is not None
    assert f"95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}" in rival.text


@pytest.mark.parametrize(
    ("head", "full", "says"), [(0.9, 0.8, "ahead of"), (0.8, 0.9, "behind"), (0.9, 0.9, "undecided")]
)
def test_what_the_test_images_say_of_the_pick_is_said_whatever_it_is(head: float, full: float, says: str) -> None:
    # Validation lets the head give up half a point; the test images are asked once and may contradict it.
    runs = {"head": sample.run(sample.first(head), val=0.895), "full": sample.run(sample.first(full), val=0.90)}
    said = sentences(sample.regimes([sample.score(r, [one]) for r, one in runs.items()]))
    assert "of tiny is head, " in said[0]
    assert [word for word in ("ahead of", "behind", "undecided") if word in said[2]] == [says]


@pytest.mark.parametrize(
    ("reach", "why"),
    [
        (
            {"head": 0.5, "full": 0.9},
            "which validation prefers; every cheaper regime gives up more than a point there.",
        ),
        ({"head": 0.9, "full": 0.5}, "which validation prefers; no other regime is cheaper."),
        ({"full": 0.9}, "the only one trained."),
    ],
)
def test_where_nothing_cheaper_will_do(reach: dict[str, float], why: str) -> None:
    said = sentences(_ladder(reach))
    assert why in said[0]
    assert any("On the test images it is ahead of" in text for text in said) == (len(reach) > 1)


def test_every_step_is_set_against_the_one_before_it() -> None:
    reach = {"head": 0.80, "last-block": 0.80, "lora": 0.85, "full": 0.90, "scratch": 0.40}
    said = sentences(_ladder(reach))
    assert "gains 10.0 points" in _about(said, "tiny: full fine-tuning gains", "against last block", "it took")
    assert _about(said, "last block against head is undecided", "+0.0 points")
    assert "loses 5.0 points" in _about(said, "LoRA", "against full fine-tuning")
    assert "gains 50.0 points" in _about(said, "from pretrained weights", "from scratch")
    assert not [x for x in said if "convex" in x]


def test_the_head_is_set_against_the_convex_probe_with_what_both_took() -> None:
    # A score of regime 'probe' is enough for the words; the probe's own numbers are tested with the tables.
    s = _ladder({"probe": 0.85, "head": 0.80}, probe={"seconds": 1.5}, head={"seconds": 30.0})
    text = _about(sentences(s), "head by gradient descent", "convex linear probe")
    assert "loses 5.0 points" in text
    assert text.endswith("it took 30.0 s against 1.5 s.")


def test_every_model_gets_its_own_sentences_and_seeds_their_range() -> None:
    said = sentences(sample.study(("a", "b"), seeds=2))
    assert _about(said, "trade-off of a ")
    assert any("the mean of 2 seeds, from" in text for text in said)
    # McNemar's test would be of the first seed alone, beside an interval of the mean.
    assert not [sentence for sentence in said if "McNemar" in sentence]


@pytest.mark.parametrize(
    ("val_loss", "train_loss", "says"),
    [
        ([0.9, 0.5, 0.6, 0.8], [1.0, 0.6, 0.3, 0.1], "after epoch 2: by epoch 4"),
        ([0.9, 0.7, 0.6, 0.5], [1.0, 0.6, 0.3, 0.1], ""),  # the gap grows, but both still fall
        ([0.9, 0.5, 0.6, 0.8], [1.0, 0.6, 0.7, 0.9], ""),  # both rise: unstable, not overfitted
        ([0.9, 0.5, 0.501, 0.502], [1.0, 0.6, 0.3, 0.1], ""),  # too little to print
        ([float("nan")] * 4, [1.0] * 4, ""),
    ],
)
def test_overfitting_is_told_from_how_both_losses_move(
    val_loss: list[float], train_loss: list[float], says: str
) -> None:
    history = sample.epochs([0.5, 0.6, 0.7, 0.65], val_loss=val_loss, train_loss=train_loss)
    text = overfitting(sample.score("full", [sample.run(sample.first(0.7), val=0.7, epochs=history)]))
    assert bool(text) == bool(says)
    if says:
        assert says in text
        assert "from 0.60 to 0.10 nats" in text
        assert "from 0.50 to 0.80" in text


def test_a_clean_study_warns_of_nothing() -> None:
    assert warnings(sample.study(("a", "b"), seeds=2)) == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 3e-3}, "upper edge of the grid (0.003)"),
        ({"lr": 3e-4}, "lower edge of the grid (0.0003)"),
        ({"trials": (Trial(1e-3, 0.8, 0.5, 1.0, 1.0),)}, "a single learning rate was tried (0.001)"),
        ({"stopped": "early stopping"}, "stopped early after epoch 4, as validation had not improved since epoch 3"),
        ({"stopped": "budget"}, "training ended after epoch 4 (budget)"),
        ({"best": 3}, "the last epoch (4) was the best"),
        ({"logits": np.full((sample.N, 4), np.nan, np.float32)}, "training broke down"),
    ],
)
def test_each_doubt_is_a_warning_and_said_once_for_equal_seeds(change: dict[str, Any], says: str) -> None:
    runs = [sample.run(sample.first(0.8), val=0.8, seed=k, **change) for k in range(2)]
    (said,) = warnings(sample.regimes([sample.score("full", runs)]))
    assert said.startswith("tiny, full fine-tuning: ")
    assert says in said


def test_a_broken_rate_above_the_chosen_is_no_missing_edge_and_notes_are_passed_on() -> None:
    trials = (Trial(1e-4, 0.5, 0.9, 1, 1), Trial(1e-3, 0.8, 0.5, 1, 1), Trial(1e-1, 0.0, float("inf"), 0.1, 1))
    s = sample.regimes(
        [sample.score("full", [sample.run(sample.first(0.8), val=0.8, trials=trials)], note="4 of 10 epochs.")]
    )
    assert warnings(s) == ("tiny, full fine-tuning: 4 of 10 epochs.",)


def test_what_is_told_is_short_and_points_to_what_shows_it() -> None:
    m = measure(sample.study(("a", "b"), seeds=2), seed=0)
    metrics = {one.key for one in regimes.metrics(m)}
    shown = {t.key for t in regimes.tables(m)} | {f.key for f in regimes.figures(m)}
    for finding in regimes.findings(m):
        assert len(finding.text.split()) <= 35, finding.text
        assert set(finding.metrics) <= metrics
        assert set(finding.shows) <= shown
    assert set(regimes.headline(m)) <= metrics
    assert len(regimes.answer(m).split()) <= 25
