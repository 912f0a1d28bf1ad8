"""`visus vit`: end to end on small images, a CNN beside, bad input told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visus.errors import DataError, SpecError
from visus.report import write_report
from visus.studies.vit import vit
from visus.studies.vit_masking import hidden, ratios_of
from visus.studies.vit_overlays import UNIFORM, overlaid

QUICK = {"masked": 10, "shown": 1, "keep": "1,0.4", "limit": 300}


@pytest.fixture
def coloured(tmp_path):
    """Two classes of 32 x 32 pictures: red and blue."""
    generator = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(20):
            picture = generator.integers(0, 80, (32, 32, 3)).astype(np.uint8)
            picture[..., channel] += 150
            Image.fromarray(picture).save(tmp_path / "images" / name / f"{k}.png")
    return tmp_path / "images"


def test_the_emoji_vit_on_emoji_says_all_four_things(tmp_path):
    result = vit(["visus:emoji-vit", "visus:effnet-lite0"], **QUICK)
    assert set(result.tables) == {
        "top five",
        "accuracy",
        "heads",
        "masking",
        "faithfulness",
        "pooling",
        "pooling pairs",
    }
    (accuracy,) = result.tables["accuracy"].rows
    assert accuracy[0] == "visus:emoji-vit"
    assert accuracy[1] > 70
    assert accuracy[2] < accuracy[1] < accuracy[3]
    masking = {(r[0], r[1], r[2]): r for r in result.tables["masking"].rows}
    assert len(masking) == 6 + 4 + 4
    for row in masking.values():
        assert row[4] >= row[5]
        assert row[7] <= row[6] <= row[8]
    assert masking["visus:effnet-lite0", "pixels blanked", "random"][3] == "agreement"
    assert masking["visus:effnet-lite0", "pixels blanked", "random"][4] == 100
    faithful = {r[1]: r for r in result.tables["faithfulness"].rows}
    assert faithful["gradient-weighted"][8] > faithful["random"][8] == 0
    assert {r[2] for r in result.tables["pooling"].rows} == {"CLS", "mean", "CLS + mean", "pre-logits"}
    assert len(result.tables["heads"].rows) == 6
    names = {f.name for f in result.figures}
    assert {
        "predicted",
        "reliability",
        "looked_0",
        "looked_1",
        "heads_0",
        "entropy_0",
        "distance_0",
        "masked",
        "pooling_0",
    } <= names
    cam = next(f for f in result.figures if f.name == "looked_1")
    assert "Grad-CAM" in cam.data["captions"]
    assert any("most faithful" in f for f in result.findings)
    assert any("CLS" in f for f in result.findings)
    write_report(result, tmp_path / "page")
    assert (tmp_path / "page" / "index.html").stat().st_size > 50_000


def test_a_model_without_classifier_is_read_by_a_probe_and_one_without_cls_by_its_mean(
    coloured, timm_folder, hf_folder
):
    clip, gap = (str(made[0]) for made in (hf_folder("clip"), timm_folder("siglip")))
    result = vit(
        [clip, gap], str(coloured), part=["predictions", "attention", "masking"], masked=8, shown=2, keep="1,0.5"
    )
    assert any("no CLS token" in w for w in result.warnings)
    accuracy = {r[0]: r for r in result.tables["accuracy"].rows}
    assert accuracy[clip][1] == 100  # colours survive any random network
    assert any(r[0] == gap and r[3] == "agreement" for r in result.tables["masking"].rows)


def test_the_users_map_says_what_outputs_mean(coloured, timm_folder, tmp_path):
    model = str(timm_folder("vit")[0])
    meanings = tmp_path / "map.json"
    meanings.write_text('{"red": [0, 1], "blue": [2, 3, 4]}')
    result = vit([model], str(coloured), part=["predictions"], meanings=str(meanings))
    ((_, top1, *_, n),) = result.tables["accuracy"].rows
    assert n >= 4
    assert 0 <= top1 <= 100


def test_unlabelled_images_are_judged_by_agreement(coloured):
    flat = coloured.parent / "flat"
    flat.mkdir()
    for k, path in enumerate(sorted(coloured.rglob("*.png"))[:8]):
        (flat / f"{k}.png").write_bytes(path.read_bytes())
    result = vit(["visus:emoji-vit"], str(flat), part=["masking"], masked=8, keep="1,0.3", image=[str(flat / "1.png")])
    assert {r[3] for r in result.tables["masking"].rows} == {"agreement"}
    with pytest.raises(DataError, match="--part pooling"):
        vit(["visus:emoji-vit"], str(flat), part=["pooling"])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"model": ["visus:effnet-lite0"]}, SpecError, "visus transfer"),
        ({"keep": "1,0"}, DataError, "above 0"),
        ({"keep": "half"}, DataError, "list of shares"),
        ({"part": ["colour"]}, SpecError, "part"),
        ({"pattern": ["spiral"]}, SpecError, "pattern"),
        ({"fill": "pink"}, SpecError, "fill"),
        ({"masked": 1}, DataError, "at least 2"),
    ],
)
def test_bad_input_is_told(arguments, error, said):
    with pytest.raises(error, match=said):
        vit(**arguments)


def test_ratios_begin_with_the_whole():
    assert ratios_of("0.4,0.7") == (1.0, 0.7, 0.4)
    assert ratios_of(None) == (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def test_a_flat_map_looks_flat_on_the_absolute_scale_and_a_sharp_one_does_not():
    pictures = np.full((1, 32, 32, 3), 128, np.uint8)
    nearly = 1 + 1e-3 * np.random.default_rng(0).random((1, 4, 4))
    assert np.ptp(overlaid(pictures, nearly, 32, absolute=True).astype(int), axis=(0, 1, 2)).max() <= 4
    assert np.ptp(overlaid(pictures, nearly, 32, absolute=False).astype(int), axis=(0, 1, 2)).max() > 80
    sharp = np.zeros((1, 4, 4))
    sharp[0, 1, 2] = 1  # sixteen times uniform: beyond the scale's end
    shown = overlaid(pictures, sharp, 32, absolute=True)[0].astype(int).sum(2)
    assert UNIFORM < 16
    assert np.unravel_index(shown.argmax(), shown.shape)[0] // 8 == 1


def test_hidden_pixels_are_painted_and_the_others_stay():
    raw = np.random.default_rng(0).integers(1, 255, (2, 8, 8, 3)).astype(np.uint8)
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    found = hidden(raw, np.zeros((1, 1, 1, 3), np.uint8), order, (2, 2), 0.25)
    assert (found[0, :4, :4] == raw[0, :4, :4]).all()
    assert not found[0, 4:].any()
    assert not found[0, :4, 4:].any()
    assert (found[1, 4:, 4:] == raw[1, 4:, 4:]).all()
    assert not found[1, :4].any()
