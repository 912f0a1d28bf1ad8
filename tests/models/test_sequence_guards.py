"""Which tokens stand for patches, found by measurement; models that answer at random or mix pictures; what is left out and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import timm
import torch
from tests.models import sequence_samples as samples
from tests.models.sequence_samples import PLAIN, TIMM, Net, built, saturated
from tests.models.small import batch
from torch import nn
from transformers import PixtralVisionConfig, PixtralVisionModel

from visus.errors import DataError, SpecError
from visus.models import load_backbone
from visus.models.assemble import LEFT_OUT
from visus.models.attention import attention, statistics
from visus.models.from_timm import wrap
from visus.models.relevance import relevance
from visus.models.vit import vit_layout

saved = samples.saved


def test_several_class_tokens_and_nameless_ones_are_refused_for_maps_and_kept_out_of_means(saved) -> None:
    backbone = load_backbone(str(saved("pixio")[0]))
    with pytest.raises(SpecError, match="3 class tokens"):
        vit_layout(backbone)
    x = batch(backbone)
    with torch.inference_mode():
        own = saved("pixio")[1](pixel_values=x)
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))["pooled"], own.pooler_output)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, torch.randperm(16)[:4]], "another output for the same picture each time"),
        (lambda x: nn.functional.dropout(x, 0.1), "another output for the same picture each time"),
        (lambda x: x + x.mean(dim=0), "mixes the pictures of a batch"),
    ],
)  # fmt: skip
def test_a_model_that_draws_at_random_or_mixes_pictures_is_refused(change, said: str) -> None:
    with pytest.raises(DataError, match=said):
        built(Net(change))


def test_a_model_that_reads_a_batch_as_one_sequence_is_refused(tmp_path) -> None:
    PixtralVisionModel(PixtralVisionConfig(**PLAIN)).save_pretrained(tmp_path)
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match="1 row of features for 2 pictures"):
        load_backbone(str(tmp_path))


def test_a_class_token_behind_the_patches_is_read_where_it_stands() -> None:
    net = Net()
    net.change = lambda x: net.with_class(x, 16)
    backbone = built(net)
    inside = vit_layout(backbone)
    assert (inside.prefix, inside.cls, inside.suffix, inside.extra, inside.grid) == (0, 16, 1, ("cls",), (4, 4))
    x = batch(backbone)
    last = backbone.taps[2]
    whole = backbone.forward(x, [last], pool=None)[last.name]
    torch.testing.assert_close(backbone.forward(x, [last], pool="cls")[last.name], whole[:, 16])
    torch.testing.assert_close(backbone.forward(x, [last], pool="mean")[last.name], whole[:, :16].mean(dim=1))
    maps = attention(backbone, x, rows="all").maps[2]
    torch.testing.assert_close(attention(backbone, x).maps[2], maps[:, :, 16, :16])


def test_a_class_token_among_the_patches_and_tokens_that_make_no_grid_are_left_out_by_name() -> None:
    net = Net()
    net.change = lambda x: net.with_class(x, 7)
    among = built(net)
    few = built(Net(lambda x: x[:, :11]))
    for backbone, said in ((among, "stand some that are no patches"), (few, "11 tokens make no grid of 32 x 32")):
        assert [t.name for t in backbone.taps] == ["pooled"]
        assert said in backbone.info[LEFT_OUT]["blocks.0"]  # type: ignore[index]
        with pytest.raises(SpecError, match=said):
            vit_layout(backbone)
        x = batch(backbone)
        torch.testing.assert_close(backbone.forward(x, backbone.taps)["pooled"], backbone.module(x))


def test_patches_in_another_order_than_that_of_reading_are_refused_for_maps() -> None:
    def turned(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 4, 4, 16).transpose(1, 2).reshape(-1, 16, 16)

    net = Net(turned)
    del net.cls_token
    backbone = built(net)
    assert backbone.taps[0].shape == (16, 16)  # their mean is what it is in any order
    with pytest.raises(SpecError, match="reading order"):
        vit_layout(backbone)


def test_points_that_are_not_positions_are_left_out() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.Sequential(Windows(), Windows())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks(self.stem(x).flatten(2).transpose(1, 2).reshape(-1, 4, 16, 8)).mean(dim=(1, 2))

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # [b, windows, tokens, c]
            return x + self.mlp(x)

    backbone = built(Odd())
    assert all(t.kind != "spatial" or t.shape[1] == t.shape[2] for t in backbone.taps)
    assert "4 x 16" in str(backbone.info[LEFT_OUT]) or "16 x 8" in str(backbone.info[LEFT_OUT])


def test_weights_are_as_they_were_after_they_were_moved_to_find_their_tokens() -> None:
    net = Net()
    net.change = lambda x: net.with_class(x, 0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    backbone = built(net)
    vit_layout(backbone)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def test_attention_on_one_patch_alone_has_an_entropy_of_nought() -> None:
    backbone = saturated(6)
    x = batch(backbone)
    assert attention(backbone, x).maps[2][:, :, 5].min() == 1
    entropy, distance = statistics(backbone, x)
    assert float(entropy[:, 2].abs().max()) == 0
    apart = [math.hypot(8 * (i // 4 - 1), 8 * (i % 4 - 1)) for i in range(16)]
    torch.testing.assert_close(distance[:, 2], torch.full((3, 2), sum(apart) / 16))
    assert torch.isfinite(relevance(backbone, x)).all()


def test_attention_on_no_patch_at_all_has_none() -> None:
    backbone = saturated(0)
    x = batch(backbone)
    entropy, distance = statistics(backbone, x)
    assert torch.isnan(entropy[:, 2]).all()
    assert torch.isnan(distance[:, 2]).all()
    assert torch.isfinite(entropy[:, 0]).all()
    assert torch.isfinite(relevance(backbone, x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_every_family_of_timm(name: str) -> None:
    first, last, grid = TIMM[name]
    backbone = load_backbone(f"timm:{name}?weights=none")
    tokens = [t for t in backbone.taps if t.kind == "tokens"]
    if first is None:
        assert not tokens
    else:
        assert (tokens[0].prefix, tokens[-1].prefix) == (first, last)
    assert not any("tokens" in why for why in backbone.info.get(LEFT_OUT, {}).values())  # type: ignore[attr-defined]
    x = batch(backbone, 1)
    with torch.inference_mode():
        own = backbone.module.model.forward_head(backbone.module.model.forward_features(x), pre_logits=True)  # type: ignore[operator, union-attr]
    assert torch.equal(next(iter(backbone.forward(x, backbone.resolve(["late"])).values())), own.flatten(1))
    if grid is None:
        with pytest.raises(SpecError):
            vit_layout(backbone)
    else:
        assert vit_layout(backbone).grid == grid


@pytest.mark.parametrize(
    ("more", "prefix", "cls"),
    [
        ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, 2, None), ({"reg_tokens": 3}, 4, 0),
        ({"reg_tokens": 3, "no_embed_class": True}, 4, 0), ({"patch_size": (8, 4)}, 1, 0), ({"img_size": (30, 50), "patch_size": 7}, 1, 0),
    ],
)  # fmt: skip
def test_vision_transformers_of_timm_with_other_tokens_and_patches(
    more: dict[str, Any], prefix: int, cls: int | None
) -> None:
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 4, **more}
    size = args["img_size"] if isinstance(args["img_size"], tuple) else (32, 32)
    model = timm.create_model("vit_tiny_patch16_224", pretrained_cfg_overlay={"input_size": (3, *size)}, **args).eval()
    backbone = wrap(model, "vit", random=True)
    inside = vit_layout(backbone)
    assert (inside.prefix, inside.suffix, inside.cls) == (prefix, 0, cls)
    assert inside.grid == model.patch_embed.grid_size
    assert inside.patch == model.patch_embed.patch_size
    x = batch(backbone)
    last = backbone.resolve(["blocks.1"])
    with torch.inference_mode():
        tokens = model.blocks(model.norm_pre(model._pos_embed(model.patch_embed(x))))
    torch.testing.assert_close(backbone.forward(x, last)["blocks.1"], tokens[:, prefix:].mean(dim=1))
