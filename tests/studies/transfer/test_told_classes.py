"""What is told of classes and of mistakes, on counts made by hand."""

from __future__ import annotations

import numpy as np
from tests.studies.told import check, kinds

from visus.figures import Gallery, Intervals
from visus.studies.transfer import classes
from visus.studies.transfer.classes import ClassesMeasures, ClassRow, ConfusedRow

CAT = ClassRow("cat", 40, 0.55, 0.4, 0.69, 0.6)
DOG = ClassRow("dog", 20, 0.95, 0.76, 0.99, None)
EMU = ClassRow("emu", 0, None, None, None, None)


def measures(*rows: ClassRow, confused: tuple[ConfusedRow, ...] = ()) -> ClassesMeasures:
    n = sum(len(c.ids) for c in confused)
    return ClassesMeasures("a", "late", rows, confused, np.zeros((n, classes.EXAMPLE, classes.EXAMPLE, 3), np.uint8))


def test_recall_stands_with_its_interval_and_precision() -> None:
    made = check(classes, measures(CAT, DOG))
    (table,) = made.tables
    assert table.rows == (("cat", 40, 0.55, 0.4, 0.69, 0.6), ("dog", 20, 0.95, 0.76, 0.99, None))
    assert "55.0" in str(table)
    assert [(m.key, m.value, m.low, m.high, m.n) for m in made.metrics] == [
        ("recall/cat", 0.55, 0.4, 0.69, 40),
        ("recall/dog", 0.95, 0.76, 0.99, 20),
    ]
    assert kinds(made)["result"] == ["The easiest class is dog (recall 95.0 %), the hardest cat (55.0 %)."]
    assert made.findings[0].metrics == ("recall/dog", "recall/cat")


def test_without_mistakes_there_is_no_gallery_of_them() -> None:
    (figure,) = check(classes, measures(DOG, CAT)).figures
    assert isinstance(figure, Intervals)
    assert (figure.unit, figure.groups[0].labels, figure.groups[0].values) == ("share", ("cat", "dog"), (0.55, 0.95))


def test_mistakes_are_counted_and_shown_surest_first() -> None:
    confused = (
        ConfusedRow("cat", "dog", 12, 0.3, ("c1.png", "c2.png")),
        ConfusedRow("dog", "cat", 1, 0.05, ("d.png",)),
    )
    made = check(classes, measures(CAT, DOG, confused=confused))
    assert made.tables[1].rows == (("cat", "dog", 12, 0.3), ("dog", "cat", 1, 0.05))
    gallery = made.figures[1]
    assert isinstance(gallery, Gallery)
    assert gallery.captions == ("c1.png", "c2.png", "d.png")
    assert gallery.groups == ("cat taken for dog (12)",) * 2 + ("dog taken for cat (1)",)
    assert made.findings[0].text == "Its most frequent mistake takes cat for dog: 12 of 40 images."
    assert made.findings[0].shows == ("confused",)


def test_of_a_class_without_a_test_image_nothing_is_said_but_that() -> None:
    made = check(classes, measures(CAT, EMU))
    assert made.tables[0].rows[1] == ("emu", 0, None, None, None, None)
    assert [m.key for m in made.metrics] == ["recall/cat"]
    assert isinstance(made.figures[0], Intervals)
    assert made.figures[0].groups[0].labels == ("cat",)
    assert kinds(made)["caution"] == ["No test image of: emu; their recall is unknown."]


def test_a_caution_names_only_some_of_many_classes() -> None:
    missing = [ClassRow(f"c{i}", 0, None, None, None, None) for i in range(classes.NAMED + 5)]
    (said,) = kinds(check(classes, measures(CAT, *missing)))["caution"]
    assert said.count(",") == classes.NAMED - 1
