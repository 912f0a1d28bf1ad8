"""A figure or a table that fails costs itself alone: the page stands, names it, links to nothing that is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from visus.errors import StoreError
from visus.figures import AnyFigure, Figure, Gallery, Heatmap, Lines, Map, Series
from visus.outputs import MARKER, check_out, mark, written_in
from visus.report import draw as drawing
from visus.report import render_page, write_report
from visus.result import Column, Finding, Result, Section, Table


def lines(name: str, y: list[float]) -> Lines:
    return Lines(key=name, title=f"Title of {name}", x_label="x", series=(Series(name="a", x=[1.0, 2.0], y=y),))


def table(name: str, cell: object = 1) -> Table:
    return Table(key=name, title=f"Table of {name}", columns=(Column("a", "a"),), rows=[(cell,)])


def result(*figures: AnyFigure, tables: tuple[Table, ...] = ()) -> Result:
    shows = tuple(f.key for f in figures)
    section = Section(
        key="s", title="A question?", source="visus.studies.vae", findings=(Finding("One finding.", shows=shows),),
        tables=tables, figures=figures,
    )  # fmt: skip
    return Result(study="vae", title="A study", sections=(section,), warnings=("Known.",))


def warnings_of(page: str) -> list[str]:
    aside = page[page.index('<aside class="warnings"') : page.index("</aside>")]
    return re.findall(r"<li[^>]*>([^<]*)</li>", aside)


DOTS = np.zeros((3, 2), np.float32)
BROKEN = [
    Map(key="broken", title="No labels", points=DOTS, labels=np.zeros(0, int), classes=()),
    Gallery(key="broken", title="No images", images=DOTS, captions=()),
    Heatmap(key="broken", title="Ragged", values=[[1.0], [2.0, 3.0]], rows=["a", "b"], columns=["c"]),
    Heatmap(key="broken", title="Too few", values=[[1.0]], rows=["a", "b"], columns=["c"]),
]


@pytest.mark.parametrize("figure", BROKEN, ids=lambda f: f"{f.kind} {f.title}")
def test_a_figure_that_fails_costs_itself_and_is_named(figure: AnyFigure, tmp_path: Path) -> None:
    page = write_report(result(lines("first", [1, 2]), figure, lines("last", [2, 1])), tmp_path).read_text("utf-8")
    known, said = warnings_of(page)
    assert known == "Known."
    assert said.startswith("Figure broken could not be made (")
    assert said.endswith("its numbers are in result.json.")
    assert "Title of first" in page
    assert "Title of last" in page
    assert not list(tmp_path.glob("figures/broken.*"))
    for link in re.findall(r'href="(figures/[^"]+)"', page):
        assert (tmp_path / link).is_file()
    assert list(Result.load(tmp_path).figures) == ["first", "broken", "last"]
    assert "One finding." in page
    assert re.findall(r'<a href="#(figure-[a-z]+)">figure (\d)</a>', page) == [
        ("figure-first", "1"),
        ("figure-last", "3"),
    ]


ERRORS = (
    ValueError("axis limits cannot be NaN"),
    np.linalg.LinAlgError("Singular matrix"),
    ZeroDivisionError(),
    MemoryError(),
    RuntimeError("no font\nhere"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_whatever_drawing_raises_costs_one_figure(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(figure: Figure, width: float) -> Canvas:
        raise error

    monkeypatch.setattr(drawing, "DRAW", {**drawing.DRAW, Heatmap: fails})
    bad = Heatmap(key="bad", title="", values=(), rows=(), columns=())
    page = write_report(result(bad, lines("good", [1, 2])), tmp_path / "out").read_text("utf-8")
    (said,) = [w for w in warnings_of(page) if "Figure bad" in w]
    assert type(error).__name__ in said
    assert "\n" not in said
    assert (tmp_path / "out" / "figures" / "good.png").is_file()


def test_a_form_that_fails_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Canvas.savefig

    def savefig(self: Canvas, *args: Any, format: str, **named: Any) -> None:
        if format == "pdf":
            raise OSError("cannot embed the font")
        own(self, *args, format=format, **named)

    monkeypatch.setattr(Canvas, "savefig", savefig)
    page = write_report(result(lines("one", [1, 2])), tmp_path).read_text("utf-8")
    assert any(
        w.startswith("Figure one as PDF could not be made (OSError: cannot embed the font)") for w in warnings_of(page)
    )
    assert 'href="figures/one.png"' in page
    assert "one.pdf" not in page
    assert "Title of one" in page


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text for this cell")


def test_a_table_that_fails_costs_itself(tmp_path: Path) -> None:
    good, bad = table("good"), table("bad", "x")
    page = write_report(result(tables=(good, bad)), tmp_path).read_text("utf-8")
    assert len(warnings_of(page)) == 1
    object.__setattr__(bad, "rows", ((Unprintable(),),))
    page = render_page(result(tables=(good, bad)))
    assert any(
        w.startswith("Table bad could not be made (ValueError: no text for this cell)") for w in warnings_of(page)
    )
    assert "Table of good" in page


def test_an_export_that_fails_is_not_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(table: Table, *, label: str) -> str:
        raise KeyError(label)

    monkeypatch.setattr("visus.report.write.to_latex", fails)
    monkeypatch.setattr("visus.report.page_tables.to_latex", fails)
    page = write_report(result(tables=(table("one"),)), tmp_path).read_text("utf-8")
    assert "Table one as LaTeX could not be made" in page
    assert 'download="one.csv"' in page
    assert 'download="one.tex"' not in page
    assert (tmp_path / "tables" / "one.csv").is_file()
    assert not (tmp_path / "tables" / "one.tex").exists()


def test_every_kind_stands_nan_infinities_and_one_point(make_sample: Callable[..., Result]) -> None:
    sample = make_sample(n=20, count=2)
    assert "could not be made" not in render_page(sample)
    for value in (float("nan"), float("inf"), 0.0):
        assert "could not be made" not in render_page(_spoilt(sample, value))


def _spoilt(data: Any, value: float) -> Any:
    """The same with `value` for every number with a point in it."""
    if is_dataclass(data):
        fields = {f.name: getattr(data, f.name) for f in dataclass_fields(data)}
        return replace(data, **{k: _spoilt(v, value) for k, v in fields.items() if k not in ("metrics", "predictions")})  # type: ignore[type-var]
    if isinstance(data, np.ndarray):
        return np.full_like(data, value) if data.dtype.kind == "f" else data
    if isinstance(data, dict):
        return {k: _spoilt(v, value) for k, v in data.items()}
    if isinstance(data, tuple):
        return tuple(_spoilt(v, value) for v in data)
    return value if isinstance(data, float) else data


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_report(result(lines("old", [1, 2]), lines("both", [1, 2]), tables=(table("gone"),)), tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"my own")
    (tmp_path / "notes.txt").write_text("my own")
    write_report(result(lines("both", [1, 2])), tmp_path)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["both.pdf", "both.png", "both.svg", "mine.png"]
    assert not (tmp_path / "tables").exists()
    assert (tmp_path / "notes.txt").read_text() == "my own"
    assert written_in(tmp_path) == {
        MARKER,
        "index.html",
        "result.json",
        "arrays.npz",
        *(f"figures/both.{e}" for e in ("png", "svg", "pdf")),
    }


def test_what_somebody_changed_since_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    write_report(result(lines("old", [1, 2])), tmp_path)
    check_out(tmp_path, "vae")
    (tmp_path / "figures" / "old.png").write_bytes(b"my own")
    with pytest.raises(StoreError, match=r"holds figures/old\.png, changed since visus wrote it; move it away"):
        check_out(tmp_path, "vae")
    write_report(result(lines("new", [1, 2])), tmp_path)
    assert (tmp_path / "figures" / "old.png").read_bytes() == b"my own"
    assert not (tmp_path / "figures" / "old.svg").exists()
    mark(tmp_path, ["index.html"])  # about to be written, when the run is killed: its content is not known, and ours
    (tmp_path / "index.html").write_text("<html>half a run")
    check_out(tmp_path, "vae")


@pytest.mark.parametrize("schema", [1, 2])
def test_what_a_version_without_markers_left_is_removed_too(schema: int, tmp_path: Path) -> None:
    write_report(result(lines("old", [1, 2]), tables=(table("gone"),)), tmp_path)
    (tmp_path / MARKER).unlink()
    if schema == 1:
        body = {"schema": 1, "study": "vae", "tables": {"gone": {}}, "figures": [{"name": "old"}]}
        (tmp_path / "result.json").write_text(json.dumps(body))
    (tmp_path / "figures" / "mine.png").write_bytes(b"my own")
    write_report(result(lines("new", [1, 2])), tmp_path)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["mine.png", "new.pdf", "new.png", "new.svg"]
    assert not (tmp_path / "tables").exists()


def test_a_marker_that_names_files_elsewhere_removes_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report(result(), out)
    (tmp_path / "dear.txt").write_text("dear")
    (out / MARKER).write_text((out / MARKER).read_text() + f"../dear.txt\n{tmp_path / 'dear.txt'}\n")
    write_report(result(), out)
    assert (tmp_path / "dear.txt").is_file()
