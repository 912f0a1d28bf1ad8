"""The figure kinds 'front' and 'curves'."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from itertools import combinations
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from visus.figures import CurvePanel, Curves, Front, FrontPanel, FrontPoint, Mark, Series
from visus.report import render_page
from visus.report.draw import draw, to_bytes
from visus.result import Result, Section

NAN = float("nan")
REGIMES = ("probe", "head", "last block", "full", "scratch", "LoRA")


def front(models: int = 2, regimes: tuple[str, ...] = REGIMES, *, crowded: bool = False) -> Front:
    """Regimes as they fall in life: probe and head beside each other, full at the top right, scratch at the bottom right."""
    flops = {"probe": 3.1e12, "head": 3.3e12, "last block": 4.1e13, "full": 9.2e14, "scratch": 9.2e14, "LoRA": 6.3e14}
    top = {"probe": 0.84, "head": 0.834, "last block": 0.881, "full": 0.915, "scratch": 0.41, "LoRA": 0.908}
    points, x = [], []
    for m in range(models):
        for regime in regimes:
            y = 0.8 if crowded else top[regime] + 0.03 * m
            points.append(FrontPoint(label=regime, group=f"model {m}", y=y, low=y - 0.022, high=y + 0.02))
            x.append(1e12 if crowded else flops[regime] * 3**m)
    on = [
        all(not (a <= b and p.y > q.y) for a, p in zip(x, points, strict=True)) for b, q in zip(x, points, strict=True)
    ]  # type: ignore[operator]
    panels = (
        FrontPanel(x_label="training FLOPs", x=x, front=tuple(on), si=True),
        FrontPanel(x_label="wall time, s", x=[v / 2e11 for v in x], front=tuple(on)),
    )
    return Front(
        key="front", title="t", caption="c", y_label="test accuracy", unit="share", points=points, panels=panels
    )


def curves(panels: int, epochs: int = 12) -> Curves:
    drawn = []
    for p in range(panels):
        x = list(range(1, epochs + 1))
        train, val = [2.3 * 0.8**e + 0.1 for e in x], [2.4 * 0.85**e + 0.2 + 0.01 * p * e for e in x]
        best = int(np.argmin(val)) if epochs else 0
        drawn.append(
            CurvePanel(
                title=f"model · $regime$ {p}",
                series=(Series(name="train", x=x, y=train), Series(name="validation", x=x, y=val)),
                marks=(Mark("best epoch", x[best], val[best]),) if epochs else (),
            )
        )
    return Curves(key="loss", title="t", caption="c", x_label="epoch", y_label="loss", unit="nats", panels=drawn)


def broken_front() -> Front:
    whole = front(1)
    first, second, third, *rest = whole.points
    points = (replace(first, y=NAN), replace(second, low=None), replace(third, label="<b>&$x$" * 20), *rest)
    return replace(
        whole, points=points, panels=(replace(whole.panels[0], x=[None, 0.0, 1e9, 1e9, float("inf"), -1.0]),)
    )


CASES = {
    "front, 6 x 2": front(),
    "front, one point": front(1, ("full",)),
    "front, all in one place": front(3, crowded=True),
    "front, gaps": broken_front(),
    "front, nothing": Front(key="f", title="", points=(), panels=(FrontPanel(x_label="", x=[], front=()),)),
    "front, no panel": Front(key="f", title="", points=(), panels=()),
    "curves, 1": curves(1),
    "curves, 7": curves(7),
    "curves, one epoch": curves(2, 1),
    "curves, no epoch": curves(2, 0),
    "curves, logarithmic": replace(curves(3), x_log=True),
    "curves, nothing": Curves(key="f", title="", panels=()),
}


@pytest.mark.parametrize("name", CASES)
def test_both_kinds_are_drawn_in_every_format_without_a_word(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = draw(CASES[name])
        image = np.asarray(Image.open(io.BytesIO(to_bytes(canvas, "png"))).convert("L"), float)
        svg, pdf = to_bytes(canvas, "svg"), to_bytes(canvas, "pdf")
    assert image.shape[1] == 1440
    assert image.std() > 0.5
    fromstring(svg)
    assert pdf.startswith(b"%PDF")
    assert to_bytes(draw(CASES[name]), "svg") == to_bytes(draw(CASES[name]), "svg")


@pytest.mark.parametrize("width", [4.1, 7.2, 7.6])
@pytest.mark.parametrize("models", [1, 2])
def test_labels_of_the_front_do_not_overlap_nor_leave_the_axes(width: float, models: int) -> None:
    canvas = draw(front(models), width=width)
    canvas.draw_without_rendering()
    for axes in canvas.axes:
        boxes = [Text.get_window_extent(t) for t in axes.texts]
        assert len(boxes) == models * len(REGIMES)
        for a, b in combinations(boxes, 2):
            assert not a.overlaps(b), (a, b)
        for box in boxes:
            assert axes.bbox.x0 <= box.x0
            assert box.x1 <= axes.bbox.x1


def test_the_front_is_drawn_as_steps_through_its_points() -> None:
    one = front(1)
    axes = draw(one).axes[0]
    (steps,) = [drawn for drawn in axes.lines if drawn.get_drawstyle() == "steps-post"]
    panel = one.panels[0]
    on = sorted((x, 100 * p.y) for x, p, f in zip(panel.x, one.points, panel.front, strict=True) if f)
    assert [tuple(xy) for xy in steps.get_xydata()[:-1]] == on
    assert steps.get_xydata()[-1].tolist() == [axes.get_xlim()[1], on[-1][1]]


def test_ticks_speak_in_prefixes() -> None:
    texts = [t.get_text() for t in draw(front()).axes[0].get_xticklabels()]
    assert len(texts) >= 2
    assert {"1 T", "10 T"} & set(texts)
    assert {t.split()[1] for t in texts} <= {"G", "T", "P"}


def test_a_name_has_one_colour_in_every_panel_and_one_legend_entry() -> None:
    canvas = draw(curves(4))
    colours = [axes.lines[i].get_color() for axes in canvas.axes[:4] for i in (0, 1)]
    assert len(set(colours[::2])) == len(set(colours[1::2])) == 1
    assert colours[0] != colours[1]
    assert [t.get_text() for t in canvas.legends[0].get_texts()] == ["train", "validation", "best epoch"]
    assert len({axes.get_ylim() for axes in canvas.axes[:4]}) == 1


def test_both_kinds_stand_on_the_page() -> None:
    section = Section(key="s", title="?", source="visus.studies.s", figures=(front(), curves(5)))
    page = render_page(Result(study="s", title="t", sections=(section,)))
    assert page.count('class="plot"') == 4
    assert "last block" in page
    assert "var(--c1)" in page
