"""What the predictions section tells of hand-made measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.vit import sample

from visus.studies.common.section import section
from visus.studies.vit import predictions


def test_every_accuracy_stands_in_the_table_and_among_the_metrics() -> None:
    found = section(predictions, sample.predictions())
    table = next(t for t in found.tables if t.key == "accuracy")
    metrics = {m.key: m for m in found.metrics}
    for row in table.records():
        accuracy = metrics[f"{row['model']}/accuracy"]
        assert (accuracy.value, accuracy.low, accuracy.high, accuracy.n) == (
            row["accuracy"],
            row["low"],
            row["high"],
            row["n"],
        )
        assert metrics[f"{row['model']}/ece"].value == row["ece"]
    assert table.column("accuracy") == (0.8, 0.25)
    assert metrics["accuracy/a/minus/b"].n == 4


def test_the_top_five_are_shares_side_by_side_and_blank_where_a_model_has_fewer_answers() -> None:
    table = predictions.tables(sample.predictions())[0]
    assert [c.key for c in table.columns] == ["image", "rank", "answer_1", "probability_1", "answer_2", "probability_2"]
    first = table.records()[0]
    assert (first["image"], first["answer_1"], first["probability_1"]) == ("one.png", "cat", 0.7)
    assert table.columns[3].heading == "a, %"
    assert table.records()[4]["answer_1"] is None
    assert "each label's own sigmoid" in table.note


def test_a_model_ahead_is_named_first_whichever_stands_first() -> None:
    m = sample.predictions()
    text = next(f.text for f in predictions.findings(m) if "ahead of" in f.text)
    assert text.startswith("a is ahead of b by +50.0 points")
    turned = replace(m, pairs=(replace(m.pairs[0], comparison=m.pairs[0].comparison.reversed()),))
    assert next(f.text for f in predictions.findings(turned) if "ahead of" in f.text) == text


@pytest.mark.parametrize(("low", "kind"), [(-0.1, "undecided"), (0.1, "result")])
def test_a_lead_that_may_be_chance_is_undecided(low: float, kind: str) -> None:
    m = sample.predictions()
    pair = replace(m.pairs[0].comparison, difference=0.2, low=low, high=0.4)
    (said,) = [
        f for f in predictions.findings(replace(m, pairs=(replace(m.pairs[0], comparison=pair),))) if "ahead" in f.text
    ]
    assert said.kind == kind
    assert ("may be chance" in said.text) == (kind == "undecided")


def test_models_that_cannot_be_right_are_named_with_the_reason_and_missing_classes_are_a_caution() -> None:
    found = predictions.findings(sample.predictions())
    assert any("own has classes of its own that mean none of pets's" in f.text for f in found)
    assert any("tags has a multi-label head" in f.text for f in found)
    assert [f.text.split(":")[0] for f in found if f.kind == "caution"] == ["No output of b means owl"]


def test_unlabelled_images_give_the_top_five_alone() -> None:
    m = replace(sample.predictions(), accuracies=(), unjudged=(), pairs=())
    found = section(predictions, m)
    assert [t.key for t in found.tables] == ["top-five"]
    assert [f.key for f in found.figures] == ["predicted"]
    assert not found.findings
    assert not found.metrics


def test_the_gallery_says_whose_answer_it_is_and_the_diagram_is_in_shares() -> None:
    gallery, diagram = predictions.figures(sample.predictions())
    assert gallery.captions[0] == "a: cat 70 %; tags: cat 90 %"
    assert (diagram.unit, diagram.x_unit) == ("share", "share")
    assert [s.name.split(" ")[0] for s in diagram.series] == ["a", "b", "calibrated"]
    assert max(max(s.y) for s in diagram.series) <= 1
    one = replace(sample.predictions(), top=sample.predictions().top[:1])
    assert predictions.figures(one)[0].captions[0] == "cat 70 %"
    assert np.shape(gallery.images) == (2, 8, 8, 3)
