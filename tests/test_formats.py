"""Numbers as people read them: the only place where fractions become percent."""

from __future__ import annotations

import numpy as np
import pytest

from visus.formats import (
    format_cell,
    interval_text,
    percent,
    points_text,
    scaled,
    short_number,
    unit_text,
    with_unit,
)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        (12345, "12,345"),
        (0.12345, "0.123"),
        (1e-7, "1.0e-07"),
        (0.0, "0.000"),
        ("a", "a"),
    ],
)
def test_cells_read_as_people_expect(cell: object, text: str) -> None:
    assert format_cell(cell) == text


@pytest.mark.parametrize(
    ("cell", "digits", "unit", "text"),
    [
        (0.8312, None, "share", "83.1"),
        (0.8312, 3, "share", "83.120"),
        (1, None, "share", "100.0"),
        (1e-7, None, "share", "0.0"),
        (-0.021, None, "points", "-2.1"),
        (None, None, "share", "–"),
        (True, None, "share", "yes"),
        ("n/a", None, "share", "n/a"),
        (np.float32(0.5), None, "share", "50.0"),
        (12.0, None, "s", "12.000"),
    ],
)
def test_shares_and_points_become_percent(cell: object, digits: int | None, unit: str, text: str) -> None:
    assert format_cell(cell, digits, unit) == text


def test_sentences_are_made_of_fractions() -> None:
    assert percent(0.8312) == "83.1 %"
    assert interval_text(0.81, 0.852) == "95 % interval 81.0 to 85.2 %"
    assert points_text(0.021, -0.003, 0.045) == "+2.1 points, 95 % interval -0.3 to +4.5"
    assert scaled(0.5, "share") == 50
    assert scaled(0.5, "nats") == 0.5


def test_labels_carry_their_unit() -> None:
    assert with_unit("accuracy", "share") == "accuracy, %"
    assert with_unit("accuracy", "") == "accuracy"
    assert with_unit("", "s") == "s"
    assert [unit_text(unit) for unit in ("share", "points", "s", "")] == ["%", "points", "s", ""]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "", "–"), (0.8312, "share", "83.1"), (0.0, "", "0.000"), (0.12345, "nats", "0.123"), (1.2345, "", "1.23"),
     (12.0, "s", "12.0"), (4812.3, "s", "4,812"), (-250.4, "", "-250"), (1e-5, "", "1.0e-05")],
)  # fmt: skip
def test_a_number_that_stands_alone_has_three_digits(value: float | None, unit: str, text: str) -> None:
    assert short_number(value, unit) == text
