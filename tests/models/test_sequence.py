"""Which tokens stand for patches, found by measurement; models that answer at random or mix pictures; what is left out and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from tests.models import sequence_samples as samples
from tests.models.sequence_samples import HF, MAPPED, inner_of
from tests.models.small import batch

from visus.errors import SpecError
from visus.models import load_backbone
from visus.models.attention import attention
from visus.models.relevance import relevance
from visus.models.tokens import forward_kept
from visus.models.vit import vit_layout
from visus.studies.vit.attention.measure import beside_patches

saved = samples.saved


@pytest.mark.parametrize("family", HF)
def test_what_stands_beside_the_patches_is_found_in_every_transformers_model(saved, family: str) -> None:
    backbone = load_backbone(str(saved(family)[0]))
    prefix, suffix, names = HF[family][3:]
    tap = [t for t in backbone.taps if t.kind == "tokens"][-1]
    assert (tap.prefix, tap.suffix, beside_patches(tap.beside)) == (prefix, suffix, names)
    assert tap.cls == (0 if names.startswith("cls") else None)
    whole = backbone.forward(batch(backbone), [tap], pool=None)[tap.name]
    patches = whole[:, prefix : whole.shape[1] - suffix]
    mean = backbone.forward(batch(backbone), [tap], pool="mean")[tap.name]
    torch.testing.assert_close(mean, patches.mean(dim=1))
    again = load_backbone(str(saved(family)[0]))
    late = again.resolve(["late"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        assert torch.equal(again.forward(batch(again), late)["pooled"], backbone.forward(batch(again), late)["pooled"])
    assert again.fingerprint == backbone.fingerprint


@pytest.mark.parametrize("family", MAPPED)
def test_each_patch_is_where_the_map_says(saved, family: str) -> None:
    """Move one patch of the picture: of what enters the first block, this token moves and no other."""
    backbone = load_backbone(str(saved(family)[0]))
    inside = vit_layout(backbone)
    height, width = backbone.preprocess.size
    assert inside.grid == (height // 8, width // 8)
    assert inside.tokens == inside.prefix + inside.patches + inside.suffix
    x = batch(backbone, 1)
    seen: list[torch.Tensor] = []
    first = backbone.module.get_submodule(inside.blocks[0])
    handle = first.register_forward_pre_hook(
        lambda m, a, k: seen.append(a[0] if a else k["hidden_states"]), with_kwargs=True
    )
    for patch in range(inside.patches):
        row, column = divmod(patch, inside.grid[1])
        other = x.clone()
        other[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
        with torch.inference_mode():
            backbone.output(torch.cat([x, other]))
    handle.remove()
    moved = [torch.nonzero((s[0] - s[1]).abs().amax(dim=1) > 1e-5).flatten().tolist() for s in seen]
    assert moved == [[inside.prefix + patch] for patch in range(inside.patches)]
    row = next(iter(attention(backbone, x).maps.values()))
    assert row.shape == (1, 2, inside.patches)
    assert relevance(backbone, x).shape == (1, inside.patches)


@pytest.mark.parametrize("family", ["mae", "mae_bare", "dinov3", "ijepa"])
def test_all_patches_kept_is_the_plain_forward(saved, family: str) -> None:
    backbone = load_backbone(str(saved(family)[0]))
    x, inside = batch(backbone), vit_layout(backbone)
    every = torch.arange(inside.patches).expand(3, -1)
    with torch.inference_mode():
        torch.testing.assert_close(forward_kept(backbone, x, every), backbone.output(x))
    assert forward_kept(backbone, x, every[:, :5]).shape == backbone.output(x).shape


@pytest.mark.parametrize(
    ("family", "said"), [("yolos", "does not run on fewer tokens"), ("mlcd", "does not run on fewer tokens")]
)
def test_patches_cannot_be_dropped_where_positions_come_in_between_blocks(saved, family: str, said: str) -> None:
    backbone = load_backbone(str(saved(family)[0]))
    with pytest.raises(SpecError, match=said):
        forward_kept(backbone, batch(backbone), torch.arange(5).expand(3, -1))


@pytest.mark.parametrize("family", ["mae", "msn", "yolos", "dpt", "dinov3", "deit"])
def test_features_are_the_class_token_that_transformers_documents(saved, family: str) -> None:
    folder, model = saved(family)
    backbone = load_backbone(str(folder))
    x = batch(backbone)
    inner = inner_of(model)
    more: dict[str, Any] = {}
    if family == "mae":
        inner.config.mask_ratio = 0.0
        more = {"noise": torch.arange(16.0).expand(3, -1)}
    with torch.inference_mode():
        token = inner(pixel_values=x, **more).last_hidden_state[:, 0]
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))["pooled"], token)


def test_a_mae_of_transformers_gives_the_features_of_timms_on_the_same_weights(saved) -> None:
    folder, model = saved("mae")
    ours = load_backbone(str(folder))
    theirs = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        num_classes=0,
    )
    mine = {k.removeprefix("vit."): v for k, v in model.state_dict().items() if k.startswith("vit.")}
    into = {
        "cls_token": mine["embeddings.cls_token"], "pos_embed": mine["embeddings.position_embeddings"],
        "patch_embed.proj.weight": mine["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": mine["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": mine["layernorm.weight"], "norm.bias": mine["layernorm.bias"],
    }  # fmt: skip
    for i in range(2):
        layer = {k: v for k, v in mine.items() if f"layer.{i}." in k or f"layers.{i}." in k}

        def one(*names: str, end: str, layer: dict[str, torch.Tensor] = layer) -> torch.Tensor:
            return next(v for k, v in layer.items() if any(f"{n}.{end}" in k for n in names))

        for end in ("weight", "bias"):
            parts = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")]
            into[f"blocks.{i}.attn.qkv.{end}"] = torch.cat([one(*names, end=end) for names in parts])
            into[f"blocks.{i}.attn.proj.{end}"] = one("attention.output.dense", "o_proj", end=end)
            into[f"blocks.{i}.norm1.{end}"] = one("layernorm_before", end=end)
            into[f"blocks.{i}.norm2.{end}"] = one("layernorm_after", end=end)
            into[f"blocks.{i}.mlp.fc1.{end}"] = one("intermediate.dense", "mlp.fc1", end=end)
            into[f"blocks.{i}.mlp.fc2.{end}"] = next(
                v for k, v in layer.items() if k.endswith((f"{i}.output.dense.{end}", f"mlp.fc2.{end}"))
            )
    theirs.load_state_dict(into)
    theirs.eval()
    x = batch(ours)
    with torch.inference_mode():
        torch.testing.assert_close(ours.forward(x, ours.resolve(["late"]))["pooled"], theirs(x), atol=1e-4, rtol=1e-4)
        last = [t for t in ours.taps if t.kind == "tokens"][-1]
        tokens = ours.forward(x, [last], pool=None)[last.name]
        torch.testing.assert_close(theirs.norm(tokens), theirs.forward_features(x), atol=1e-4, rtol=1e-4)
