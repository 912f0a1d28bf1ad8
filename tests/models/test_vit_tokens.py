"""Inside vision transformers of every library: attention against the library's own, tokens that leave, what gradients say, planted truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models import vit_samples as samples
from tests.models.small import batch, reader_of_one_patch
from tests.models.vit_samples import ALL
from torch.nn import functional

from visus.errors import DataError, SpecError
from visus.measures import attention as defined
from visus.models.attention import attention, rollout, statistics
from visus.models.relevance import grad_cam, relevance
from visus.models.tokens import forward_kept, outlier_tokens
from visus.models.vit import vit_layout

make = samples.make


@pytest.mark.parametrize("name", ["timm:vit", "timm:vit_gap", "hf:registers"])
def test_rollout_and_statistics_are_their_definitions(make, name: str) -> None:
    backbone = make(name)
    x, inside = batch(backbone), vit_layout(backbone)
    maps = attention(backbone, x, layers=range(len(inside.blocks)), rows="all").maps
    layers = [maps[k].numpy() for k in sorted(maps)]
    whole = defined.rollout(layers)
    row = whole[:, inside.prefix :].mean(1) if inside.cls is None else whole[:, inside.cls]
    assert np.allclose(rollout(backbone, x).numpy(), row[:, inside.prefix :], atol=1e-6)
    entropy, distance = statistics(backbone, x)
    for k, layer in enumerate(layers):
        looks = layer[:, :, inside.prefix :].mean(2) if inside.cls is None else layer[:, :, inside.cls]
        assert np.allclose(entropy[:, k].numpy(), defined.entropy(looks[..., inside.prefix :]), atol=1e-5)
        among = layer[:, :, inside.prefix :, inside.prefix :]
        assert np.allclose(distance[:, k].numpy(), defined.mean_distance(among, inside.grid, inside.patch), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_all_patches_kept_is_the_plain_forward_and_fewer_are_another(make, name: str) -> None:
    backbone = make(name)
    x, inside = batch(backbone), vit_layout(backbone)
    with torch.inference_mode():
        plain = backbone.output(x)
    every = torch.arange(inside.patches).expand(3, -1)
    assert torch.allclose(forward_kept(backbone, x, every), plain, atol=1e-6)
    some = torch.stack(
        [torch.randperm(inside.patches, generator=torch.Generator().manual_seed(i))[:5] for i in range(3)]
    )
    fewer = forward_kept(backbone, x, some.sort(dim=1).values)
    assert fewer.shape == plain.shape
    assert (fewer - plain).norm() > 1e-3 * plain.norm()
    # Each picture has its own choice: one by one they are the same.
    alone = torch.cat([forward_kept(backbone, x[i : i + 1], some[i : i + 1].sort().values) for i in range(3)])
    assert torch.allclose(fewer, alone, atol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def test_dropped_tokens_are_those_taken_out_by_hand(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x, kept = batch(backbone), torch.tensor([[0, 3, 9], [1, 2, 15], [4, 5, 6]])
    with torch.inference_mode():
        tokens = vit._pos_embed(vit.patch_embed(x))
        by_hand = torch.stack([tokens[i, [0, *(kept[i] + 1)]] for i in range(3)])
        expected = vit.forward_head(vit.norm(vit.blocks(by_hand)))
    assert torch.allclose(forward_kept(backbone, x, kept), expected, atol=1e-6)


@pytest.mark.parametrize("family", ["rope", "rope_mixed"])
def test_rope_turns_every_kept_patch_as_in_the_whole(make, family: str) -> None:
    backbone = make(f"timm:{family}")
    model: Any = backbone.module.model
    x, kept = batch(backbone, 1), torch.tensor([[2, 7, 11]])
    with torch.inference_mode():
        tokens, rope = model._pos_embed(model.patch_embed(x))
        y = tokens[:, [0, 3, 8, 12]]
        for layer, block in enumerate(model.blocks):
            y = block(y, rope=rope[kept[0]] if family == "rope" else rope[layer][:, kept[0]])
        expected = model.forward_head(model.norm(y))
    assert torch.allclose(forward_kept(backbone, x, kept), expected, atol=1e-5)


def test_relevance_is_a_slow_run_of_its_definition(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x = batch(backbone, 2)
    for i in range(2):
        y, matrices = vit._pos_embed(vit.patch_embed(x[i : i + 1])), []
        for block in vit.blocks:
            a = block.attn
            q, k, v = a.qkv(block.norm1(y)).reshape(1, 17, 3, 2, 16).permute(2, 0, 3, 1, 4)
            weights = (
                (q @ k.transpose(-2, -1) * a.scale).softmax(-1).detach()
                if not matrices
                else (q @ k.transpose(-2, -1) * a.scale).softmax(-1)
            )
            if not matrices:
                weights.requires_grad_()
            matrices.append(weights)
            y = y + block.ls1(a.proj((weights @ v).transpose(1, 2).reshape(1, 17, 32)))
            y = y + block.ls2(block.mlp(block.norm2(y)))
        logit = vit.forward_head(vit.norm(y))[0].max()
        total = torch.eye(17)
        for weights, gradient in zip(matrices, torch.autograd.grad(logit, matrices), strict=True):
            weighted = torch.stack([functional.relu(g * w) for g, w in zip(gradient[0], weights[0], strict=True)]).mean(
                0
            )
            total = total + weighted @ total
        assert torch.allclose(relevance(backbone, x)[i], total[0, 1:].detach(), atol=1e-6)


def test_a_transformer_that_reads_one_patch_is_seen_to_read_it(make) -> None:
    backbone = make("timm:vit")
    patch = 6
    reader_of_one_patch(backbone, patch)
    x = batch(backbone, 4) * 0.1
    x[:, :, 8:16, 16:24] += 3.0
    for found in (
        attention(backbone, x).maps[2].mean(1),
        rollout(backbone, x),
        relevance(backbone, x, torch.zeros(4, dtype=torch.long)),
    ):
        assert found.argmax(1).tolist() == [patch] * 4
    with torch.inference_mode():
        plain = backbone.output(x)[:, 0]
    alone = forward_kept(backbone, x, torch.full((4, 1), patch))[:, 0]
    without = forward_kept(backbone, x, torch.tensor([[i for i in range(16) if i != patch]] * 4))[:, 0]
    assert torch.allclose(alone, plain, atol=0.05 * float(plain.abs().mean()))
    assert ((without - plain).abs() > plain.abs()).all()


def test_tokens_with_names_and_grids_that_are_not_square(make) -> None:
    assert vit_layout(make("timm:deit")).extra == ("cls", "distillation")
    assert vit_layout(make("timm:registers")).extra == ("cls", *(f"register {k}" for k in range(1, 5)))
    assert vit_layout(make("hf:registers")).extra == ("cls", "register 1", "register 2", "register 3")
    assert vit_layout(make("timm:siglip")).cls is None
    tall = vit_layout(make("timm:tall"))
    assert (tall.grid, tall.patch, tall.patches) == ((6, 4), (8, 8), 24)


def test_a_token_with_a_huge_norm_is_an_outlier(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x = batch(backbone, 2)
    assert not outlier_tokens(backbone, x).any()
    with torch.no_grad():
        vit.pos_embed[0, 1 + 5] *= 1e4
    assert outlier_tokens(backbone, x).nonzero().tolist() == [[0, 5], [1, 5]]


def test_patches_cannot_leave_a_transformer_with_a_bias_for_every_pair(make) -> None:
    backbone = make("timm:beit")
    x = batch(backbone)
    with torch.inference_mode():
        plain = backbone.output(x)
    assert torch.allclose(forward_kept(backbone, x, torch.arange(16).expand(3, -1)), plain, atol=1e-6)
    with pytest.raises(SpecError, match="use blanked pixels"):
        forward_kept(backbone, x, torch.arange(9).expand(3, -1))


@pytest.mark.parametrize("name", ["resnet", "convnext", "swin", "mixer", "cait", "parallel"])
def test_other_networks_are_refused_with_the_study_that_fits(make, name: str) -> None:
    with pytest.raises(SpecError, match="visus transfer"):
        vit_layout(make(f"timm:{name}"))


def test_bad_requests_are_told(make) -> None:
    backbone = make("timm:vit")
    x = batch(backbone)
    with pytest.raises(DataError, match="layer 9"):
        attention(backbone, x, layers=[9])
    with pytest.raises(DataError, match="at least 1"):
        forward_kept(backbone, x, torch.zeros(3, 0, dtype=torch.long))
    with pytest.raises(DataError, match=r"0\.\.15"):
        forward_kept(backbone, x, torch.full((3, 1), 16))

    tiny = replace(backbone, preprocess=replace(backbone.preprocess, size=(4, 4)))
    with pytest.raises(DataError, match="smaller than a patch"):
        vit_layout(tiny)


@pytest.mark.parametrize("family", ["resnet", "convnext", "swin"])
def test_grad_cam_is_the_weighted_sum_of_the_last_maps(make, family: str) -> None:
    backbone = make(f"timm:{family}")
    backbone.preprocess = type(backbone.preprocess)(
        **{**backbone.preprocess.__dict__, "size": (32, 32) if family == "swin" else (64, 64)}
    )
    x, model = batch(backbone, 2), backbone.module.model
    found = grad_cam(backbone, x, torch.tensor([1, 2]))
    features = model.forward_features(x)
    if family == "swin":
        features = model.layers(model.patch_embed(x))
    features = features.detach().requires_grad_()
    logits = model.forward_head(model.norm(features) if family == "swin" else features)
    gradient = torch.autograd.grad(logits[0, 1] + logits[1, 2], features)[0]
    axes = (1, 2) if family == "swin" else (2, 3)
    weights = gradient.mean(dim=axes, keepdim=True)
    expected = functional.relu((weights * features.detach()).sum(dim=3 if family == "swin" else 1))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not any(p.requires_grad for p in backbone.module.parameters())
