"""The contract between studies and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visus.errors import StoreError
from visus.result import Figure, Result, Table, format_cell


def _result() -> Result:
    figure = Figure(
        "map", "map", "t", "c", {"points": "xy", "classes": ["a"], "trust": {"trustworthiness": np.float32(0.5)}}
    )
    table = Table(("name", "value"), (("<b>", float("nan")), ("x", np.float64(0.25))), bold={"value": "max"})
    return Result(
        "s",
        "t",
        ("f",),
        {"main": table},
        (figure,),
        {"xy": np.zeros((2, 2), np.float32)},
        ("w",),
        {"seed": 1},
        ("labels: column `dx`",),
    )


def test_json_has_the_promised_shape_and_no_nan() -> None:
    body = json.loads(_result().to_json())
    assert body["tables"]["main"]["columns"] == ["name", "value"]
    assert body["tables"]["main"]["rows"] == [["<b>", None], ["x", 0.25]]
    assert {"study", "findings", "tables", "figures", "provenance"} <= set(body)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    result = _result()
    result.save(tmp_path)
    again = Result.load(tmp_path)
    assert again.to_json() == result.to_json()
    assert again.notes == ("labels: column `dx`",)
    np.testing.assert_array_equal(again.arrays["xy"], result.arrays["xy"])


def test_a_folder_without_a_result_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no readable result"):
        Result.load(tmp_path)


def test_notebook_cells_escape_names() -> None:
    assert "<td><b>" not in _result()._repr_html_()


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
