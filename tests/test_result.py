"""The contract between studies and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visus.errors import StoreError
from visus.studies.common.schema1 import Figure, Result, Table, format_cell


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


def _large() -> Result:
    rng = np.random.default_rng(0)
    rows = tuple((f"model {i}", float(i)) for i in range(500))
    figures = tuple(
        Figure(f"lines{i}", "lines", f"Lines {i} <b>", "caption", {
            "x_label": "x", "y_label": "y", "x_log": False, "y_log": False, "marks": [],
            "series": [{"name": "s", "x": [0.0, 1.0], "y": rng.normal(size=2).tolist(), "low": None, "high": None}],
        })
        for i in range(3)
    )  # fmt: skip
    missing = Figure("gallery", "gallery", "Hardest", "c", {"images": "gone", "captions": [], "groups": None})
    return Result(
        "clip", "a title", ("one finding", "another\nwith \udcff"), {f"t{i}": Table(("name", "x"), rows, title="T") for i in range(30)},
        (*figures, missing), {"big": rng.normal(size=(1000, 30))}, ("a warning",), {"seed": 1}, ("labels: column dx",),
    )  # fmt: skip


def test_a_printed_result_is_a_few_lines() -> None:
    result = _large()
    text = str(result)
    assert text == repr(result)
    assert len(text) < 1000
    assert text.splitlines()[:4] == ["visus clip: a title", "- one finding", r"- another with \udcff", "! a warning"]
    assert "tables: t0 (500), " in text
    assert "18 more" in text
    assert "figures: lines0, lines1, lines2, gallery" in text
    assert "array(" not in text
    table = result.tables["t0"]
    assert repr(table) == "Table('T': 500 rows of name, x)"
    assert str(table).splitlines()[:3] == ["T", "name      x", "model 0   0.000"]
    assert str(table).splitlines()[-1] == "(480 more rows)"
    assert repr(result.figures[0]) == "Figure('lines0': lines, 'Lines 0 <b>')"
    assert len(repr(result.tables)) < 3000


def test_print_takes_a_result_whatever_stdouts_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys
    from dataclasses import replace

    for encoding in ("ascii", "latin-1", "cp1252", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        result = replace(_result(), title="κ ≥ 0.5 • \u732b \udcff")
        print(result, result.tables["main"])  # noqa: T201
        stream.flush()


def test_a_notebooks_cell_has_tables_and_figures_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _large()
    page = result._repr_html_()
    assert page.count("<img ") == 3
    assert page.count("data:image/png;base64,") == 3
    assert "480 more rows" in page
    assert "Lines 0 &lt;b&gt;" in page
    assert "labels: column dx" in page
    assert "a warning" in page
    assert "gone" in page  # the gallery's pictures are not there: said, and the others are drawn
    monkeypatch.setattr("visus.report.notebook.BYTES", 1000)
    small = result._repr_html_()
    assert small.count("<img ") == 0
    assert small.count("drawn on the page") >= 3
    assert result.figures[0]._repr_html_().count("<img ") == 1
    assert result.tables["t0"]._repr_html_().count("<tr>") == 21
