"""The regimes' figures: the numbers in them, and that they are drawn everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.transfer import regime_sample as sample

from visus.report import render_page
from visus.report.draw import draw as draw_figure
from visus.report.draw import to_bytes
from visus.studies.common.schema1 import Result
from visus.studies.common.upgrade import upgraded, upgraded_figure
from visus.studies.transfer.regimes import figures as regime_pictures
from visus.studies.transfer.regimes import findings as regime_words
from visus.studies.transfer.regimes import tables as regime_tables
from visus.studies.transfer.regimes.scores import Regimes


def _result(s: Regimes) -> Result:
    return Result(
        "regimes", "t", regime_words.findings(s, seed=0), regime_tables.tables(s, seed=0), regime_pictures.draw(s),
        {}, regime_words.warnings(s), {},
    )  # fmt: skip


def test_figures_are_drawn_in_every_format_and_on_the_page() -> None:
    result = _result(sample.study(seeds=2))
    assert [f.name for f in result.figures] == ["front", "loss", "learning", "learning-rates"]
    for figure in result.figures:
        canvas = draw_figure(upgraded_figure(figure, {}))
        assert to_bytes(canvas, "png").startswith(b"\x89PNG")
        assert to_bytes(canvas, "pdf").startswith(b"%PDF")
    page = render_page(upgraded(replace(result, figures=result.figures[:2])))
    assert page.count('class="plot"') == 2 * 2
    assert "What each way of training costs" in page


def test_learning_rates_have_a_panel_a_regime_and_a_ring_where_they_were_chosen() -> None:
    data = regime_pictures.draw(sample.study(("a", "b")))[-1].data
    assert [panel["title"] for panel in data["panels"]] == ["probe", "head", "last block", "LoRA", "full", "scratch"]
    for panel in data["panels"]:
        assert [one["name"] for one in panel["series"]] == ["a", "b"]
        assert [mark["x"] for mark in panel["marks"]] == [1e-3, 1e-3]
        assert panel["marks"][0]["y"] == panel["series"][0]["y"][1]


def test_one_regime_without_epochs_is_a_front_alone() -> None:
    s = sample.regimes([sample.score("probe", [sample.run(sample.first(0.8), val=0.8, epochs=(), trials=())])])
    (front,) = regime_pictures.draw(s)
    assert front.data["panels"][0]["front"] == [True]
    draw_figure(upgraded_figure(front, {}))


def test_the_front_shows_test_accuracy_its_interval_and_both_costs() -> None:
    s = sample.study(("a", "b"))
    data = regime_pictures.draw(s)[0].data
    flops, seconds = data["panels"]
    for i, score in enumerate(s.scores):
        right = score.runs[0].logits.argmax(1) == s.test_y
        point = data["points"][i]
        assert point["y"] == pytest.approx(100 * right.mean())
        assert point["low"] < point["y"] < point["high"]
        assert point["group"] == score.model
        assert (flops["x"][i], seconds["x"][i]) == (score.flops, score.seconds)
        beaten = any(
            o is not score and o.flops <= score.flops and s.accuracy(o) >= s.accuracy(score)
            and (o.flops < score.flops or s.accuracy(o) > s.accuracy(score)) for o in s.scores
        )  # fmt: skip
        assert flops["front"][i] == (not beaten)
    assert not flops["front"][[c.regime for c in s.scores].index("scratch")]


def test_what_has_no_known_cost_is_named_under_the_figure() -> None:
    s = sample.study()
    s = replace(s, scores=(replace(s.scores[0], flops=float("nan")), *s.scores[1:]))
    figure = regime_pictures.draw(s)[0]
    assert "linear probe (training operations (FLOPs))" in figure.caption
    assert figure.data["panels"][0]["front"][0] is False
    assert np.isnan(figure.data["panels"][0]["x"][0])


def test_curves_hold_every_seed_and_mark_the_epoch_that_was_kept() -> None:
    s = sample.study(seeds=2)
    loss, learning = regime_pictures.draw(s)[1:3]
    panel = loss.data["panels"][0]
    assert [one["name"] for one in panel["series"]] == ["training"] * 2 + ["validation"] * 2
    run = s.scores[0].runs[1]
    assert panel["series"][1]["y"] == [e.train_loss for e in run.epochs]
    assert panel["series"][3]["y"] == [e.val_loss for e in run.epochs]
    assert panel["marks"][1]["x"] == 3
    assert panel["marks"][1]["y"] == run.epochs[2].val_loss
    assert learning.data["panels"][0]["series"][3]["y"] == pytest.approx([100 * e.val_accuracy for e in run.epochs])
    assert len(loss.data["panels"]) == 6
