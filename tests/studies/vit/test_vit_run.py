"""`visus vit`: end to end on small images, a CNN beside, bad input told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.small import reader_of_one_patch
from tests.models.test_heads import timm_model as hub_folder

from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.measures.masking import PATTERNS, patch_order
from visus.models import load_backbone
from visus.models.vit import vit_layout
from visus.report import write_report
from visus.studies.vit import vit
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages, load_models
from visus.studies.vit.maps import MAPS, importance
from visus.studies.vit.masking.curves import WholeImages, dropped, hidden
from visus.studies.vit.options import keep_ratios
from visus.studies.vit.overlays import UNIFORM, overlaid, resized

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
    result = vit(["visus:emoji-vit", "visus:effnet-lite0"], controls=False, **QUICK)
    assert list(result.tables) == [
        "top-five", "accuracy", "heads", "masking", "masking-pairs", "faithfulness", "pooling", "pooling-pairs",
    ]  # fmt: skip
    assert [s.key for s in result.sections] == ["predictions", "attention", "masking", "pooling"]
    assert {s.source for s in result.sections} == {
        f"visus.studies.vit.{name}" for name in ("predictions", "attention", "masking", "pooling")
    }
    (accuracy,) = result.tables["accuracy"].records()
    assert accuracy["model"] == "visus:emoji-vit"
    assert accuracy["accuracy"] > 0.7
    assert accuracy["low"] < accuracy["accuracy"] < accuracy["high"]
    masking = {(r["model"], r["masked_by"], r["pattern"]): r for r in result.tables["masking"].records()}
    assert len(masking) == 6 + 6 + 6
    for row in masking.values():
        assert row["whole"] >= row["least"]
        assert row["low"] <= row["area"] <= row["high"]
    cnn = masking["visus:effnet-lite0", "pixels blanked", "random"]
    assert (cnn["counted"], cnn["whole"]) == ("agreement", 1)
    assert result.tables["masking-pairs"].column("pattern") == PATTERNS
    assert set(result.tables["masking-pairs"].column("counted")) == {"agreement"}
    faithful = {r["map"]: r for r in result.tables["faithfulness"].records()}
    assert faithful["gradient-weighted"]["gap"] > faithful["random"]["gap"] == 0
    assert faithful["gradient-weighted"]["above_random"] == pytest.approx(faithful["gradient-weighted"]["gap"])
    assert set(result.tables["pooling"].column("pooling")) == {"CLS", "mean", "CLS + mean", "pre-logits"}
    assert set(result.tables["pooling"].column("random")) == {None}
    assert len(result.tables["heads"].rows) == 6
    assert {"predicted", "reliability", "looked", "heads_0", "entropy_0", "distance_0", "masked", "pooling_0"} <= set(
        result.figures
    )
    looked = result.figures["looked"]
    maps = ["visus:emoji-vit: picture", "last layer", "rollout", "gradients", "visus:effnet-lite0: picture", "Grad-CAM"]
    assert list(looked.captions) == 2 * maps
    assert "Chefer et al. 2021, of the predicted class. Grad-CAM" in looked.caption
    assert result.answer.startswith("visus:emoji-vit is right on")
    assert len(result.answer.split()) <= 25
    assert len(result.headline) == 4
    assert all(len(text.split()) <= 35 for text in result.findings)
    known = {*result.tables, *result.figures}
    for finding in (f for s in result.sections for f in s.findings):
        assert set(finding.shows) <= known
        assert set(finding.metrics) <= set(result.metrics)
    assert len(result.predictions["id"]) == accuracy["n"]
    assert np.mean(result.predictions["right"]) == pytest.approx(accuracy["accuracy"])
    write_report(result, tmp_path / "page")
    assert (tmp_path / "page" / "index.html").stat().st_size > 50_000


def test_poolings_stand_beside_their_controls_and_are_compared_at_every_depth(coloured, timm_folder):
    model = str(timm_folder("vit")[0])
    result = vit([model], str(coloured), part=["pooling"], seed=1)
    rows = result.tables["pooling"].records()
    assert len({(r["where"], r["pooling"]) for r in rows}) == 3 * 3 + 1
    for row in rows:
        assert row["accuracy"] == row["random"] == 1  # colours survive any random network
        assert row["shuffled"] <= 0.75
    compared = {tuple(r[:2]) for r in result.tables["pooling-pairs"].rows}
    assert len(compared) == 6 + 2 * 3
    assert (f"{model} · CLS", f"{model} · pre-logits") in compared
    assert (f"{model}, layer 2 · CLS", f"{model}, layer 2 · mean") in compared


def test_a_model_without_classifier_is_read_by_a_probe_and_one_without_cls_by_its_mean(
    coloured, timm_folder, hf_folder
):
    clip, dino, gap = (str(made[0]) for made in (hf_folder("clip"), hf_folder("dinov2"), timm_folder("siglip")))
    result = vit(
        [clip, gap], str(coloured), part=["predictions", "attention", "masking"], masked=8, shown=2, keep="1,0.5"
    )
    assert any("no CLS token" in w for w in result.cautions)
    ((a, b, difference, *_),) = vit([clip, dino], str(coloured), part=["predictions"]).tables["accuracy-pairs"].rows
    assert (a, b, difference) == (clip, dino, 0)
    accuracy = {r[0]: r for r in result.tables["accuracy"].rows}
    assert accuracy[clip][1] == 1  # colours survive any random network
    assert any(r[0] == gap and r[3] == "agreement" for r in result.tables["masking"].rows)


def test_the_users_map_says_what_outputs_mean(coloured, timm_folder, tmp_path):
    model = str(timm_folder("vit")[0])
    meanings = tmp_path / "map.json"
    meanings.write_text('{"red": [0, 1], "blue": [2, 3, 4]}')
    result = vit([model], str(coloured), part=["predictions"], meanings=str(meanings))
    ((_, top1, *_, n),) = result.tables["accuracy"].rows
    images, backbone = load_images(str(coloured)), load_backbone(model)
    test = images.split(seed=0).test
    means = ("red", "red", "blue", "blue", "blue")
    hits = 0
    for i in test:
        x = torch.from_numpy(backbone.preprocess(images.decode(int(i))).copy())[None]
        with torch.inference_mode():
            answer = int(backbone.classify(backbone.preprocess.normalize(x)).argmax())
        hits += means[answer] == images.classes[int(images.labels[i])]
    assert n == len(test)
    assert top1 == pytest.approx(hits / n)


def test_wordnet_folders_are_judged_by_their_ids_and_a_map_touches_its_own_model_alone(coloured, tmp_path):
    for old, new in (("red", "n02012849"), ("blue", "n03126707")):
        (coloured / old).rename(coloured / new)
    imagenet, ours = (
        hub_folder(tmp_path / "imagenet", 1000)[0],
        hub_folder(tmp_path / "ours", 3, label_names=["red", "blue", "green"])[0],
    )
    meanings = tmp_path / "map.json"
    meanings.write_text('{"crane bird": ["red"], "n03126707": ["blue", "green"]}')
    result = vit([imagenet, ours], str(coloured), part=["predictions"], meanings=str(meanings), shown=2)
    judged = {r[0]: r[-1] for r in result.tables["accuracy"].rows}
    assert set(judged) == {imagenet, ours}
    with_map = load_models(
        [imagenet, ours],
        load_images(str(coloured)),
        meanings=meanings,
        seed=0,
        device="cpu",
        download=False,
        answers=True,
    )
    assert [[t.tolist() for t in v.targets] for v in with_map] == [[[134], [517]], [[0], [1, 2]]]


def test_one_model_that_is_no_vision_transformer_is_told_why(coloured, timm_folder):
    with pytest.raises(SpecError, match="class token that is not among"):
        vit([str(timm_folder("cait")[0])], str(coloured))
    both = vit([str(timm_folder("vit")[0]), str(timm_folder("cait")[0])], str(coloured), part=["attention"], shown=1)
    assert any("By its pixels alone" in w and "cait" in w for w in both.warnings)


def test_unlabelled_images_are_judged_by_agreement(coloured):
    flat = coloured.parent / "flat"
    flat.mkdir()
    for k, path in enumerate(sorted(coloured.rglob("*.png"))[:8]):
        (flat / f"{k}.png").write_bytes(path.read_bytes())
    result = vit(["visus:emoji-vit"], str(flat), masked=8, keep="1,0.3", image=[str(flat / "1.png")])
    assert {r[3] for r in result.tables["masking"].rows} == {"agreement"}
    assert not {"accuracy", "pooling"} & set(result.tables)
    assert any("pooling is left out" in w for w in result.warnings)
    assert {r[0] for r in result.tables["top-five"].rows} == {"1.png"}
    with pytest.raises(DataError, match="--part pooling"):
        vit(["visus:emoji-vit"], str(flat), part=["pooling"])


def test_chosen_pictures_are_predicted_and_looked_at_and_those_that_cannot_be_read_are_named(coloured):
    broken = coloured.parent / "broken.png"
    broken.write_bytes(b"no picture")
    chosen = [str(coloured / "red" / "3.png"), str(broken), str(coloured / "blue" / "4.png")]
    result = vit(["visus:emoji-vit"], str(coloured), part=["predictions,attention"], image=chosen)
    assert list(dict.fromkeys(r[0] for r in result.tables["top-five"].rows)) == ["3.png", "4.png"]
    assert {g.partition(":")[0] for g in result.figures["looked"].groups} == {"3.png", "4.png"}
    assert len(result.figures["predicted"].images) == 2
    assert any(w.startswith("broken.png cannot be read") for w in result.warnings)


def test_a_chosen_picture_smaller_than_a_patch_is_refused_and_one_of_the_set_is_told(coloured):
    tiny = coloured / "red" / "tiny.png"
    Image.new("RGB", (3, 2)).save(tiny)
    with pytest.raises(DataError, match=r"tiny\.png \(2 x 3 pixels\) is smaller than a patch of visus:emoji-vit"):
        vit(["visus:emoji-vit"], str(coloured), part=["attention"], image=[str(tiny)])
    for path in coloured.rglob("*.png"):
        Image.new("RGB", (3, 2)).save(path)
    result = vit(["visus:emoji-vit"], str(coloured), part=["predictions"])
    assert any("smaller than a patch" in w for w in result.warnings)


def test_what_cannot_be_done_with_one_model_is_told_and_the_rest_is_done(coloured, timm_folder, hf_folder):
    beit, mixer, clip = (str(made[0]) for made in (timm_folder("beit"), timm_folder("mixer"), hf_folder("clip")))
    result = vit([mixer, beit], str(coloured), part=["attention", "masking"], masked=4, shown=1, keep="1,0.5")
    assert {r[1] for r in result.tables["masking"].rows} == {"pixels blanked"}
    assert "faithfulness" not in result.tables
    assert any("No tokens are dropped" in w and "blanked pixels" in w for w in result.cautions)
    assert any("No map of" in w and "Grad-CAM" in w for w in result.cautions)
    flat = coloured / "red"
    assert "heads" in vit([clip], str(flat), part=["attention"], shown=1).tables
    with pytest.raises(DataError, match="--part attention"):
        vit([clip], str(flat), part=["predictions"])


def test_the_curves_of_a_transformer_that_reads_one_patch_break_where_it_goes(timm_folder):
    backbone = load_backbone(str(timm_folder("vit")[0]))
    reader_of_one_patch(backbone, 6)
    model = EvaluatedModel(backbone, vit_layout(backbone), "output")
    raw = np.full((5, 32, 32, 3), 100, np.uint8)
    raw[:, 8:16, 16:24] = 250
    images = PreparedImages(raw)
    maps = importance(model, images, "cpu")
    whole = WholeImages.of(model, images, None, "cpu")
    for name in MAPS:
        for pattern, kept in (("most-attended", False), ("least-attended", True)):
            order = patch_order(pattern, (4, 4), 5, scores=maps[name])
            chosen = dropped(whole, order, pattern, (1.0, 0.9, 0.5, 0.1)).chosen.mean(axis=1)
            assert (chosen[1:] > 0.9 * chosen[0]).all() == kept
            assert (chosen[1:] < 0.6 * chosen[0]).all() != kept


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"model": ["visus:effnet-lite0"]}, SpecError, "visus transfer"),
        ({"keep": "1,0"}, DataError, "above 0"),
        ({"keep": "1"}, DataError, "below 1"),
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
    assert keep_ratios("0.4,0.7") == (1.0, 0.7, 0.4)
    assert keep_ratios(None) == (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


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


def test_pictures_that_are_not_square_keep_their_shape():
    pictures, maps = np.zeros((2, 48, 32, 3), np.uint8), np.ones((2, 6, 4))
    assert overlaid(pictures, maps, 96, absolute=True).shape == (2, 96, 64, 3)
    assert resized(pictures[0], 24).shape == (24, 16, 3)


def test_hidden_pixels_are_painted_and_the_others_stay():
    raw = np.random.default_rng(0).integers(1, 255, (2, 8, 8, 3)).astype(np.uint8)
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    found = hidden(raw, np.zeros((1, 1, 1, 3), np.uint8), order, (2, 2), 0.25)
    assert (found[0, :4, :4] == raw[0, :4, :4]).all()
    assert not found[0, 4:].any()
    assert not found[0, :4, 4:].any()
    assert (found[1, 4:, 4:] == raw[1, 4:, 4:]).all()
    assert not found[1, :4].any()
