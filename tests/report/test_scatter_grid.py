"""Small multiples of maps: every format, the page, shared axes, and data that misbehave."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from visus.errors import DataError
from visus.figures import AnyFigure, Map, MapPanel, Maps
from visus.report import render_page, write_report
from visus.report.draw import draw, to_bytes
from visus.report.svg import inline, standalone
from visus.result import Result, Section

NASTY = ["<script>alert(1)</script>", "$x^2$ \\frac", "نص", "x" * 300, "\x00\udcff", "a & b"]


HEAD: dict[str, Any] = {"key": "m", "title": "t", "caption": "c"}


def grid(rows: list[str], columns: list[str], *, n: int = 60, classes: int = 12) -> Maps:
    rng = np.random.default_rng(0)
    panels = [
        MapPanel(
            row=row, column=column, points=(rng.normal(size=(n, 2)) * (1 + i + j)).astype(np.float32),
            trust={"trustworthiness": 0.9 + 0.01 * i, "neighbours_kept": 0.4 + 0.01 * j},
        )
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]  # fmt: skip
    names = [NASTY[c] if c < len(NASTY) else f"class {c}" for c in range(classes)]
    return Maps(**HEAD, panels=panels, labels=np.arange(n) % max(classes, 1), classes=names)


def holed() -> Maps:
    one = grid(["a", "b"], ["c", "d"], classes=3)
    labels = one.labels.copy()
    labels[:5] = [-1, 7, 3, -9, 100]
    panels = (
        replace(one.panels[0], points=np.full((60, 2), np.nan)),
        replace(one.panels[3], trust={"neighbours_kept": None, "other_one": 1.0}),
    )
    return replace(one, panels=panels, labels=labels)


def result(*figures: AnyFigure) -> Result:
    section = Section(key="maps", title="?", source="visus.studies.transfer", figures=figures)
    return Result(study="transfer", title="t", sections=(section,))


CASES = {
    "3 x 3": grid(["pretrained", "fine-tuned", "random"], ["early", "middle", "late"]),
    "one": grid(["a"], ["b"]),
    "names": grid(NASTY[:3], NASTY[3:]),
    "150 classes": grid(["a"], ["b", "c"], n=300, classes=150),
    "8 columns": grid(["a", "b"], [f"blocks.{i}" for i in range(8)]),
    "no points": grid(["a"], ["b"], n=0),
    "no panels": Maps(**HEAD, panels=(), labels=np.zeros(0, int), classes=()),
    "holes": holed(),
}  # fmt: skip


@pytest.mark.parametrize("width", [7.2, 4.1])
@pytest.mark.parametrize("name", CASES)
def test_it_is_drawn_in_every_format_without_a_word(name: str, width: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = draw(CASES[name], width=width)
        files = {form: to_bytes(canvas, form) for form in ("png", "svg", "pdf")}  # type: ignore[arg-type]
    assert files["png"].startswith(b"\x89PNG")
    assert files["pdf"].startswith(b"%PDF")
    for text in (standalone(files["svg"]).decode(), inline(files["svg"], prefix="p-", label="<&\"'>")):
        assert not [e for e in fromstring(text).iter() if str(e.tag).endswith("script")]


def test_all_panels_have_the_same_square_axes_and_hold_every_point() -> None:
    one = CASES["3 x 3"]
    panels = draw(one).axes
    assert len(panels) == 9
    limits = {(a.get_xlim(), a.get_ylim()) for a in panels}
    assert len(limits) == 1
    (left, right), (bottom, top) = limits.pop()
    assert right - left == pytest.approx(top - bottom)
    assert len({tuple(np.round([a.get_position().width, a.get_position().height], 9)) for a in panels}) == 1
    every = np.concatenate([p.points for p in one.panels])
    assert left < every[:, 0].min() < every[:, 0].max() < right
    assert bottom < every[:, 1].min() < every[:, 1].max() < top


def test_every_panel_draws_its_own_points_by_class_and_says_how_far_to_trust_it() -> None:
    one = CASES["3 x 3"]
    canvas = draw(one)
    for panel, axes in zip(one.panels, canvas.axes, strict=True):
        drawn = {tuple(np.round(xy, 5)) for line in axes.lines for xy in np.column_stack(line.get_data())}
        assert drawn == {tuple(np.round(xy, 5)) for xy in panel.points.astype(float)}
        colours = [(line.get_markerfacecolor(), line.get_marker()) for line in axes.lines]
        assert len(set(colours)) == 12
        assert axes.get_xlabel() == (
            f"trustworthiness {panel.trust['trustworthiness']:.2f}\nneighbours kept {panel.trust['neighbours_kept']:.2f}"
        )
    assert [a.get_title() for a in canvas.axes[:3]] == ["early", "middle", "late"]
    assert [a.get_ylabel() for a in canvas.axes[::3]] == ["pretrained", "fine-tuned", "random"]


def test_the_legend_names_every_class_once_and_stands_inside_the_paper() -> None:
    for name in ("3 x 3", "150 classes"):
        one = CASES[name]
        canvas = draw(one)
        (legend,) = canvas.legends
        assert len(legend.get_texts()) == min(len(one.classes), 120)
        to_bytes(canvas, "png")
        box = legend.get_window_extent()
        assert box.y0 >= 0
        lowest = min(a.get_tightbbox().y0 for a in canvas.axes)
        assert box.y1 <= lowest


@pytest.mark.parametrize("classes", [7, 20, 100])
def test_the_legend_is_read_row_by_row(classes: int) -> None:
    names = [f"class {i:03}" for i in range(classes)]  # of one height, so that rows are level
    canvas = draw(replace(grid(["a"], ["b"], n=200, classes=classes), classes=names))
    to_bytes(canvas, "png")
    boxes = [(t.get_window_extent(), t.get_text()) for t in canvas.legends[0].get_texts()]
    assert [text for *_, text in sorted((-round(b.y0), b.x0, text) for b, text in boxes)] == names


def test_on_the_page_the_colours_follow_the_theme_and_no_script_is_asked_for() -> None:
    page = render_page(result(CASES["3 x 3"]))
    assert page.count('<svg class="plot"') == 2
    assert "var(--c3)" in page
    assert "#0072b2" not in re.sub(r":root[^}]*}", "", page)
    assert "data-group" not in page.split("<script")[0]


def test_it_lies_beside_moving_maps_and_comes_back_from_the_file(tmp_path: Path) -> None:
    one = replace(CASES["one"], classes=[f"class {i}" for i in range(12)])
    moving = Map(key="x", title="t", points=one.panels[0].points, labels=one.labels, classes=one.classes)
    whole = result(moving, one, replace(moving, key="y"))
    index = write_report(whole, tmp_path)
    assert index.read_text("utf-8").count('data-group="') == 2
    assert {p.suffix for p in (tmp_path / "figures").glob("m.*")} == {".png", ".svg", ".pdf"}
    assert Result.load(tmp_path).to_json() == whole.to_json()


def test_the_same_data_give_the_same_bytes() -> None:
    for form in ("png", "svg", "pdf"):
        assert to_bytes(draw(CASES["3 x 3"]), form) == to_bytes(draw(CASES["3 x 3"]), form)  # type: ignore[arg-type]


def test_two_maps_in_one_place_and_arrays_that_do_not_match_are_refused() -> None:
    one = CASES["one"]
    with pytest.raises(DataError, match="two maps"):
        draw(replace(one, panels=(*one.panels, *one.panels)))
    with pytest.raises(DataError, match=r"map 'm': .*do not match"):
        draw(replace(one, labels=np.zeros(3)))
