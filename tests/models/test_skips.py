"""Removed skips against the libraries' own source with the additions edited out, and additions that are no skips left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.models import skip_samples as samples
from tests.models.skip_samples import EDITS, TOYS, Around, NoSkipAtAll, edited, gradients, pictures, shaken, wrapped
from timm.models import VisionTransformer

from visus.errors import DataError, SpecError
from visus.models import load_backbone
from visus.models.skips import Skip, choose_skips, find_skips, without_skips

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
backbone_of = samples.backbone_of


@pytest.mark.parametrize(("library", "family", "edits"), EDITS, ids=[f"{e[0]}-{e[1]}" for e in EDITS])
def test_equals_the_source_with_the_additions_edited_out(library, family, edits, backbone_of):
    backbone = backbone_of(library, family)
    module, x = backbone.module, pictures(backbone)
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    skips = find_skips(backbone)
    chosen = skips[::2]  # the others must stay
    assert chosen
    looks = repr(module)
    with torch.no_grad():
        intact = module(x)
        blocks = [module.get_submodule(s.path) for s in chosen]
        for block in blocks:
            block.forward = edited(block, edits)
        expected = module(x)
        with torch.enable_grad():
            expected_gradients = gradients(module, x)
        for block in blocks:
            del block.forward
        with without_skips(module, chosen):
            removed = module(x)
            copied = copy.deepcopy(module)
            traced = torch.jit.trace(module, x[:1], check_trace=False)
            assert repr(module) != looks
            assert repr(module).count("NoSkip") == len(chosen)
            with torch.enable_grad():
                found_gradients = gradients(module, x)
        assert (intact - expected).norm() > 1e-3 * intact.norm()
        torch.testing.assert_close(removed, expected)
        assert torch.equal(module(x), intact)
        assert torch.equal(copied(x), removed)
        torch.testing.assert_close(traced(x), expected)
    assert repr(module) == looks
    assert found_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    after = module.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(weights[k], after[k]) for k in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_residual_block_by_hand(timm_folder):
    backbone = shaken(load_backbone(str(timm_folder("resnet")[0])))
    (skip,) = choose_skips(find_skips(backbone), "layer2.0")
    block: Any = backbone.module.get_submodule(skip.path)
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    by_hand = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x))))).relu()
    with without_skips(backbone.module, [skip]):
        torch.testing.assert_close(block(x), by_hand, rtol=0, atol=0)
    assert skip == Skip("layer2.0", "model.layer2.0", "layer2", 2 / 5, projection=True)


def test_a_transformer_block_by_hand(timm_folder):
    backbone = shaken(load_backbone(str(timm_folder("registers")[0])))
    (skip,) = choose_skips(find_skips(backbone), "blocks.1")
    block: Any = backbone.module.get_submodule(skip.path)
    x = torch.randn(2, 21, 32, generator=torch.Generator().manual_seed(0))
    by_hand = block.ls2(block.mlp(block.norm2(block.ls1(block.attn(block.norm1(x))))))
    with without_skips(backbone.module, [skip]):
        torch.testing.assert_close(block(x), by_hand, rtol=0, atol=0)


def test_stochastic_depth_does_not_erase_pictures():
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3, drop_path_rate=0.9
    )
    backbone = shaken(wrapped(model))
    skips = find_skips(backbone)
    x = pictures(backbone, 8)
    with without_skips(backbone.module, skips):
        calm = backbone.module(x)
        torch.testing.assert_close(backbone.module.train()(x), calm)
    assert backbone.module.model.blocks[1].drop_path1.training


@pytest.mark.parametrize("kind", TOYS)
def test_only_the_skip_goes(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        block = kind()
    backbone = wrapped(Around(block), 8)
    skips = find_skips(backbone)
    assert [s.name for s in skips] == ["block"]
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(4), requires_grad=True)
    with without_skips(backbone.module, skips):
        found = block(x)
        (gradient,) = torch.autograd.grad(found.square().sum(), x)
    expected = block.expected(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


def test_a_block_without_a_skip_is_not_listed_and_cannot_lose_one():
    backbone = wrapped(Around(NoSkipAtAll()), 8)
    assert find_skips(backbone) == ()
    with (
        without_skips(backbone.module, [Skip("block", "model.block", "block", 0.5)]),
        pytest.raises(DataError, match="adds none"),
    ):
        backbone.module(torch.zeros(1, 3, 8, 8))
    assert type(backbone.module.model.block) is NoSkipAtAll
    with pytest.raises(SpecError, match="no skip connections"):
        choose_skips((), "all")
