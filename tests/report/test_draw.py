"""Figures of every kind, with data that misbehave."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
import zlib
from typing import Any
from xml.etree.ElementTree import fromstring

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from visus.errors import DataError
from visus.figures import (
    CurvePanel,
    Curves,
    Figure,
    Gallery,
    Group,
    Heatmap,
    Intervals,
    Lines,
    Map,
    Mark,
    Reference,
    Series,
)
from visus.report.draw import DRAW, draw, to_bytes
from visus.report.svg import inline, standalone

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


HEAD: dict[str, Any] = {"key": "f", "title": "t", "caption": "c"}


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(to_bytes(draw(figure), "png"))).convert("RGB"), np.float64)


def intervals(labels: list[str], groups: int = 2, **more: Any) -> Intervals:
    n = len(labels)
    one: dict[str, Any] = {"labels": labels, "values": [0.5] * n, "low": [0.4] * n, "high": [0.6] * n}
    made = [Group(name=NASTY[i % 8], **one) for i in range(groups)]
    return Intervals(**HEAD, x_label="x", y_label="y", groups=made, **more)


def heatmap(values: Any, rows: list[str], columns: list[str], **more: Any) -> Heatmap:
    return Heatmap(**HEAD, values=values, rows=rows, columns=columns, label="v", **more)


def points(n: int, classes: int) -> Map:
    rng = np.random.default_rng(0)
    names = [NASTY[c] if c < len(NASTY) else f"class {c}" for c in range(classes)]
    places, labels = rng.normal(size=(n, 2)).astype(np.float32), np.arange(n) % max(classes, 1)
    trust = {"trustworthiness": 0.9, "neighbours_kept": None}
    return Map(**HEAD, points=places, labels=labels, classes=names, trust=trust)


def series(y: list[float | None], **more: Any) -> Lines:
    one = Series(name="$s$", x=range(1, len(y) + 1), y=y)
    return Lines(**HEAD, x_label="x", y_label="y", series=(one,), **more)


def curves(ys: list[list[float]], **more: Any) -> Curves:
    panels = [
        CurvePanel(title=f"p{i}", series=(Series(name="s", x=[1, 2, 3], y=y),), marks=(Mark("m", 2, y[1]),))
        for i, y in enumerate(ys)
    ]
    return Curves(**HEAD, x_label="x", y_label="y", panels=panels, **more)


def gallery(n: int, captions: list[str], groups: list[str] | None, *, wide: int = 8, **more: Any) -> Gallery:
    images = np.random.default_rng(0).integers(0, 255, (n, 8, wide, 3), np.uint8)
    return Gallery(**HEAD, images=images, captions=captions, groups=groups, **more)


CASES: dict[str, Figure] = {
    "intervals": intervals(["a", "b"]),
    "intervals, nasty names": intervals(NASTY, 8),
    "intervals, 100 labels": intervals([f"class {i}" for i in range(100)], 1),
    "intervals, nothing": Intervals(**HEAD, groups=()),
    "lines": series([1.0, 2.0, 1.5], marks=(Mark("$m$", 2),)),
    "lines, gaps": series([None, NAN, float("inf"), 2.0]),
    "lines, logs": series([0.0, -1.0, 10.0, 1e5], x_log=True, y_log=True),
    "lines, only gaps": series([None, NAN]),
    "heatmap": heatmap([[0.0, 1.0], [NAN, None]], ["a", "b"], NASTY[:2]),
    "heatmap, signed": heatmap([[-1.0, 1.0]], ["a"], ["b", "c"]),
    "heatmap, constant": heatmap([[2.0, 2.0]], ["a"], ["b", "c"]),
    "heatmap, 100 x 100": heatmap(np.eye(100), [f"r{i}" for i in range(100)], [f"c{i}" for i in range(100)]),
    "heatmap, nothing": heatmap([], [], []),
    "map": points(200, 5),
    "map, 100 classes": points(400, 100),
    "map, 300 classes": points(600, 300),
    "map, no points": points(0, 3),
    "map, missing places": dataclasses.replace(
        points(3, 2), points=np.array([[NAN, 0], [0, 1], [2, np.inf]]), labels=np.array([0, -1, 7])
    ),
    "gallery": gallery(len(NASTY), NASTY, [NASTY[i // 4] for i in range(len(NASTY))], wide=12),
    "gallery, in columns": gallery(6, [""] * 6, ["a"] * 3 + ["b"] * 3, columns=3),
    "gallery, nothing": gallery(0, [], None),
    "curves, logarithmic on axes of their own": curves([[100.0, 20.0, 15.0], [0.01, 8.0, NAN]], y_log=True, own_y=True),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_is_drawn_without_a_word(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = pixels(CASES[name])
        canvas = draw(CASES[name])
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
    for form in ("png", "svg", "pdf"):
        assert to_bytes(draw(CASES["map"]), form) == to_bytes(draw(CASES["map"]), form)  # type: ignore[arg-type]


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    to_bytes(draw(CASES["intervals"]), "svg")
    assert dict(matplotlib.rcParams) == before


def test_dollars_are_no_mathematics_and_names_stay_text() -> None:
    labels = to_bytes(draw(intervals(["$x^2$", "<b>&"])), "svg")
    assert ">$x^2$</text>" in labels.decode()
    assert ">&lt;b&gt;&amp;</text>" in labels.decode()


def test_inline_svg_takes_theme_colours_and_its_own_ids() -> None:
    svg = to_bytes(draw(CASES["map"]), "svg")
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
    ("changed", "says"),
    [
        ({"labels": np.zeros(2)}, r"map 'f': .*do not match"),
        ({"points": np.zeros((3, 3))}, "do not match"),
        ({"ids": ["a"]}, "3 points but 1 ids"),
    ],
)
def test_bad_maps_are_named(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        draw(dataclasses.replace(points(3, 2), **changed))


def test_shares_are_drawn_in_percent_and_the_axis_says_so() -> None:
    reference = (Reference("chance", 0.1),)
    drawn = draw(intervals(["a"], 1, unit="share", reference=reference)).axes[0]
    assert drawn.get_ylabel() == "y, %"
    assert {round(float(v), 6) for one in drawn.lines for v in one.get_ydata()} == {10.0, 40.0, 50.0, 60.0}
    lines = draw(series([0.25, None], unit="points", marks=(Mark("m", 1),))).axes[0]
    assert (lines.get_xlabel(), lines.get_ylabel()) == ("x", "y, points")
    assert lines.lines[0].get_ydata()[0] == 25
    panels = draw(curves([[0.1, 0.2, 0.3]], unit="share"))
    assert [one.get_ydata().tolist() for one in panels.axes[0].lines] == [[10.0, 20.0, 30.0], [20.0]]
    assert panels.get_supylabel() == "y, %"
    matrix = draw(heatmap([[0.123, 1.0]], ["a"], ["b", "c"], unit="share", low=0.0, high=1.0))
    assert [one.get_text() for one in matrix.axes[0].texts] == ["12.3", "100.0"]
    assert matrix.axes[1].get_ylabel() == "v, %"


def test_every_kind_of_the_contract_is_drawn() -> None:
    assert {kind.__name__ for kind in DRAW} == {kind.__name__ for kind in Figure.__subclasses__()}


def test_panels_on_axes_of_their_own_each_fill_their_height() -> None:
    ys = [[100.0, 20.0, 15.0], [0.01, 8.0, 9.0]]
    shared, own = (draw(curves(ys, y_log=True, own_y=o)) for o in (False, True))
    limits = [[a.get_ylim() for a in canvas.axes] for canvas in (shared, own)]
    assert limits[0][0] == limits[0][1]
    assert limits[1][0] != limits[1][1]
    assert own.axes[0].get_yscale() == "log"
    assert "mathdefault" not in to_bytes(own, "svg").decode()


def test_columns_put_rows_of_as_many_images_under_one_another() -> None:
    tall = [
        draw(gallery(24, [""] * 24, ["a"] * 12 + ["b"] * 12, columns=columns)).get_figheight() for columns in (None, 12)
    ]
    assert tall[1] < 0.6 * tall[0]


def test_unknown_kinds_and_bad_images_are_named() -> None:
    with pytest.raises(DataError, match="'f' is a Figure, which nothing draws"):
        draw(Figure(**HEAD))
    with pytest.raises(DataError, match="'f': images must be uint8"):
        draw(Gallery(**HEAD, images=np.zeros((1, 4, 4, 3)), captions=["a"]))
    with pytest.raises(DataError, match="1 images need as many captions"):
        draw(gallery(1, [], None))


def test_a_figure_is_laid_out_once_and_its_pdf_holds_text_without_tables_for_shaping() -> None:
    canvas = draw(intervals(["a", "b"]))
    assert canvas.get_layout_engine() is None
    data = to_bytes(canvas, "pdf")
    assert b"/CIDFontType2" in data
    assert b"/Type3" not in data
    assert to_bytes(draw(intervals(["a", "b"])), "pdf") == data
    fonts = [zlib.decompress(part.split(b"endstream")[0]) for part in data.split(b"stream\n")[1::2] if part[:1] == b"x"]
    embedded = [font for font in fonts if font[:4] == b"\x00\x01\x00\x00"]
    assert embedded
    for font in embedded:
        assert not {"GSUB", "GPOS", "GDEF", "kern"} & set(TTFont(io.BytesIO(font)).keys())
