"""`visus vit`: end to end on small images, a CNN beside, bad input told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.small import reader_of_one_patch
from tests.models.test_heads import timm as hub_folder

from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.measures.masking import PATTERNS, patch_order
from visus.models import load_backbone
from visus.models.vit import vit_layout
from visus.report import write_report
from visus.studies.common.upgrade import upgraded
from visus.studies.vit import vit
from visus.studies.vit.masking.measure import answered, dropped, hidden, importance, ratios_of
from visus.studies.vit.overlays import UNIFORM, overlaid, resized
from visus.studies.vit.subject import EvaluatedModel, Shown, views

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
    assert set(result.tables) == {
        "top five",
        "accuracy",
        "heads",
        "masking",
        "masking pairs",
        "faithfulness",
        "pooling",
        "pooling pairs",
    }
    (accuracy,) = result.tables["accuracy"].rows
    assert accuracy[0] == "visus:emoji-vit"
    assert accuracy[1] > 70
    assert accuracy[2] < accuracy[1] < accuracy[3]
    masking = {(r[0], r[1], r[2]): r for r in result.tables["masking"].rows}
    assert len(masking) == 6 + 6 + 6
    for row in masking.values():
        assert row[4] >= row[5]
        assert row[7] <= row[6] <= row[8]
    assert masking["visus:effnet-lite0", "pixels blanked", "random"][3] == "agreement"
    assert masking["visus:effnet-lite0", "pixels blanked", "random"][4] == 100
    pairs = result.tables["masking pairs"].rows
    assert [r[2] for r in pairs] == list(PATTERNS)
    for a, b, pattern, counted, difference, low, high, *_ in pairs:
        areas = [masking[model, "pixels blanked", pattern] for model in (a, b)]
        assert counted == "agreement"
        assert low <= difference <= high
        assert areas[1][3] == "agreement"
    faithful = {r[1]: r for r in result.tables["faithfulness"].rows}
    assert faithful["gradient-weighted"][8] > faithful["random"][8] == 0
    assert faithful["gradient-weighted"][9] == pytest.approx(faithful["gradient-weighted"][8])
    assert faithful["gradient-weighted"][10] < faithful["gradient-weighted"][9] < faithful["gradient-weighted"][11]
    assert {r[2] for r in result.tables["pooling"].rows} == {"CLS", "mean", "CLS + mean", "pre-logits"}
    assert all(r[11] is None and r[12] is None for r in result.tables["pooling"].rows)
    assert len(result.tables["heads"].rows) == 6
    names = {f.name for f in result.figures}
    assert {
        "predicted",
        "reliability",
        "looked",
        "heads_0",
        "entropy_0",
        "distance_0",
        "masked",
        "pooling_0",
    } <= names
    looked = next(f for f in result.figures if f.name == "looked")
    maps = ["visus:emoji-vit: picture", "last layer", "rollout", "gradients", "visus:effnet-lite0: picture", "Grad-CAM"]
    assert looked.data["captions"] == 2 * maps
    assert "Chefer et al. 2021, of the predicted class. Grad-CAM" in looked.caption
    assert result.findings[0].startswith("The first answer of visus:emoji-vit means the label")
    (said,) = [f for f in result.findings if "first among the maps of visus:emoji-vit" in f]
    assert "the next" in said
    assert any("CLS" in f for f in result.findings)
    write_report(upgraded(result), tmp_path / "page")
    assert (tmp_path / "page" / "index.html").stat().st_size > 50_000


def test_poolings_stand_beside_their_controls_and_are_compared_at_every_depth(coloured, timm_folder):
    model = str(timm_folder("vit")[0])
    result = vit([model], str(coloured), part=["pooling"], seed=1)
    where = {(r[1], r[2]) for r in result.tables["pooling"].rows}
    assert len(where) == 3 * 3 + 1
    for row in result.tables["pooling"].rows:
        assert row[4] == row[11] == 100  # colours survive any random network
        assert row[12] <= 75
    compared = {tuple(r[:2]) for r in result.tables["pooling pairs"].rows}
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
    assert any("no CLS token" in w for w in result.warnings)
    ((a, b, difference, *_),) = vit([clip, dino], str(coloured), part=["predictions"]).tables["accuracy pairs"].rows
    assert (a, b, difference) == (clip, dino, 0)
    accuracy = {r[0]: r for r in result.tables["accuracy"].rows}
    assert accuracy[clip][1] == 100  # colours survive any random network
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
    assert top1 == pytest.approx(100 * hits / n)


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
    with_map = views(
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
    assert {r[0] for r in result.tables["top five"].rows} == {"1.png"}
    with pytest.raises(DataError, match="--part pooling"):
        vit(["visus:emoji-vit"], str(flat), part=["pooling"])


def test_chosen_pictures_are_predicted_and_looked_at_and_those_that_cannot_be_read_are_named(coloured):
    broken = coloured.parent / "broken.png"
    broken.write_bytes(b"no picture")
    chosen = [str(coloured / "red" / "3.png"), str(broken), str(coloured / "blue" / "4.png")]
    result = vit(["visus:emoji-vit"], str(coloured), part=["predictions,attention"], image=chosen)
    assert list(dict.fromkeys(r[0] for r in result.tables["top five"].rows)) == ["3.png", "4.png"]
    looked = next(f for f in result.figures if f.name == "looked")
    assert {g.partition(":")[0] for g in looked.data["groups"]} == {"3.png", "4.png"}
    assert result.arrays["predicted_pictures"].shape[0] == 2
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
    assert any("No tokens are dropped" in w and "blanked pixels" in w for w in result.warnings)
    assert any("No map of" in w and "Grad-CAM" in w for w in result.warnings)
    flat = coloured / "red"
    assert "heads" in vit([clip], str(flat), part=["attention"], shown=1).tables
    with pytest.raises(DataError, match="--part attention"):
        vit([clip], str(flat), part=["predictions"])


def test_the_curves_of_a_transformer_that_reads_one_patch_break_where_it_goes(timm_folder):
    backbone = load_backbone(str(timm_folder("vit")[0]))
    reader_of_one_patch(backbone, 6)
    viewer = EvaluatedModel(backbone, vit_layout(backbone), "output")
    raw = np.full((5, 32, 32, 3), 100, np.uint8)
    raw[:, 8:16, 16:24] = 250
    shown = Shown(raw)
    maps = importance(viewer, shown, "cpu")
    whole = answered(viewer, shown, "cpu")
    ratios = (1.0, 0.9, 0.5, 0.1)
    for name in ("attention", "rollout", "gradient-weighted"):
        for pattern, kept in (("most-attended", False), ("least-attended", True)):
            order = patch_order(pattern, (4, 4), 5, scores=maps[name])
            chosen = dropped(viewer, shown, None, order, pattern, ratios, "cpu", whole).chosen.mean(axis=1)
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


@pytest.mark.parametrize("lead", [0.3, 0.0])
def test_the_most_faithful_map_is_chosen_on_half_of_the_images_and_judged_on_the_others(lead: float) -> None:
    from visus.studies.vit.masking.measure import FAITHFUL, Curve, Masked
    from visus.studies.vit.masking.report import _faithful_said

    rng = np.random.default_rng(0)
    n, curves = 80, {}
    for name in FAITHFUL:
        for way in ("deletion", "insertion"):
            chosen = 0.4 + 0.02 * rng.standard_normal((3, n))
            if way == "insertion" and name != "random":
                chosen += 0.1
            if way == "insertion" and name == "rollout":
                # Ahead by far on the images that choose; on the others by as much as is planted.
                chosen[:, ::2] += 0.3
                chosen[:, 1::2] += lead
            curves["m", name, way] = Curve(
                "m", "drop", name, (1.0, 0.5, 0.1), np.zeros((3, n), int), chosen, None, np.zeros(n, bool)
            )
    said = _faithful_said(Masked(n, "m", (), curves), "m", 0)
    assert said.startswith("Half of the images rank rollout first")
    assert said.endswith("the next.") == (lead > 0)
    assert said.endswith("the next, undecided.") == (lead == 0)
    assert "above a random order, and" in said


def test_one_image_chooses_no_map() -> None:
    from visus.studies.vit.masking.measure import FAITHFUL, Curve, Masked
    from visus.studies.vit.masking.report import _faithful_said

    one = Curve("m", "drop", "x", (1.0, 0.5), np.zeros((2, 1), int), np.full((2, 1), 0.5), None, np.zeros(1, bool))
    curves = {("m", name, way): one for name in FAITHFUL for way in ("deletion", "insertion")}
    assert "cannot be told from one image" in _faithful_said(Masked(1, "m", (), curves), "m", 0)
