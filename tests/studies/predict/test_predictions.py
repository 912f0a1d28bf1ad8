"""What is told of predictions, on predictions made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.studies.told import check

from visus.images import Quarantined
from visus.report.draw import draw
from visus.studies.predict import predictions
from visus.studies.predict.predictions import Prediction, PredictionsMeasures


def made(n: int, *, head: str = "classes", aside: int = 0, p: tuple[float, ...] = (0.7, 0.2)) -> PredictionsMeasures:
    found = tuple(Prediction(f"{i}.png", ("tabby, tabby cat", "fox"), (281, 277), p) for i in range(n))
    images = np.zeros((min(n, predictions.SHOWN), 8, 8, 3), np.uint8)
    return PredictionsMeasures(head, found, images, p[0], tuple(Quarantined(f"x{i}", "torn") for i in range(aside)))


def test_every_rank_is_a_row_with_its_probability_and_index() -> None:
    told = check(predictions, made(2))
    (table,) = told.tables
    assert table.title == "Top 2 classes of each picture"
    assert table.rows[:2] == (("0.png", 1, "tabby, tabby cat", 0.7, 281), ("0.png", 2, "fox", 0.2, 277))
    assert [f.text for f in told.findings] == ["0.png: tabby (70.0 %).", "1.png: tabby (70.0 %)."]
    assert "softmax" in table.note


def test_many_images_are_summed_up_and_the_first_named() -> None:
    told = check(predictions, made(12))
    texts = [f.text for f in told.findings]
    assert texts[0] == "12 pictures; named most often: tabby (12)."
    assert texts[1] == "The mean probability of the first class is 70.0 %."
    assert len(texts) == 2 + predictions.FEW
    assert told.metrics[0].value == 0.7


@pytest.mark.parametrize(
    ("p", "says"),
    [
        ((0.9, 0.6), "0.png: tabby, tabby cat (90.0 %), fox (60.0 %)."),
        ((0.4, 0.1), "0.png: no label reaches 50.0 %; nearest tabby, tabby cat (40.0 %)."),
    ],
)
def test_labels_that_stand_alone_are_there_from_a_half_on(p: tuple[float, ...], says: str) -> None:
    told = check(predictions, made(1, head="labels", p=p))
    assert told.findings[0].text == says
    assert "by itself" in told.tables[0].note


@pytest.mark.parametrize(("aside", "says"), [(1, "1 picture was"), (3, "3 pictures were")])
def test_what_was_set_aside_is_said_and_listed(aside: int, says: str) -> None:
    told = check(predictions, made(1, aside=aside))
    assert told.findings[-1].text.startswith(says)
    assert len(told.tables[1].rows) == aside


def test_the_gallery_shows_the_first_images_and_says_so() -> None:
    (figure,) = check(predictions, made(predictions.SHOWN + 5)).figures
    assert f"The first {predictions.SHOWN} of {predictions.SHOWN + 5}" in figure.caption
    assert len(figure.captions) == predictions.SHOWN  # type: ignore[union-attr]
    draw(check(predictions, made(3)).figures[0])
