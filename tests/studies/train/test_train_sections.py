"""What is told of a training from nothing, on judgements made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.studies.told import check

from visus.measures.intervals import wilson
from visus.studies.train import course, gap, held_out
from visus.studies.train.judging import Judged, Score
from visus.training.records import Epoch

VIT = Judged({"accuracy": Score("3 classes", 30, 40, 0.4)}, {"accuracy": 0.72}, None, 0.08)
CLIP = Judged(
    {
        "recall@1, image to name": Score("among 12", 10, 40, 1 / 12, 0.1),
        "recall@10, image to name": Score("among 12", 30, 40, 10 / 12, 0.8),
        "zero-shot, plain prompts": Score("3 classes", 20, 40, 1 / 3, 0.3),
    },
    {"zero-shot, plain prompts": 0.45},
)


def epochs(*val: float) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(i + 1, 1.0 - 0.1 * i, 0.5 + 0.1 * i, 1.1 - 0.05 * i, v, 1e-3 / (i + 1), 2.0) for i, v in enumerate(val)
    )


def trained(*val: float, best: int = 0, stopped: str = "") -> Any:
    fit = SimpleNamespace(epochs=epochs(*val), best=best, seconds=90.0, stopped=stopped)
    return SimpleNamespace(fit=fit, images=120, parameters=1_500_000)


def test_a_share_stands_with_its_interval_chance_and_n() -> None:
    told = check(held_out, held_out.measure(VIT, kind="vit"))
    (row,) = told.tables[0].records()
    low, high = wilson(30, 40)
    assert row == {
        "measure": "accuracy", "value": 0.75, "low": low, "high": high, "balanced_accuracy": 0.72, "chance": 0.4,
        "untrained": None, "n": 40, "asked": "3 classes",
    }  # fmt: skip
    first, second = told.findings
    assert (
        first.text == f"Accuracy: 75.0 % (95 % interval {100 * low:.1f} to {100 * high:.1f} %, n = 40; chance 40.0 %)."
    )
    assert second.text == "Balanced accuracy 72.0 %, calibration error (15 bins) 8.0 %."
    assert {m.key: m.value for m in told.metrics} == {
        "accuracy": 0.75, "accuracy/balanced-accuracy": 0.72, "calibration-error": 0.08
    }  # fmt: skip


def test_of_a_clip_sentences_are_made_of_the_figures_that_matter() -> None:
    m = held_out.measure(CLIP, kind="clip")
    told = check(held_out, m)
    assert [f.text.split(":")[0] for f in told.findings] == ["Recall@10, image to name", "Zero-shot, plain prompts"]
    assert len(told.tables[0].rows) == 3
    assert held_out.headline(m) == ("recall@10-image-to-name", "zero-shot-plain-prompts")
    assert held_out.answer(m).startswith("Recall@10, image to name: 75.0 % of 40 held-out images")
    assert len(held_out.answer(m).split()) <= 25


def test_what_was_learned_twice_and_captions_of_one_image_are_cautions() -> None:
    judged = replace(
        VIT, warnings=("twice",), scores={**VIT.scores, "accuracy without repeats": Score("without 8", 10, 16, 0.4)}
    )
    told = check(held_out, held_out.measure(judged, kind="vit", alone=True))
    assert [f.text for f in told.findings if f.kind == "caution"] == ["twice", held_out.ALONE]
    assert "Accuracy without 8: 62.5 %" in told.findings[1].text


@pytest.mark.parametrize("field", ["centroid_distance", "paired"])
def test_the_gap_before_and_after_stand_under_one_another(field: str) -> None:
    def made(distance: float) -> Any:
        return SimpleNamespace(centroid_distance=distance, paired=distance / 2, unpaired=0.1, separable=0.9, n=38)

    told = check(gap, gap.measure(made(1.3), made(0.9)))
    assert [row["when"] for row in told.tables[0].records()] == ["untrained", "trained"]
    assert told.tables[0].column("distance") == (1.3, 0.9)
    assert "went from 1.30 at the start to 0.90" in told.findings[0].text
    assert "90.0 %" in told.findings[1].text
    names = {"centroid_distance": "distance", "paired": "paired"}
    assert [m.value for m in told.metrics if m.key.endswith(names[field])] == (
        [1.3, 0.9] if field == "centroid_distance" else [0.65, 0.45]
    )


@pytest.mark.parametrize(("best", "stopped", "cautions"), [(0, "", 0), (2, "", 1), (0, "budget", 1), (2, "budget", 2)])
def test_an_end_that_came_too_early_is_a_caution(best: int, stopped: str, cautions: int) -> None:
    m = course.measure(trained(0.5, 0.6, 0.55, best=best, stopped=stopped), kind="vit", folder=Path("out"))
    told = check(course, m)
    assert sum(f.kind == "caution" for f in told.findings) == cautions


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_curves_hold_every_epoch_and_ring_the_one_that_was_kept(kind: str) -> None:
    m = course.measure(trained(0.5, 0.7, 0.6, best=1), kind=kind, folder=Path("out"))
    told = check(course, m)
    loss, learning = told.figures
    (panel,) = learning.panels  # type: ignore[union-attr]
    assert panel.series[1].y == (0.5, 0.7, 0.6)
    assert (panel.marks[0].x, panel.marks[0].y) == (2.0, 0.7)
    assert loss.panels[0].series[0].y == pytest.approx((1.0, 0.9, 0.8))  # type: ignore[union-attr]
    assert told.tables[0].column("validation") == (0.5, 0.7, 0.6)
    assert told.tables[0].column("lr") == (1e-3, 5e-4, pytest.approx(1e-3 / 3))
    assert "3 epochs over 120 images took 1.5 minutes; epoch 2 was kept (1.5 M parameters)." in told.findings[0].text


def test_one_epoch_alone_is_not_said_to_be_the_best_of_many() -> None:
    m = course.measure(trained(0.5), kind="vit", folder=Path("out"))
    assert not [f for f in course.findings(m) if f.kind == "caution"]
