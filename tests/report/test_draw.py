"""Figures of every kind, with data that misbehave."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree.ElementTree import fromstring

import matplotlib
import numpy as np
import pytest

from visus.errors import DataError
from visus.report.draw import draw, to_bytes
from visus.report.svg import inline, standalone
from visus.studies.common.schema1 import Figure

NASTY = [
    "<script>alert(1)</script>",
    "a & b",
    "$x^2$ \\frac",
    "=cmd",
    "نص",
    "日本",
    "😀",
    "x" * 300,
    "q\"'",
    "\x00\udcff",
    'id="p" url(#p)',
]
NAN = float("nan")


def pixels(figure: Figure, arrays: dict[str, np.ndarray] | None = None) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(to_bytes(draw(figure, arrays or {}), "png"))).convert("RGB"), np.float64)


def figure(kind: str, data: dict[str, Any]) -> Figure:
    return Figure("f", kind, "t", "c", data)  # type: ignore[arg-type]


def intervals(labels: list[str], groups: int = 2) -> Figure:
    n = len(labels)
    one = {"labels": labels, "values": [0.5] * n, "low": [0.4] * n, "high": [0.6] * n}
    return figure(
        "intervals", {"x_label": "x", "y_label": "y", "groups": [{"name": NASTY[i % 8], **one} for i in range(groups)]}
    )


def heatmap(values: list[list[float | None]], rows: list[str], columns: list[str]) -> Figure:
    return figure(
        "heatmap", {"values": values, "rows": rows, "columns": columns, "label": "v", "low": None, "high": None}
    )


def points(n: int, classes: int) -> tuple[Figure, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    arrays = {"p": rng.normal(size=(n, 2)).astype(np.float32), "l": np.arange(n) % max(classes, 1)}
    names = [NASTY[c] if c < len(NASTY) else f"class {c}" for c in range(classes)]
    return figure(
        "map",
        {
            "points": "p",
            "labels": "l",
            "classes": names,
            "ids": [],
            "sprite": None,
            "trust": {"trustworthiness": 0.9, "neighbours_kept": None},
        },
    ), arrays


def series(y: list[float | None], **more: Any) -> Figure:
    one = {"name": "$s$", "x": list(range(1, len(y) + 1)), "y": y, "low": None, "high": None}
    return figure(
        "lines", {"x_label": "x", "y_label": "y", "x_log": False, "y_log": False, "series": [one], "marks": [], **more}
    )


def curves(ys: list[list[float]], **more: Any) -> Figure:
    panels = [
        {
            "title": f"p{i}",
            "series": [{"name": "s", "x": [1, 2, 3], "y": y}],
            "marks": [{"label": "m", "x": 2, "y": y[1]}],
        }
        for i, y in enumerate(ys)
    ]
    return figure("curves", {"x_label": "x", "y_label": "y", "panels": panels, **more})


CASES: dict[str, tuple[Figure, dict[str, np.ndarray]]] = {
    "intervals": (intervals(["a", "b"]), {}),
    "intervals, nasty names": (intervals(NASTY, 8), {}),
    "intervals, 100 labels": (intervals([f"class {i}" for i in range(100)], 1), {}),
    "intervals, nothing": (figure("intervals", {"x_label": "", "y_label": "", "groups": []}), {}),
    "lines": (series([1.0, 2.0, 1.5], marks=[{"label": "$m$", "x": 2}]), {}),
    "lines, gaps": (series([None, NAN, float("inf"), 2.0]), {}),
    "lines, logs": (series([0.0, -1.0, 10.0, 1e5], x_log=True, y_log=True), {}),
    "lines, only gaps": (series([None, NAN]), {}),
    "heatmap": (heatmap([[0.0, 1.0], [NAN, None]], ["a", "b"], NASTY[:2]), {}),
    "heatmap, signed": (heatmap([[-1.0, 1.0]], ["a"], ["b", "c"]), {}),
    "heatmap, constant": (heatmap([[2.0, 2.0]], ["a"], ["b", "c"]), {}),
    "heatmap, 100 x 100": (
        heatmap(np.eye(100).tolist(), [f"r{i}" for i in range(100)], [f"c{i}" for i in range(100)]),
        {},
    ),
    "heatmap, nothing": (heatmap([], [], []), {}),
    "map": points(200, 5),
    "map, 100 classes": points(400, 100),
    "map, 300 classes": points(600, 300),
    "map, no points": points(0, 3),
    "map, missing places": (
        points(3, 2)[0],
        {"p": np.array([[NAN, 0], [0, 1], [2, np.inf]]), "l": np.array([0, -1, 7])},
    ),
    "gallery": (
        figure("gallery", {"images": "i", "captions": NASTY, "groups": [NASTY[i // 4] for i in range(len(NASTY))]}),
        {"i": np.random.default_rng(0).integers(0, 255, (len(NASTY), 8, 12, 3), np.uint8)},
    ),
    "gallery, in columns": (
        figure("gallery", {"images": "i", "captions": [""] * 6, "groups": ["a"] * 3 + ["b"] * 3, "columns": 3}),
        {"i": np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), np.uint8)},
    ),
    "curves, logarithmic on axes of their own": (
        curves([[100.0, 20.0, 15.0], [0.01, 8.0, NAN]], y_log=True, own_y=True),
        {},
    ),
    "gallery, nothing": (
        figure("gallery", {"images": "i", "captions": [], "groups": None}),
        {"i": np.zeros((0, 8, 8, 3), np.uint8)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_is_drawn_without_a_word(name: str) -> None:
    one, arrays = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = pixels(one, arrays)
        canvas = draw(one, arrays)
        svg, pdf = to_bytes(canvas, "svg"), to_bytes(canvas, "pdf")
    assert image.shape[1] == 1440
    assert image.std() > 0.5, "the figure is blank"
    assert pdf.startswith(b"%PDF")
    for text in (standalone(svg).decode(), inline(svg, prefix="p-", label="<&\"'>")):
        root = fromstring(text)
        assert not [e for e in root.iter() if str(e.tag).endswith("script")]


def test_ink_shows_where_the_data_are() -> None:
    low, high = pixels(series([0.0, 0.0, 1.0])), pixels(series([0.0, 0.0, 0.0]))
    assert np.abs(low - high).max() > 100


def test_same_data_same_bytes() -> None:
    one, arrays = CASES["map"]
    for form in ("png", "svg", "pdf"):
        assert to_bytes(draw(one, arrays), form) == to_bytes(draw(one, arrays), form)  # type: ignore[arg-type]


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    to_bytes(draw(*CASES["intervals"]), "svg")
    assert dict(matplotlib.rcParams) == before


def test_dollars_are_no_mathematics_and_names_stay_text() -> None:
    labels = to_bytes(draw(intervals(["$x^2$", "<b>&"]), {}), "svg")
    assert ">$x^2$</text>" in labels.decode()
    assert ">&lt;b&gt;&amp;</text>" in labels.decode()


def test_inline_svg_takes_theme_colours_and_its_own_ids() -> None:
    svg = to_bytes(draw(*CASES["map"]), "svg")
    a, b = inline(svg, prefix="a-", label="x"), inline(svg, prefix="b-", label="x")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (a, b)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', a)) <= ids[0]
    assert "var(--c0)" in a
    assert "#0072b2" not in a
    assert "<style" not in a
    assert "DejaVu" not in a


@pytest.mark.parametrize(
    ("data", "arrays", "says"),
    [
        ({"points": "p", "labels": "l", "classes": []}, {}, "'p'"),
        ({"points": "p", "labels": "l", "classes": []}, {"p": np.zeros((3, 2)), "l": np.zeros(2)}, "do not match"),
        (
            {"points": "p", "labels": "l", "classes": [], "ids": ["a"]},
            {"p": np.zeros((3, 2)), "l": np.zeros(3)},
            "1 ids",
        ),
        ({"points": "p"}, {}, "labels"),
    ],
)
def test_bad_maps_are_named(data: dict[str, Any], arrays: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(DataError, match=says):
        draw(figure("map", data), {"p": np.zeros((3, 2)), **arrays} if says == "labels" else arrays)


def test_panels_on_axes_of_their_own_each_fill_their_height() -> None:
    ys = [[100.0, 20.0, 15.0], [0.01, 8.0, 9.0]]
    shared, own = (draw(curves(ys, y_log=True, own_y=o), {}) for o in (False, True))
    limits = [[a.get_ylim() for a in canvas.axes] for canvas in (shared, own)]
    assert limits[0][0] == limits[0][1]
    assert limits[1][0] != limits[1][1]
    assert own.axes[0].get_yscale() == "log"
    assert "mathdefault" not in to_bytes(own, "svg").decode()


def test_columns_put_rows_of_as_many_pictures_under_one_another() -> None:
    images = {"i": np.zeros((24, 8, 8, 3), np.uint8)}
    tall = []
    for columns in (None, 12):
        data = {"images": "i", "captions": [""] * 24, "groups": ["a"] * 12 + ["b"] * 12, "columns": columns}
        tall.append(draw(figure("gallery", data), images).get_figheight())
    assert tall[1] < 0.6 * tall[0]


def test_unknown_kind_and_bad_pictures_are_named() -> None:
    with pytest.raises(DataError, match="pie"):
        draw(figure("pie", {}), {})
    with pytest.raises(DataError, match="uint8"):
        draw(figure("gallery", {"images": "i", "captions": ["a"], "groups": None}), {"i": np.zeros((1, 4, 4, 3))})
