"""The page: safe, self-contained, complete, the same every time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.errors import StoreError
from visus.figures import Gallery, Group, Heatmap, Intervals, Map
from visus.report import render_page, write_report
from visus.report.sprites import sprite_sheet
from visus.result import Column, Finding, Metric, Result, Section, Table, key_of

EVIL = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "' onmouseover='x", "a & b",
    "{{ 7 * 7 }}", "\u2028", "\u202egnp.exe", "=cmd|' /C calc'!A0", r"\input{x}", "\udcff\x00", "https://evil.example/x.js",
    "javascript:alert(1)", "]]>", "<!--",
)  # fmt: skip
EMPTY = Result(study="transfer", title="Nothing", sections=())


class Reader(HTMLParser):
    """Collects every element with its attributes, the text, and what scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


def evil_result() -> Result:
    n, joined = len(EVIL), " ".join(EVIL)
    head = {"title": joined, "caption": joined}
    points, images = np.random.default_rng(0).normal(size=(n, 2)), np.zeros((n, 8, 8, 3), np.uint8)
    value = np.linspace(0, 1, n)
    group = Group(name=EVIL[2], labels=EVIL, values=value, low=value, high=value)
    keys = [key_of(e) for e in EVIL]
    figures = (
        Map(
            key=keys[0], **head, points=points, labels=np.arange(n), classes=EVIL, ids=EVIL, sprite=images,
            trust={EVIL[0]: 0.5},
        ),
        Gallery(key=keys[1], **head, images=images, captions=EVIL, groups=EVIL),
        Intervals(key="i", **head, x_label=EVIL[0], y_label=EVIL[1], unit=EVIL[0], groups=(group,)),
        Heatmap(key="h", **head, values=[value], rows=[EVIL[0]], columns=EVIL, label=EVIL[0], unit=EVIL[0]),
    )  # fmt: skip
    columns = [Column(f"{i}-{key}", e, unit=e) for i, (key, e) in enumerate(zip(keys, EVIL, strict=True))]
    tables = [Table(key=key, title=joined, note=joined, columns=columns, rows=[EVIL]) for key in (keys[0], keys[2])]
    sections = [
        Section(
            key=key, title=joined, source=EVIL[1], findings=[Finding(e, shows=keys) for e in EVIL],
            metrics=[Metric(key, 0.5, unit=EVIL[0], label=joined)], figures=figures if not k else (), tables=tables if not k else (),
        )
        for k, key in enumerate(keys)
        if key
    ]  # fmt: skip
    return Result(
        study=EVIL[0], title=joined, answer=joined, headline=keys[:3], sections=sections, warnings=EVIL, notes=EVIL,
        provenance={e: {e: [e]} for e in EVIL} | {"command": joined},
    )  # fmt: skip


def test_no_name_becomes_an_element(tmp_path: Path) -> None:
    page = write_report(evil_result(), tmp_path).read_text("utf-8")
    reader = Reader(page)
    assert len(reader.scripts) == 2
    for tag, attributes in reader.elements:
        assert not [a for a in attributes if a.startswith("on")], (tag, attributes)
        assert tag not in {"iframe", "object", "embed", "link", "base", "form"}
    assert [
        a["src"] for t, a in reader.elements if t == "img" and not str(a["src"]).startswith("data:image/webp;base64,")
    ] == []
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    payload = json.loads(reader.scripts[0])
    assert payload["groups"][0]["classes"][:3] == list(EVIL[:3])
    # Nothing was written outside the folder, and the data reads back, undecodable name included.
    names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(names) == 5 + 4 * 3 + 2 * 2
    assert all(re.fullmatch(r"(figures/|tables/)?[A-Za-z0-9._-]+", name) for name in names)
    assert Result.load(tmp_path).title == " ".join(EVIL).replace("\udcff", "\\udcff")


def test_page_asks_for_nothing_from_outside(written: tuple[Result, Path]) -> None:
    page = (written[1] / "index.html").read_text("utf-8")
    reader = Reader(page)
    for tag, attributes in reader.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            target = attributes.get(name)
            assert not target or target.startswith(("data:", "#", "figures/", "result.json")), (tag, name, target)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in page
    assert "https://" not in page
    policy = next(
        a["content"] for t, a in reader.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(reader.scripts[-1].encode()).digest()).decode()
    assert policy
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_folder_holds_everything_the_page_links_to(written: tuple[Result, Path]) -> None:
    result, out = written
    for key in result.figures:
        assert (out / "figures" / f"{key}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (out / "figures" / f"{key}.svg").read_bytes()
        assert (out / "figures" / f"{key}.pdf").read_bytes().startswith(b"%PDF")
    for name in result.tables:
        assert (out / "tables" / f"{name}.csv").exists()
        assert r"\toprule" in (out / "tables" / f"{name}.tex").read_text()
    links = [
        a["href"]
        for t, a in Reader((out / "index.html").read_text()).elements
        if t == "a" and str(a["href"]).startswith("figures/")
    ]
    assert len(links) == 3 * len(result.figures)
    assert all((out / str(link)).exists() for link in links)
    assert not list(out.rglob("*.tmp"))
    assert "figures/" not in "".join(str(a.get("href")) for _, a in Reader(render_page(result)).elements)


def test_page_shows_every_part(written: tuple[Result, Path]) -> None:
    result, out = written
    reader = Reader((out / "index.html").read_text())
    for text in (
        result.title,
        *result.findings,
        result.answer,
        *result.cautions,
        *result.notes,
        result.provenance["command"],
        *(f.caption for f in result.figures.values()),
        *(s.title for s in result.sections),
        *(s.file for s in result.sections),
    ):
        assert text in reader.text
    order = (
        result.title,
        result.answer,
        result.warnings[0],
        result.notes[0],
        result.findings[0],
        "Figure 1.",
        "Table 1.",
    )
    places = [reader.text.index(text, reader.text.index(result.title)) for text in order]
    assert places == sorted(places)
    tags = [t for t, _ in reader.elements]
    assert tags.count("canvas") == 2
    assert tags.count("tr") == sum(len(t.rows) + 1 for t in result.tables.values())
    assert tags.count("strong") >= 3
    assert "trustworthiness 0.81" in reader.text
    for tag, attributes in reader.elements:
        if tag in ("canvas", "svg") and attributes.get("role") == "img":
            assert attributes.get("aria-label")
        if tag == "img":
            assert attributes.get("alt")


def test_sections_stand_in_order_with_their_findings_figures_tables_and_source(written: tuple[Result, Path]) -> None:
    result, out = written
    page = (out / "index.html").read_text("utf-8")
    parts = re.findall(r'<section id="section-([a-z]+)".*?</section>', page, re.DOTALL)
    assert parts == [s.key for s in result.sections]
    for section, html in zip(result.sections, re.findall(r"<section .*?</section>", page, re.DOTALL), strict=True):
        assert re.findall(r'<figure class="\w+" id="figure-([^"]+)"', html) == [f.key for f in section.figures]
        assert re.findall(r'<details class="table" id="table-([^"]+)"', html) == [t.key for t in section.tables]
        assert f"<code>{section.file}</code>" in html
        kinds = re.findall(r'<li class="(result|caution|undecided)"', html)
        assert kinds == [f.kind for f in section.findings]
    (contents,) = re.findall(r"<nav .*?</nav>", page, re.DOTALL)
    assert re.findall(r'href="#section-([^"]+)"', contents) == [s.key for s in result.sections]
    assert "<b>79.0 %</b>" in contents


def test_findings_link_to_what_shows_them(written: tuple[Result, Path]) -> None:
    page = (written[1] / "index.html").read_text("utf-8")
    (late, depth, *_) = re.findall(r'<li class="result".*?</li>', page, re.DOTALL)
    assert re.findall(r'<a href="#([^"]+)">([^<]+)</a>', late) == [
        ("figure-accuracy", "figure 1"),
        ("table-accuracy", "table 1"),
    ]
    assert ("figure-cka", "figure 2") in re.findall(r'<a href="#([^"]+)">([^<]+)</a>', depth)
    ids = {a["id"] for _, a in Reader(page).elements if "id" in a}
    links = {str(a["href"])[1:] for _, a in Reader(page).elements if str(a.get("href")).startswith("#")}
    assert links <= ids


def test_tiles_show_the_headline_with_interval_and_number_of_images(written: tuple[Result, Path]) -> None:
    (tiles,) = re.findall(r'<dl class="tiles">.*?</dl>', (written[1] / "index.html").read_text("utf-8"), re.DOTALL)
    shown = [re.sub(r"<[^>]+>", "|", tile).split("|") for tile in re.findall(r"<div>.*?</div>", tiles)]
    assert [[part.strip() for part in tile if part.strip()] for tile in shown] == [
        ["linear probe, late layer of effnet-lite0", "79.0 %", "76.0 to 81.8, n\u00a0=\u00a01,200"],
        [
            "linear probe, late layer of vit_small_patch16_224.augreg_in1k",
            "84.0 %",
            "81.0 to 86.8, n\u00a0=\u00a01,200",
        ],
        ["full training, 6 minutes, over the head", "+0.7", "points, -1.9 to 3.2: undecided, n\u00a0=\u00a01,200"],
        ["wall time of the probes", "12.0 s"],
    ]


def test_a_partial_result_says_what_is_missing() -> None:
    page = render_page(replace(EMPTY, status="partial", reason="the budget ended before scratch"))
    assert "This result is not complete: the budget ended before scratch" in page


def test_ids_are_unique(written: tuple[Result, Path]) -> None:
    ids = [a["id"] for _, a in Reader((written[1] / "index.html").read_text()).elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_same_result_same_bytes(written: tuple[Result, Path], tmp_path: Path) -> None:
    result, first = written
    write_report(result, tmp_path)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) == 6 + 3 * len(result.figures) + 2 * len(result.tables)
    for file in files:
        assert (first / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_saved_and_loaded_result_gives_the_same_page(written: tuple[Result, Path]) -> None:
    linked = frozenset(f"figures/{file.name}" for file in (written[1] / "figures").iterdir())
    assert render_page(Result.load(written[1]), linked=linked) == (written[1] / "index.html").read_text("utf-8")


def test_empty_result_gives_a_page(tmp_path: Path) -> None:
    page = write_report(EMPTY, tmp_path).read_text("utf-8")
    assert "Nothing" in page
    assert "<table" not in page
    assert "<figure" not in page
    assert not (tmp_path / "figures").exists()


def test_empty_table_and_nan_cells() -> None:
    column = Column("x", "x", better="higher")
    tables = (
        Table(key="none", title="", columns=(column, Column("y", "y")), rows=()),
        Table(
            key="nan",
            title="",
            columns=(column,),
            rows=[(float("nan"),), (None,), (np.float32("nan"),), (float("inf"),)],
        ),
    )
    section = Section(key="s", title="?", source="visus.studies.transfer", tables=tables)
    reader = Reader(render_page(replace(EMPTY, sections=(section,))))
    assert reader.text.count("–") == 4
    assert reader.text.count("nan") == 1, "the table's name"


def test_hundred_classes_and_six_maps_of_two_thousand_stay_small_and_quick(make_sample: Callable[..., Result]) -> None:
    result = make_sample(n=2000, count=6, classes=tuple(f"class {i}" for i in range(100)))
    start = time.perf_counter()
    page = render_page(result)
    seconds = time.perf_counter() - start
    assert seconds < 30, "about 2 s on an idle machine"
    assert len(page.encode()) < 3_500_000
    assert page.count("data:image/webp") == 1 + 12, "one sprite sheet for all maps, and the gallery"
    assert page.count("emoji/1999.png") == 1, "ids are embedded once"


def test_points_reach_the_script_with_their_proportions(make_sample: Callable[..., Result]) -> None:
    result = make_sample(n=50, count=1)
    payload = json.loads(Reader(render_page(result)).scripts[0])
    one = payload["groups"][0]["maps"][0]
    got = np.frombuffer(base64.b64decode(one["points"]), "<u2").reshape(-1, 2).astype(float) * (1, -1)
    want = result.figures["map-0"].points.astype(float)
    scale = np.ptp(want, 0).max() / 65534
    np.testing.assert_allclose((got - got[0]) * scale, want - want[0], atol=3 * scale)
    labels = np.frombuffer(base64.b64decode(payload["pool"][one["labels"]]), "<u2")
    np.testing.assert_array_equal(labels, result.figures["map-0"].labels)


def test_thumbnails_stand_in_their_cells() -> None:
    colours = np.random.default_rng(0).integers(0, 255, (30, 1, 1, 3), np.uint8)
    sheet = sprite_sheet(np.broadcast_to(colours, (30, 96, 96, 3)).copy())
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].split(",")[1]))).convert("RGB"), float)
    cell = sheet["cell"]
    for i in range(30):
        y, x = i // sheet["columns"] * cell, i % sheet["columns"] * cell
        assert np.abs(image[y : y + cell, x : x + cell].mean((0, 1)) - colours[i, 0, 0]).max() < 6


def test_noise_thumbnails_keep_to_the_budget() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2500, 48, 48, 3), np.uint8)
    assert len(sprite_sheet(noise)["src"]) < 3_000_000


def test_a_map_with_another_number_of_thumbnails_costs_the_maps_and_is_said(make_sample: Callable[..., Result]) -> None:
    result = make_sample(n=20, count=1)
    moving = result.figures["map-0"]
    *others, maps = result.sections
    spoilt = replace(maps, figures=(replace(moving, sprite=moving.sprite[:5]), *maps.figures[1:]))
    page = render_page(replace(result, sections=(*others, spoilt)))
    (said,) = re.findall(r"<li[^>]*>(Figure [^<]*could not be made[^<]*)</li>", page)
    assert "20 points but 5 thumbnails" in said
    assert page.count("<figure") == render_page(result).count("<figure") - 1


def test_unwritable_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        write_report(EMPTY, tmp_path / "file" / "out")


def test_importing_the_room_is_quick() -> None:
    code = "import sys, visus.report; sys.exit(bool({'matplotlib', 'jinja2', 'torch', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
