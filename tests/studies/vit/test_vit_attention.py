"""What the attention section tells of hand-made measures, and what is measured of heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.studies.vit import sample

from visus.measures.attention import specialisation
from visus.measures.compare import holm
from visus.studies.common.section import section
from visus.studies.vit import attention
from visus.studies.vit.attention.measure import beside_patches, heads_measures


def measured(distance: np.ndarray, entropy: np.ndarray | None = None):
    entropy = distance if entropy is None else entropy
    return heads_measures("a", entropy, distance, outliers=np.zeros(len(distance)), patches=16, seed=0)


def test_heads_are_tested_a_layer_and_corrected_over_layers() -> None:
    values = np.random.default_rng(0).normal(size=(12, 2, 3))
    values[:, 0] += (0, 2, 4)  # the heads of the first layer differ alike over all images
    m = measured(values)
    tests = [specialisation(values[:, k], seed=0) for k in range(2)]
    assert [layer.p for layer in m.layers] == [t.p for t in tests]
    assert [layer.p_holm for layer in m.layers] == list(holm(np.array([t.p for t in tests])))
    assert m.explained == pytest.approx(np.mean([t.statistic for t in tests]))
    assert m.layers[0].p_holm < 0.05 < m.layers[1].p_holm
    assert m.layers[0].nearest == pytest.approx(values[:, 0].mean(axis=0).min())
    assert m.flat_entropy == np.log(16)


def test_heads_that_look_at_no_patch_are_left_out_and_counted() -> None:
    distance = np.random.default_rng(0).normal(size=(6, 2, 2))
    entropy = distance.copy()
    entropy[1, 1, 0] = np.nan
    entropy[:, 0, 1] = np.nan
    m = measured(distance, entropy)
    assert (m.saturated, m.saturated_layers) == (6, (1, 2))
    assert m.entropy[0][1] is None
    assert m.layers[0].entropy_p_holm is None
    assert m.layers[1].entropy_p_holm is not None


def test_one_image_cannot_test_heads() -> None:
    m = measured(np.ones((1, 2, 3)))
    assert m.explained is None
    (said,) = attention.findings(replace(sample.attention(), looks=(), refused=(), heads=(m,)))
    assert said.kind == "undecided"
    assert "cannot be tested" in said.text


def test_every_layer_is_a_row_and_findings_count_the_layers_whose_heads_differ() -> None:
    found = section(attention, sample.attention())
    (table,) = found.tables
    assert table.column("model") == ("a", "a", "b", "b")
    assert table.records()[0]["distance_explained"] == 0.4
    assert found.metrics[0].key == "a/heads/distance-explained"
    texts = [f.text for f in found.findings]
    assert texts[0].startswith("In 1 of 2 layers of a the heads differ in how far they look")
    assert texts[1].startswith("In 0 of 2 layers of a the heads differ in how widely")
    assert "40 % of the variation" in texts[2]


def test_findings_point_at_figures_and_tables_that_are_there() -> None:
    found = section(attention, sample.attention())
    there = {*(t.key for t in found.tables), *(f.key for f in found.figures)}
    assert all(set(f.shows) <= there for f in found.findings)
    assert {f.key for f in found.figures} == {
        "looked", "heads_0", "heads_1", "entropy_0", "entropy_1", "distance_0", "distance_1",
    }  # fmt: skip


def test_layers_that_were_not_tested_are_told() -> None:
    heads = replace(sample.heads("a"), layers=(sample.layer(1, 0.01), sample.layer(2, None, None)))
    said = attention.findings(replace(sample.attention(), heads=(heads,)))
    assert "In 1 of 2 layers (1 not tested) of a" in said[0].text


def test_each_image_stands_on_both_scales_with_the_maps_of_all_models() -> None:
    looked = attention.figures(sample.attention())[0]
    one = ["cnn: picture", "Grad-CAM", "a: picture", "last layer", "rollout", "gradients",
           "b: picture", "last layer", "rollout", "gradients"]  # fmt: skip
    assert list(looked.captions) == 4 * one
    assert list(dict.fromkeys(looked.groups)) == [
        f"{name}: {scale}" for name in ("one.png", "two.png") for scale in ("times uniform", "own scale")
    ]
    assert looked.images.shape == (40, 128, 128, 3)
    assert looked.title == "Where cnn, a, b look"


def test_a_single_model_is_not_named_on_each_image() -> None:
    m = replace(sample.attention(), looks=(sample.look("a"),), refused=(), heads=(sample.heads("a"),))
    looked = attention.figures(m)[0]
    assert looked.captions[0] == "picture"
    assert looked.title == "Where a looks"


def test_every_head_has_a_tile_and_each_layer_its_mean() -> None:
    gallery = next(f for f in attention.figures(sample.attention()) if f.key == "heads_0")
    assert list(gallery.captions) == ["head 1", "head 2", "mean"] * 2
    assert list(dict.fromkeys(gallery.groups)) == ["layer 1", "layer 2"]
    assert "The CLS row on one.png" in gallery.caption


def test_heatmaps_leave_unknown_heads_empty_and_have_units() -> None:
    by_key = {f.key: f for f in attention.figures(sample.attention())}
    assert by_key["entropy_0"].values[1] == (2.4, None)
    assert (by_key["entropy_0"].unit, by_key["distance_0"].unit) == ("nats", "pixels")
    assert "A flat map has 1.39 nats" in by_key["entropy_0"].caption


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean_pooled": True}, "pools by the mean"),
        ({"beside": ("cls", "register 1", "register 2")}, "3 tokens that are no patches (cls, 2 registers)"),
    ],
)
def test_what_a_map_leaves_out_is_a_caution(change: dict, said: str) -> None:
    m = replace(sample.attention(), looks=(replace(sample.look("a"), **change),))
    assert any(said in f.text for f in attention.findings(m) if f.kind == "caution")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"saturated": 3, "saturated_layers": (2,)},
            "On 3 of 30 pictures some heads of a look at no patch at all (layer 2)",
        ),
        ({"outliers": 0.02}, "2.0 % of the patch tokens of a have an outlying norm"),
    ],
)
def test_heads_that_mislead_are_a_caution(change: dict, said: str) -> None:
    m = replace(sample.attention(), heads=(replace(sample.heads("a"), **change),))
    assert any(said in f.text for f in attention.findings(m) if f.kind == "caution")
    clean = replace(m, heads=(sample.heads("a"),))
    assert [f.text for f in attention.findings(clean) if f.kind == "caution"] == ["No map of mixer: nothing attends."]


def test_tokens_beside_the_patches_are_counted_by_kind() -> None:
    assert beside_patches(("cls", "register 1", "register 2")) == "cls, 2 registers"
