"""The contract: what a study returns, saved and loaded, refused where it contradicts itself, printed in a few lines."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from visus.errors import StoreError
from visus.figures import Gallery, Group, Lines, Map, Series, key_of
from visus.result import Column, Finding, Metric, Result, Section, Table, json_schema


def _section(**more: Any) -> Section:
    sprite = np.zeros((2, 4, 4, 3), np.uint8)
    labels = np.zeros(2, np.int64)
    maps = tuple(
        Map(
            key=key, title="t", points=np.full((2, 2), i, np.float32), labels=labels, classes=["a"], sprite=sprite,
            trust={"trustworthiness": np.float32(0.5)},
        )
        for i, key in enumerate(("map", "map-2"))
    )  # fmt: skip
    table = Table(
        key="main",
        title="Main",
        columns=(Column("name", "Name"), Column("accuracy", "accuracy", "share", better="higher")),
        rows=(("<b>", float("nan")), ("x", np.float64(0.25))),
    )
    given: dict[str, Any] = {
        "key": "gap", "title": "How far apart?", "source": "visus.studies.clip.gap", "tables": (table,), "figures": maps,
        "findings": (Finding("f", ("a/b",), ("main",)), Finding("c", kind="caution"), Finding("u", kind="undecided")),
        "metrics": (Metric("a/b", np.float32(0.25), 0.2, 0.3, n=np.int64(7), unit="share", better="higher"),),
    }  # fmt: skip
    return Section(**given | more)


def _result(*sections: Section, **more: Any) -> Result:
    return Result(
        study="s", title="t", answer="A.", headline=("a/b",), sections=sections or (_section(),), warnings=("w",),
        notes=("labels: column `dx`",), provenance={"seed": 1, "path": Path("x"), "loss": float("nan")},
        predictions={"id": np.array(["a", "b"]), "label": np.array([0, 1]), "confidence": np.array([0.5, 0.25], np.float32)},
        **more,
    )  # fmt: skip


def test_json_has_the_promised_shape_and_no_nan() -> None:
    body = json.loads(_result().to_json())
    assert list(body)[:6] == ["schema", "study", "title", "answer", "headline", "sections"]
    (section,) = body["sections"]
    assert section["source"] == "visus.studies.clip.gap"
    assert section["tables"][0]["rows"] == [["<b>", None], ["x", 0.25]]
    assert section["tables"][0]["columns"][1] == {
        "key": "accuracy", "label": "accuracy", "unit": "share", "digits": None, "better": "higher",
    }  # fmt: skip
    assert section["metrics"][0]["n"] == 7
    assert section["figures"][1]["sprite"] == section["figures"][0]["sprite"] == {
        "array": "map/sprite", "shape": [2, 4, 4, 3], "dtype": "uint8",
    }  # fmt: skip
    assert body["predictions"] == ["id", "label", "confidence"]
    assert body["provenance"] == {"seed": 1, "path": "x", "loss": None}
    assert "page" not in body


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    result = _result()
    result.save(tmp_path)
    again = Result.load(tmp_path)
    assert again.to_json() == result.to_json()
    assert again.notes == ("labels: column `dx`",)
    assert list(again.arrays) == ["map/points", "map/labels", "map/sprite", "map-2/points"]
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    for name, column in result.predictions.items():
        np.testing.assert_array_equal(again.predictions[name], column)
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == 2
    first, second = again.figures.values()
    assert first.sprite is second.sprite, "shared arrays stay shared"


def test_a_result_without_predictions_leaves_no_file_of_them(tmp_path: Path) -> None:
    replace(_result(), predictions={}).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arrays.npz", "result.json"]
    assert Result.load(tmp_path).predictions == {}


def test_a_folder_without_a_result_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no readable result"):
        Result.load(tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"schema": 1, "study": "s", "tables": {}},
            "holds a result of schema 1, this version reads 2; run the study again",
        ),
        ({"study": "s"}, "schema None"),
        ([1], "no readable result"),
        ({"schema": 2, "study": "s"}, "no readable result: title: Field required"),
    ],
)
def test_other_schemas_and_broken_files_are_refused_in_one_line(body: Any, said: str, tmp_path: Path) -> None:
    _result().save(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(body))
    with pytest.raises(StoreError) as caught:
        Result.load(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_arrays_are_said(tmp_path: Path) -> None:
    _result().save(tmp_path)
    np.savez(tmp_path / "arrays.npz")
    with pytest.raises(StoreError, match=r"an array is missing; arrays\.npz belongs beside"):
        Result.load(tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: _result(_section(), _section(tables=(), figures=(), metrics=())), "two sections have the key 'gap'"),
        (lambda: _result(_section(), _section(key="b", figures=(), metrics=())), "two tables have the key 'main'"),
        (lambda: _result(_section(), _section(key="b", tables=(), metrics=())), "two figures have the key 'map'"),
        (lambda: _result(_section(), _section(key="b", tables=(), figures=())), "two metrics have the key 'a/b'"),
        (lambda: _result(_section(metrics=())), "the headline names metrics that no section has: a/b"),
        (lambda: replace(_result(), predictions={"a": np.zeros(1), "b": np.zeros(2)}), "differ in length"),
        (lambda: Table(key="t", title="", columns=(Column("a", "A"),), rows=((1, 2),)), "not as many cells"),
        (lambda: Table(key="t", title="", columns=(Column("a", "A"), Column("a", "B")), rows=()), "two columns have one key"),
        (lambda: Metric("Upper Case", 1), "a key is lower-case text without spaces"),
        (lambda: Finding("f", kind="rumour"), "'result', 'caution' or 'undecided'"),
        (lambda: Group(name="g", labels=["a"], values=[1], low=[0], high=[]), "of different lengths"),
        (lambda: Section(key="s", title="?", source="x", colour="red"), "Unexpected keyword argument"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_where_it_is_made(make: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert said in str(caught.value)


def test_frames_go_by_keys_and_hold_fractions() -> None:
    result = _result()
    frame = result.frame("main")
    assert list(frame.columns) == ["name", "accuracy"]
    assert frame["accuracy"][1] == 0.25
    assert result.tables["main"].records()[1] == {"name": "x", "accuracy": 0.25}
    assert result.tables["main"].column("accuracy") == (None, 0.25)
    metrics = result.metrics_frame()
    assert metrics.loc[0, ["section", "key", "value", "n", "unit"]].tolist() == ["gap", "a/b", 0.25, 7, "share"]
    with pytest.raises(KeyError, match="has no column 'loss'; it has name, accuracy"):
        result.tables["main"].column("loss")
    with pytest.raises(KeyError, match="there is no table 'mian'; this result has main"):
        result.frame("mian")


def test_findings_and_cautions_stand_apart() -> None:
    result = _result()
    assert result.findings == ("f", "u")
    assert result.cautions == ("w", "c")
    assert result.sections[0].file == "studies/clip/gap"


def test_the_schema_in_docs_is_what_results_are_written_by() -> None:
    written = json.loads((Path(__file__).parent.parent / "docs" / "result.schema.json").read_text("utf-8"))
    assert written == json_schema(), "run python tools/write_schema.py"
    assert list(written["properties"]) == list(json.loads(_result().to_json()))
    assert set(written["required"]) <= set(written["properties"])


def test_keys_are_made_of_their_parts() -> None:
    assert key_of("timm:ViT", "late", "top 1") == "timm:vit/late/top-1"
    assert key_of("a", "", " ", 3) == "a/3"


def test_notebook_cells_escape_names() -> None:
    assert "<td><b>" not in _result()._repr_html_()


def _large() -> Result:
    rng = np.random.default_rng(0)
    rows = [(f"model {i}", i / 1000) for i in range(500)]
    columns = (Column("name", "name"), Column("x", "x", "share"))
    figures = [
        Lines(key=f"lines{i}", title=f"Lines {i} <b>", caption="caption", series=(Series(name="s", x=[0, 1], y=rng.normal(size=2)),))
        for i in range(3)
    ]  # fmt: skip
    missing = Gallery(key="gallery", title="Hardest", images=np.zeros((1, 2)), captions=["a"])
    section = Section(
        key="all", title="What <is> there?", source="visus.studies.clip",
        findings=(Finding("one finding"), Finding("another\nwith \udcff"), Finding("a caution", kind="caution")),
        tables=[Table(key=f"t{i}", title="T", columns=columns, rows=rows) for i in range(30)], figures=(*figures, missing),
    )  # fmt: skip
    return Result(
        study="clip", title="a title", answer="The answer.", sections=(section,), warnings=("a warning",),
        notes=("labels: column dx",),
    )  # fmt: skip


def test_a_printed_result_is_a_few_lines() -> None:
    result = _large()
    text = str(result)
    assert text == repr(result)
    assert len(text) < 1000
    assert text.splitlines()[:6] == [
        "visus clip: a title", "The answer.", "- one finding", r"- another with \udcff", "! a warning", "! a caution",
    ]  # fmt: skip
    assert "tables: t0 (500), " in text
    assert "18 more" in text
    assert "figures: lines0, lines1, lines2, gallery" in text
    assert "array(" not in text
    table = result.tables["t0"]
    assert repr(table) == "Table('t0': 500 rows of name, x)"
    assert str(table).splitlines()[:3] == ["T", "name      x, %", "model 0   0.0"]
    assert str(table).splitlines()[-1] == "(480 more rows)"
    assert repr(result.figures["lines0"]) == "Lines('lines0': 'Lines 0 <b>')"
    assert repr(result.sections[0]) == "Section('all': 'What <is> there?', 30 tables, 4 figures)"
    assert len(repr(result.tables)) < 3000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_print_takes_a_result_whatever_stdouts_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for text in (
        "480 more rows",
        "Lines 0 &lt;b&gt;",
        "labels: column dx",
        "a warning",
        "The answer.",
        "What &lt;is&gt; there?",
    ):
        assert text in page
    assert "Caution: a caution" in page
    assert "images must be uint8" in page  # the gallery cannot be drawn: said, and the others are
    monkeypatch.setattr("visus.report.notebook.BYTES", 1000)
    small = result._repr_html_()
    assert small.count("<img ") == 0
    assert small.count("drawn on the page") >= 3
    assert result.figures["lines0"]._repr_html_().count("<img ") == 1
    assert result.tables["t0"]._repr_html_().count("<tr>") == 21
