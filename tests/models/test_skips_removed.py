"""Removed skips against the libraries' own source with the additions edited out, and additions that are no skips left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.skip_samples import ROWS, Around, LongSkip, Positions, pictures, wrapped

from visus.errors import DataError, SpecError
from visus.models import TappedModule, load_backbone
from visus.models.skips import Skip, choose_skips, find_skips, without_skips
from visus.models.stages import stages_of

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")


def test_what_holds_residual_blocks_is_none_itself():
    assert [s.name for s in find_skips(wrapped(Around(LongSkip()), 8))] == ["block.body.0", "block.body.2"]


def test_restored_after_an_error_and_when_nested(timm_folder):
    backbone = load_backbone(str(timm_folder("vit")[0]))
    skips = find_skips(backbone)
    x = pictures(backbone)
    intact = backbone.module(x)
    with pytest.raises(ZeroDivisionError), without_skips(backbone.module, skips):
        raise ZeroDivisionError
    assert torch.equal(backbone.module(x), intact)
    with without_skips(backbone.module, skips):
        every = backbone.module(x)
    with without_skips(backbone.module, skips[:1]):
        with without_skips(backbone.module, skips):
            assert torch.equal(backbone.module(x), every)
        assert [type(b).__name__ for b in backbone.module.model.blocks] == ["NoSkipBlock", "Block", "Block"]
    assert torch.equal(backbone.module(x), intact)
    with (
        pytest.raises(DataError, match=r"no residual block at model\.nowhere"),
        without_skips(backbone.module, [skips[0], Skip("x", "model.nowhere", "x", 0.5)]),
    ):
        raise ZeroDivisionError
    assert torch.equal(backbone.module(x), intact)
    backbone.module.model.blocks[0].forward = lambda x: x
    with pytest.raises(DataError, match="patched"), without_skips(backbone.module, skips):
        raise ZeroDivisionError


def test_only_identity_shortcuts_are_no_projections(timm_folder, hf_folder):
    found = {}
    for make, family in (
        (timm_folder, "efficientnet"),
        (timm_folder, "regnet"),
        (hf_folder, "resnet"),
        (hf_folder, "vit"),
    ):
        skips = find_skips(load_backbone(str(make(family)[0])))
        found[family] = ([s.name for s in skips][:5], [s.name for s in skips if s.projection])
        assert [s.depth for s in skips] == sorted(s.depth for s in skips)
    assert found == {
        "efficientnet": (["blocks.1.1", "blocks.2.1", "blocks.3.1", "blocks.3.2", "blocks.4.1"], []),
        "regnet": (["s1.b1", "s2.b1", "s3.b1", "s3.b2", "s3.b3"], ["s1.b1", "s2.b1", "s3.b1", "s4.b1"]),
        "resnet": (
            ["stages.0.layers.0", "stages.1.layers.0", "stages.2.layers.0", "stages.2.layers.1", "stages.3.layers.0"],
            ["stages.1.layers.0", "stages.2.layers.0", "stages.3.layers.0"],
        ),
        "vit": (["blocks.0", "blocks.1"], []),
    }


def test_taps_see_the_network_without_skips(timm_folder):
    """The route of features: tapped modules are copied, and OpenVINO traces them."""
    backbone = load_backbone(str(timm_folder("swin")[0]))
    skips = choose_skips(find_skips(backbone), "layers.2")
    late = backbone.resolve(["layers.1", "late"])
    h, w = backbone.preprocess.size
    raw = torch.randint(0, 256, (2, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module = TappedModule(backbone, late).eval()
    before = module(raw)
    with without_skips(backbone.module, skips):
        inside = copy.deepcopy(module)
        traced = torch.jit.trace(inside, raw[:1], check_trace=False)
    early, removed = inside(raw)
    assert torch.equal(early, before[0])  # in front of the removed ones
    assert (removed - before[1]).norm() > 0.1 * removed.norm()
    torch.testing.assert_close(traced(raw)[1], removed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("layer1.1", [1]),
        ("layer1.1-layer3.1", [1, 2, 3, 4]),
        ("layer2", [2, 3]),
        ("layer1", [0, 1]),
        ("layer1-layer2.0", [0, 1, 2]),
        ("layer2 - layer3", [2, 3, 4, 5]),
        ("layer3.2, layer1.0,layer3.2", [0, 5]),
        ("trunk.block1.block1-0", [6]),
        ("layer3.1-trunk.block1.block1-0", [4, 5, 6]),
        ("trunk.block1.block1-0-layer10", [6, 7]),
        ("all", list(range(8))),
    ],
)
def test_choosing(text, places):
    assert choose_skips(ROWS, text) == tuple(ROWS[i] for i in places)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer3.0", "unknown residual block 'layer3.0'; nearest: .*layer3.1"),
        ("layer1.0-layer3.9", "unknown residual block 'layer3.9'"),
        ("layer2.1-layer1.0", "swap the two"),
        (" , ", "no residual block was named"),
        ("-", "unknown residual block"),
    ],
)
def test_choosing_wrongly(text, message):
    with pytest.raises(SpecError, match=message) as caught:
        choose_skips(ROWS, text)
    assert "\n" not in str(caught.value)


def test_stages(timm_folder, hf_folder):
    def stages(make, family):
        return stages_of(load_backbone(str(make(family)[0])))

    assert stages(timm_folder, "resnet") == {
        "stem": "model.conv1", **{f"layer{i}": f"model.layer{i}" for i in (1, 2, 3, 4)}
    }  # fmt: skip
    assert list(stages(timm_folder, "efficientnet")) == ["stem", *(f"blocks.{i}" for i in range(7))]
    assert list(stages(timm_folder, "convnext")) == ["stem", *(f"stages.{i}" for i in range(4))]
    assert list(stages(timm_folder, "vit")) == ["stem", "blocks.0", "blocks.1", "blocks.2"]
    assert stages(hf_folder, "dinov2_head") == {
        "stem": "model.dinov2.embeddings",
        "blocks.0": "model.dinov2.encoder.layer.0",
        "blocks.1": "model.dinov2.encoder.layer.1",
    }
    assert list(stages(timm_folder, "densenet"))[:2] == ["stem", "features.denseblock1"]
    with pytest.raises(DataError, match="no numbered stages"):
        stages_of(wrapped(Around(Positions()), 8))
