"""The regimes' figures: the numbers in them, and that they are drawn everywhere."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.studies.transfer import regime_sample as sample

from visus.report import render_page
from visus.report.draw import draw as draw_figure
from visus.report.draw import to_bytes
from visus.result import Result
from visus.studies.common.section import section
from visus.studies.transfer import regimes
from visus.studies.transfer.regimes.measure import measure
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore


def figures(s: Regimes) -> tuple[Any, ...]:
    return regimes.figures(measure(s, seed=0))


def test_figures_are_drawn_in_every_format_and_on_the_page() -> None:
    told = section(regimes, measure(sample.study(seeds=2), seed=0))
    assert [f.key for f in told.figures] == ["front", "loss", "learning", "learning-rates"]
    for figure in told.figures:
        canvas = draw_figure(figure)
        assert to_bytes(canvas, "png").startswith(b"\x89PNG")
        assert to_bytes(canvas, "pdf").startswith(b"%PDF")
    page = render_page(Result(study="regimes", title="t", sections=(replace(told, figures=told.figures[:2]),)))
    assert page.count('class="plot"') == 2 * 2
    assert "What each way of training costs" in page


def test_learning_rates_have_a_panel_a_regime_and_a_ring_where_they_were_chosen() -> None:
    data = figures(sample.study(("a", "b")))[-1]
    assert [panel.title for panel in data.panels] == ["probe", "head", "last block", "LoRA", "full", "scratch"]
    for panel in data.panels:
        assert [one.name for one in panel.series] == ["a", "b"]
        assert [mark.x for mark in panel.marks] == [1e-3, 1e-3]
        assert panel.marks[0].y == panel.series[0].y[1]


def test_one_regime_without_epochs_is_a_front_alone() -> None:
    run = sample.run(sample.first(0.8), val=0.8, epochs=(), trials=())
    probe = SimpleNamespace(validation_accuracy=0.8, predictions=run.logits.argmax(1), lambda_=1e-3, at_edge=False)
    s = sample.regimes([sample.score("probe", [run], probe=probe)])
    (front,) = figures(s)
    assert front.panels[0].front == (True,)
    draw_figure(front)


def test_the_front_shows_test_accuracy_its_interval_and_both_costs() -> None:
    s = sample.study(("a", "b"))
    data = figures(s)[0]
    flops, seconds = data.panels

    def reach(score: RegimeScore) -> float:
        return float(score.right(s.test_y).mean())

    for i, score in enumerate(s.scores):
        right = score.runs[0].logits.argmax(1) == s.test_y
        point = data.points[i]
        assert point.y == pytest.approx(right.mean())
        assert point.low < point.y < point.high
        assert point.group == score.model
        assert (flops.x[i], seconds.x[i]) == (score.flops, score.seconds)
        beaten = any(
            o is not score and o.flops <= score.flops and reach(o) >= reach(score)
            and (o.flops < score.flops or reach(o) > reach(score)) for o in s.scores
        )  # fmt: skip
        assert flops.front[i] == (not beaten)
    assert not flops.front[[c.regime for c in s.scores].index("scratch")]


def test_what_has_no_known_cost_is_named_under_the_figure() -> None:
    s = sample.study()
    s = replace(s, scores=(replace(s.scores[0], flops=float("nan")), *s.scores[1:]))
    figure = figures(s)[0]
    assert "linear probe (training operations (FLOPs))" in figure.caption
    assert figure.panels[0].front[0] is False
    assert figure.panels[0].x[0] is None


def test_curves_hold_every_seed_and_mark_the_epoch_that_was_kept() -> None:
    s = sample.study(seeds=2)
    loss, learning = figures(s)[1:3]
    panel = loss.panels[0]
    assert [one.name for one in panel.series] == ["training"] * 2 + ["validation"] * 2
    run = s.scores[0].runs[1]
    assert panel.series[1].y == tuple(e.train_loss for e in run.epochs)
    assert panel.series[3].y == tuple(e.val_loss for e in run.epochs)
    assert panel.marks[1].x == 3
    assert panel.marks[1].y == run.epochs[2].val_loss
    assert learning.panels[0].series[3].y == pytest.approx([e.val_accuracy for e in run.epochs])
    assert len(loss.panels) == 6
