"""Small multiples of maps: every format, the page, shared axes, and data that misbehave."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from visus.errors import DataError
from visus.report import render_page, write_report
from visus.report.draw import draw, to_bytes
from visus.report.svg import inline, standalone
from visus.studies.common.schema1 import Figure, Result

NASTY = ["<script>alert(1)</script>", "$x^2$ \\frac", "نص", "x" * 300, "\x00\udcff", "a & b"]


def grid(
    rows: list[str], columns: list[str], *, n: int = 60, classes: int = 12
) -> tuple[Figure, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"l": np.arange(n) % max(classes, 1)}
    panels: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            arrays[f"p{i}{j}"] = (rng.normal(size=(n, 2)) * (1 + i + j)).astype(np.float32)
            trust = {"trustworthiness": 0.9 + 0.01 * i, "neighbours_kept": 0.4 + 0.01 * j}
            panels.append({"row": row, "column": column, "points": f"p{i}{j}", "trust": trust})
    names = [NASTY[c] if c < len(NASTY) else f"class {c}" for c in range(classes)]
    return Figure("m", "maps", "t", "c", {"panels": panels, "labels": "l", "classes": names}), arrays


def holed() -> tuple[Figure, dict[str, np.ndarray]]:
    one, arrays = grid(["a", "b"], ["c", "d"], classes=3)
    arrays["p00"] = np.full((60, 2), np.nan)
    arrays["l"][:5] = [-1, 7, 3, -9, 100]
    panels = [
        dict(one.data["panels"][0]),
        {**one.data["panels"][3], "trust": {"neighbours_kept": None, "other_one": 1.0}},
    ]
    return Figure("m", "maps", "t", "c", {**one.data, "panels": panels}), arrays


CASES = {
    "3 x 3": grid(["pretrained", "fine-tuned", "random"], ["early", "middle", "late"]),
    "one": grid(["a"], ["b"]),
    "names": grid(NASTY[:3], NASTY[3:]),
    "150 classes": grid(["a"], ["b", "c"], n=300, classes=150),
    "8 columns": grid(["a", "b"], [f"blocks.{i}" for i in range(8)]),
    "no points": grid(["a"], ["b"], n=0),
    "no panels": (Figure("m", "maps", "t", "c", {"panels": [], "labels": "l", "classes": []}), {}),
    "holes": holed(),
}  # fmt: skip


@pytest.mark.parametrize("width", [7.2, 4.1])
@pytest.mark.parametrize("name", CASES)
def test_it_is_drawn_in_every_format_without_a_word(name: str, width: float) -> None:
    one, arrays = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = draw(one, arrays, width=width)
        files = {form: to_bytes(canvas, form) for form in ("png", "svg", "pdf")}  # type: ignore[arg-type]
    assert files["png"].startswith(b"\x89PNG")
    assert files["pdf"].startswith(b"%PDF")
    for text in (standalone(files["svg"]).decode(), inline(files["svg"], prefix="p-", label="<&\"'>")):
        assert not [e for e in fromstring(text).iter() if str(e.tag).endswith("script")]


def test_all_panels_have_the_same_square_axes_and_hold_every_point() -> None:
    one, arrays = CASES["3 x 3"]
    panels = draw(one, arrays).axes
    assert len(panels) == 9
    limits = {(a.get_xlim(), a.get_ylim()) for a in panels}
    assert len(limits) == 1
    (left, right), (bottom, top) = limits.pop()
    assert right - left == pytest.approx(top - bottom)
    assert len({tuple(np.round([a.get_position().width, a.get_position().height], 9)) for a in panels}) == 1
    every = np.concatenate([arrays[p["points"]] for p in one.data["panels"]])
    assert left < every[:, 0].min() < every[:, 0].max() < right
    assert bottom < every[:, 1].min() < every[:, 1].max() < top


def test_every_panel_draws_its_own_points_by_class_and_says_how_far_to_trust_it() -> None:
    one, arrays = CASES["3 x 3"]
    canvas = draw(one, arrays)
    for panel, axes in zip(one.data["panels"], canvas.axes, strict=True):
        drawn = {tuple(np.round(xy, 5)) for line in axes.lines for xy in np.column_stack(line.get_data())}
        assert drawn == {tuple(np.round(xy, 5)) for xy in arrays[panel["points"]].astype(float)}
        colours = [(line.get_markerfacecolor(), line.get_marker()) for line in axes.lines]
        assert len(set(colours)) == 12
        assert axes.get_xlabel() == (
            f"trustworthiness {panel['trust']['trustworthiness']:.2f}\nneighbours kept {panel['trust']['neighbours_kept']:.2f}"
        )
    assert [a.get_title() for a in canvas.axes[:3]] == ["early", "middle", "late"]
    assert [a.get_ylabel() for a in canvas.axes[::3]] == ["pretrained", "fine-tuned", "random"]


def test_the_legend_names_every_class_once_and_stands_inside_the_paper() -> None:
    for name in ("3 x 3", "150 classes"):
        one, arrays = CASES[name]
        canvas = draw(one, arrays)
        (legend,) = canvas.legends
        assert len(legend.get_texts()) == min(len(one.data["classes"]), 120)
        to_bytes(canvas, "png")
        box = legend.get_window_extent()
        assert box.y0 >= 0
        lowest = min(a.get_tightbbox().y0 for a in canvas.axes)
        assert box.y1 <= lowest


@pytest.mark.parametrize("classes", [7, 20, 100])
def test_the_legend_is_read_row_by_row(classes: int) -> None:
    one, arrays = grid(["a"], ["b"], n=200, classes=classes)
    names = [f"class {i:03}" for i in range(classes)]  # of one height, so that rows are level
    canvas = draw(Figure("m", "maps", "t", "c", {**one.data, "classes": names}), arrays)
    to_bytes(canvas, "png")
    boxes = [(t.get_window_extent(), t.get_text()) for t in canvas.legends[0].get_texts()]
    assert [text for *_, text in sorted((-round(b.y0), b.x0, text) for b, text in boxes)] == names


def test_on_the_page_the_colours_follow_the_theme_and_no_script_is_asked_for() -> None:
    one, arrays = CASES["3 x 3"]
    page = render_page(Result("transfer", "t", (), {}, (one,), arrays, (), {}))
    assert page.count('<svg class="plot"') == 2
    assert "var(--c3)" in page
    assert "#0072b2" not in re.sub(r":root[^}]*}", "", page)
    assert "data-group" not in page.split("<script")[0]


def test_it_lies_beside_moving_maps_and_comes_back_from_the_file(tmp_path: Path) -> None:
    one, arrays = CASES["one"]
    moving = Figure(
        "x",
        "map",
        "t",
        "c",
        {"points": "p00", "labels": "l", "classes": list(one.data["classes"]), "ids": [], "sprite": None, "trust": {}},
    )
    safe = {**one.data, "classes": [f"class {i}" for i in range(12)]}
    figures = (moving, Figure("m", "maps", "t", "c", safe), moving)
    result = Result("transfer", "t", (), {}, figures, arrays, (), {})
    index = write_report(result, tmp_path)
    assert index.read_text("utf-8").count('data-group="') == 2
    assert {p.suffix for p in (tmp_path / "figures").glob("m.*")} == {".png", ".svg", ".pdf"}
    assert Result.load(tmp_path).to_json() == result.to_json()


def test_the_same_data_give_the_same_bytes() -> None:
    one, arrays = CASES["3 x 3"]
    for form in ("png", "svg", "pdf"):
        assert to_bytes(draw(one, arrays), form) == to_bytes(draw(one, arrays), form)  # type: ignore[arg-type]


def test_two_maps_in_one_place_and_missing_or_short_arrays_are_refused() -> None:
    one, arrays = CASES["one"]
    panel = one.data["panels"][0]
    with pytest.raises(DataError, match="two maps"):
        draw(Figure("m", "maps", "t", "c", {**one.data, "panels": [panel, panel]}), arrays)
    with pytest.raises(DataError, match="'gone'"):
        draw(Figure("m", "maps", "t", "c", {**one.data, "panels": [{**panel, "points": "gone"}]}), arrays)
    with pytest.raises(DataError, match="do not match"):
        draw(one, {**arrays, "l": np.zeros(3)})
    with pytest.raises(DataError, match="'labels'"):
        draw(Figure("m", "maps", "t", "c", {"panels": [panel], "classes": []}), arrays)
