"""`visus predict`: a cat is a cat, bad files are named, models without classifier are refused."""

from __future__ import annotations

import numpy as np
import pytest
import skimage
from PIL import Image

from visus.errors import DataError, SpecError
from visus.figures import Gallery
from visus.models.classify import top_classes
from visus.studies.predict import predict


@pytest.fixture
def photos(tmp_path):
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "chelsea.png")
    Image.fromarray(skimage.data.coffee()).save(tmp_path / "coffee.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "coffee.jpg").read_bytes()[:900])
    return tmp_path


def test_a_cat_is_a_cat_and_bad_files_are_named(photos):
    result = predict([str(photos / n) for n in ("chelsea.png", "torn.jpg", "coffee.jpg")])
    table = result.tables["predictions"]
    assert [c.key for c in table.columns] == ["image", "rank", "label", "probability", "index"]
    assert [row[:2] for row in table.rows] == [(n, r) for n in ("chelsea.png", "coffee.jpg") for r in range(1, 6)]
    assert "cat" in table.rows[0][2]
    assert {row[4] for row in table.rows[:3]} <= {281, 282, 283, 284, 285}  # ImageNet's house cats
    assert table.rows[5][2] == "espresso"
    p = [row[3] for row in table.rows[:5]]
    assert p == sorted(p, reverse=True)
    assert 0 < sum(p) <= 1
    assert [row[0] for row in result.tables["quarantine"].rows] == ["torn.jpg"]
    assert any("chelsea.png" in f and "cat" in f for f in result.findings)
    (figure,) = result.figures.values()
    assert isinstance(figure, Gallery)
    assert len(figure.captions) == len(figure.images) == 2
    assert list(result.predictions["id"]) == ["chelsea.png", "coffee.jpg"]


def test_folders_and_files_go_together_and_limit_holds(photos):
    (photos / "more").mkdir()
    Image.fromarray(skimage.data.astronaut()).save(photos / "more" / "chelsea.png")
    given = [str(photos / "chelsea.png"), str(photos / "more")]
    both = predict(given, top=1)
    assert [row[0] for row in both.tables["predictions"].rows] == ["1/chelsea.png", "2/chelsea.png"]
    assert len(predict(given, top=1, limit=1).tables["predictions"].rows) == 1


def test_more_than_ten_pictures_are_summed_up():
    result = predict(["visus:digits"], limit=12, top=2, model="timm:mobilenetv3_small_050?weights=none")
    assert len(result.tables["predictions"].rows) == 24
    assert result.findings[0].startswith("12 pictures")
    assert "random" in result.warnings[0]


def test_what_cannot_work_is_said_in_one_line(photos, tmp_path):
    with pytest.raises(DataError, match="no file"):
        predict([str(photos / "missing.jpg")])
    with pytest.raises(DataError, match=r"torn\.jpg"):
        predict([str(photos / "torn.jpg")])
    with pytest.raises(DataError, match="no picture"):
        predict([])
    with pytest.raises(DataError, match="--top"):
        predict([str(photos / "chelsea.png")], top=0)
    with pytest.raises(SpecError, match="device"):
        predict([str(photos / "chelsea.png")], device="toaster", model="timm:mobilenetv3_small_050?weights=none")


def test_a_model_without_classifier_is_refused(photos):
    from visus.images.gather import gather
    from visus.models import load_backbone
    from visus.models.classify import classify_images

    pictures, _ = gather([str(photos / "chelsea.png")], limit=None, seed=0, download=False)
    with pytest.raises(DataError, match="no classifier"):
        classify_images(load_backbone("openclip:RN50?weights=none"), pictures)


def test_top_classes_breaks_ties_by_index():
    p = np.array([[0.2, 0.4, 0.4], [0.1, 0.2, 0.7]])
    classes, values = top_classes(p, 2)
    assert classes.tolist() == [[1, 2], [2, 1]]
    assert values.tolist() == [[0.4, 0.4], [0.7, 0.2]]
    assert top_classes(p, 9)[0].shape == (2, 3)
