"""Class by class and what is confused, on scores made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.studies.told import check as told
from tests.studies.told import kinds
from tests.studies.transfer.layer_samples import answers, images, score

from visus.figures import Gallery
from visus.measures.intervals import wilson
from visus.studies.transfer import classes, data, maps
from visus.studies.transfer.classes import ClassesMeasures
from visus.studies.transfer.data import CostRow, DataMeasures
from visus.studies.transfer.maps import LayerMap, MapsMeasures


@pytest.fixture(autouse=True)
def _plain_thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand-made images have no pixels."""
    monkeypatch.setattr(
        classes, "thumbnails", lambda images, rows, size: np.zeros((len(rows), size, size, 3), np.uint8)
    )


def measured(right: float = 0.8, **more: Any) -> ClassesMeasures:
    found = images(**more)
    return classes.measure(found, [score(found, "late", right)])


def test_recall_and_precision_are_those_of_a_slow_loop() -> None:
    found, m = images(), measured(0.8)
    y, said = found.test_y, answers(found, 0.8)
    for row in m.rows:
        c = found.classes.index(row.name)
        mine = [s for s, t in zip(said, y, strict=True) if t == c]
        hits = sum(s == c for s in mine)
        assert (row.n, row.recall) == (len(mine), hits / len(mine))
        assert (row.low, row.high) == pytest.approx(wilson(hits, len(mine)))
        named = [t for s, t in zip(said, y, strict=True) if s == c]
        assert row.precision == pytest.approx(sum(t == c for t in named) / len(named))
    recalls = [row.recall for row in m.rows]
    assert recalls == sorted(recalls, key=lambda r: (r is None, r))


def test_mistakes_come_with_the_images_that_the_probe_was_surest_of() -> None:
    m = measured(0.8)
    found = told(classes, m)
    confused = next(t for t in found.tables if t.key == "confused").records()
    assert sum(row["images"] for row in confused) == 12
    assert all(row["share"] == pytest.approx(row["images"] / 20) for row in confused)
    gallery = next(f for f in found.figures if isinstance(f, Gallery))
    assert len(gallery.captions) == len(gallery.images) == sum(min(row["images"], classes.EXAMPLES) for row in confused)
    # Probabilities rise with the row, so that the surest mistakes are the last images.
    assert gallery.captions[0] in {f"{i:03}.png" for i in range(108, 120)}


def test_without_mistakes_nothing_is_confused() -> None:
    found = told(classes, measured(1.0))
    assert [t.key for t in found.tables] == ["classes"]
    assert [f.key for f in found.figures] == ["classes"]
    assert len(found.findings) == 1


def test_a_class_without_a_test_image_is_named_and_has_no_recall() -> None:
    found = told(classes, measured(0.8, missing=1))
    table = next(t for t in found.tables if t.key == "classes")
    last = table.records()[-1]
    assert (last["class"], last["n"], last["recall"], last["low"]) == ("bee", 0, None, None)
    assert kinds(found)["caution"] == ["No test image of: bee; their recall is unknown."]
    assert all(m.key != "recall/bee" for m in found.metrics)


def test_classes_that_differ_in_case_alone_keep_a_metric_each() -> None:
    found = told(classes, measured(0.8, classes=("Cat", "cat", "sea animal")))
    keys = [m.key for m in found.metrics]
    assert sorted(keys) == ["recall/cat", "recall/cat-2", "recall/sea-animal"]


def test_the_easiest_and_the_hardest_class_are_told() -> None:
    m = measured(0.75)
    (said,) = [f.text for f in told(classes, m).findings if f.text.startswith("The easiest")]
    known = {row.name: row.recall or 0.0 for row in m.rows}
    top, worst = max(known.values()), min(known.values())
    names = said.split("is ")[1].split(" ")[0], said.split("hardest ")[1].split(" ")[0]
    assert (known[names[0]], known[names[1]]) == (top, worst)
    assert f"(recall {100 * top:.1f} %)" in said


# The images and what they cost


def counted(n_test: int, *, repeats: int = 0, folds: tuple[int, ...] = (12,)) -> DataMeasures:
    rows = tuple((name, 20, n_test // 3) for name in ("ant", "bee", "cat"))
    return DataMeasures(rows, folds, repeats, (CostRow("timm:net", 10**6, "torch", 8, 3.0, 40.0, False),), ())


def test_images_are_counted_and_choices_explained() -> None:
    found = told(data, counted(300))
    table = next(t for t in found.tables if t.key == "images")
    assert table.rows[-1] == ("all", 60, 300)
    assert (
        table.note
        == "Choices were made on one validation part of 12 images. No test image is, pixel for pixel, a training image."
    )
    assert found.findings[0].text == "60 images to train and validate on, 300 to test on."
    assert not kinds(found)["caution"]


@pytest.mark.parametrize(
    ("folds", "says"), [((12,), "one validation part of 12"), ((11, 12, 13), "3 validation folds of about 12")]
)
def test_folds_are_said(folds: tuple[int, ...], says: str) -> None:
    table = next(t for t in told(data, counted(300, folds=folds, repeats=2)).tables if t.key == "images")
    assert table.note == f"Choices were made on {says} images."


def test_few_test_images_are_a_caution() -> None:
    assert kinds(told(data, counted(30)))["caution"] == [
        "Only 30 test images: intervals are wide, and differences of a few points mean nothing."
    ]


# Maps


def mapped(*methods: str, several: bool = False, notes: tuple[str, ...] = ()) -> MapsMeasures:
    rng = np.random.default_rng(0)
    found = tuple(
        LayerMap("timm:net", tap, f"{tap} ({tap})", method, rng.normal(size=(9, 2)).astype(np.float32), 6, notes, trust)
        for method in methods
        for tap, trust in (("early", {"trustworthiness": 0.8, "neighbours_kept": 0.4}), ("late", {}))
    )
    ids = tuple(f"{i}.png" for i in range(9))
    return MapsMeasures(
        found, np.arange(9) % 3, ids, ("ant", "bee", "cat"), np.zeros((9, 4, 4, 3), np.uint8), 7, several
    )


def test_maps_stand_by_method_with_trust_and_one_sheet_of_thumbnails() -> None:
    found = told(maps, mapped("tsne", "umap"))
    assert [f.title for f in found.figures] == [
        "t-SNE: early (early)", "t-SNE: late (late)", "UMAP: early (early)", "UMAP: late (late)"
    ]  # fmt: skip
    assert len({id(f.sprite) for f in found.figures}) == 1  # type: ignore[union-attr]
    assert {m.key for m in found.metrics} == {
        f"timm:net/early/{method}/{name}"
        for method in ("tsne", "umap")
        for name in ("trustworthiness", "neighbours-kept")
    }


def test_what_a_map_notes_stands_under_it_and_the_model_where_there_are_several() -> None:
    (first, *_) = told(maps, mapped("tsne", several=True, notes=("perplexity 2 instead of 30",))).figures
    assert first.title == "t-SNE: timm:net · early (early)"
    assert first.caption == "t-SNE of 9 test images, after PCA to 6 dimensions, seed 7. Perplexity 2 instead of 30."
