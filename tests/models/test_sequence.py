"""Which tokens stand for patches, found by measurement; models that answer at random or mix pictures; what is left out and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from tests.models.small import batch
from torch import nn
from transformers import PixtralVisionConfig, PixtralVisionModel

from visus.errors import DataError, SpecError
from visus.models import Backbone, Preprocess, load_backbone
from visus.models.assemble import LEFT_OUT, assemble
from visus.models.attention import attention, statistics
from visus.models.from_timm import wrap
from visus.models.points import Layout
from visus.models.relevance import relevance
from visus.models.tokens import forward_kept
from visus.models.trunk import PlainTrunk
from visus.models.vit import vit_layout
from visus.studies.vit.attention.measure import beside_patches

PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
DECODER = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}
PVT = {"image_size": 64, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
# class saved, class of the config, settings, what is before and behind the patches of the last block, names of these
HF = {
    "mae": ("ViTMAEForPreTraining", "ViTMAEConfig", DECODER, 1, 0, "cls"),
    "mae_bare": ("ViTMAEModel", "ViTMAEConfig", {"mask_ratio": 0.5}, 1, 0, "cls"),
    "msn": ("ViTMSNModel", "ViTMSNConfig", {}, 1, 0, "cls"),
    "msn_head": ("ViTMSNForImageClassification", "ViTMSNConfig", {"num_labels": 3}, 1, 0, "cls"),
    "yolos": ("YolosForObjectDetection", "YolosConfig", {"image_size": [32, 32], "num_detection_tokens": 9}, 1, 9, "cls, 9 detections"),
    "dpt": ("DPTModel", "DPTConfig", {"backbone_out_indices": [0, 1], "readout_type": "project", "neck_hidden_sizes": [8, 8]}, 1, 0, "cls"),
    "pixio": ("PixioModel", "PixioConfig", {"n_cls_tokens": 3}, 3, 0, "3 clss"),
    "mlcd": ("MLCDVisionModel", "MLCDVisionConfig", {}, 1, 0, "cls"),
    "internvl": ("InternVLVisionModel", "InternVLVisionConfig", {"image_size": [32, 32], "patch_size": [8, 8]}, 1, 0, "cls"),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 2}, 3, 0, "cls, 2 registers"),
    "ijepa": ("IJepaModel", "IJepaConfig", {}, 0, 0, ""),
    "beit": ("BeitForImageClassification", "BeitConfig", {}, 1, 0, "cls"),
    "deit": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", {}, 2, 0, "cls, distillation"),
    "siglip2": ("SiglipVisionModel", "SiglipVisionConfig", {}, 0, 0, ""),
    "tall": ("ViTModel", "ViTConfig", {"image_size": [48, 32]}, 1, 0, "cls"),
    "pvt": ("PvtModel", "PvtConfig", PVT, 1, 0, "cls"),
    "cvt": ("CvtModel", "CvtConfig", {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]}, 1, 0, "cls"),
}  # fmt: skip
MAPPED = (
    "mae",
    "mae_bare",
    "msn",
    "msn_head",
    "yolos",
    "dpt",
    "mlcd",
    "internvl",
    "dinov3",
    "ijepa",
    "beit",
    "deit",
    "siglip2",
    "tall",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], tuple[Path, Any]]:
    """family -> (folder as transformers saves it, the model)."""
    made: dict[str, tuple[Path, Any]] = {}

    def make(family: str) -> tuple[Path, Any]:
        if family not in made:
            name, config, more, *_ = HF[family]
            plain = {} if family in ("pvt", "cvt") else PLAIN
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                model = getattr(transformers, name)(getattr(transformers, config)(**{**plain, **more})).eval()
                with torch.no_grad():
                    for p in model.parameters():
                        if p.ndim > 1 and not p.any():
                            p.normal_()  # class tokens and positions that start at zero would hide a shift by one
            folder = tmp_path_factory.mktemp(family)
            model.save_pretrained(folder)
            size = more.get("image_size", 64 if family == "cvt" else 32)
            height, width = size if isinstance(size, list) else (size, size)
            settings = {
                "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": height, "width": width},
                "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                "resample": 2,
            }  # fmt: skip
            (folder / "preprocessor_config.json").write_text(json.dumps(settings))
            made[family] = folder, model
        return made[family]

    return make


def inner_of(model: Any) -> Any:
    """The base model that a model with a head holds."""
    return model if type(model).__name__.endswith("Model") else getattr(model, model.base_model_prefix)


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


def test_several_class_tokens_and_nameless_ones_are_refused_for_maps_and_kept_out_of_means(saved) -> None:
    backbone = load_backbone(str(saved("pixio")[0]))
    with pytest.raises(SpecError, match="3 class tokens"):
        vit_layout(backbone)
    x = batch(backbone)
    with torch.inference_mode():
        own = saved("pixio")[1](pixel_values=x)
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))["pooled"], own.pooler_output)


class Net(nn.Module):
    """A small transformer in which a test can do as it likes with the tokens before the first block."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor] = lambda x: x, patch: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, patch, patch)
        self.position = nn.Parameter(torch.randn(1, 16, 16))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True) for _ in range(3)
        )
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.change(self.patches(x).flatten(2).transpose(1, 2) + self.position)
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=1)

    def with_class(self, x: torch.Tensor, at: int) -> torch.Tensor:
        return torch.cat([x[:, :at], self.cls_token.expand(len(x), -1, -1), x[:, at:]], dim=1)


def built(net: nn.Module) -> Backbone:
    preprocess = Preprocess((32, 32), (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return assemble("a net", PlainTrunk(net), preprocess, layout=Layout())


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


def saturated(target: int) -> Backbone:
    """In the last block every token looks at one alone: the queries are ones, and keys are large where the last channel is."""
    net = Net()

    def marked(x: torch.Tensor) -> torch.Tensor:
        x = net.with_class(x, 0)
        mark = torch.where(torch.arange(17) == target, 1e3, 0.0)[None, :, None]
        return torch.cat([x[..., :15], mark.expand(len(x), -1, 1)], dim=-1)

    net.change = marked
    attn: Any = net.blocks[-1].self_attn
    with torch.no_grad():
        attn.in_proj_weight[:32] = 0
        attn.in_proj_bias[:32] = 0
        attn.in_proj_bias[:16] = 1
        attn.in_proj_weight[16:32, 15] = 1e4
    return built(net)


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


TIMM = {  # by timm's name: tokens that are no patches in the first and in the last chain over tokens (None: none is over tokens), grid of maps
    "vit_tiny_patch16_224": (1, 1, (14, 14)), "deit_tiny_distilled_patch16_224": (2, 2, (14, 14)), "eva02_tiny_patch14_224": (1, 1, (16, 16)),
    "vit_wee_patch16_reg1_gap_256": (1, 1, (16, 16)), "vit_relpos_small_patch16_224": (0, 0, (14, 14)), "flexivit_small": (1, 1, (15, 15)),
    "vit_tiny_r_s16_p8_224": (1, 1, (7, 7)), "vit_small_patch16_dinov3": (5, 5, (16, 16)), "test_vit3": (1, 1, (10, 10)),
    "vit_pe_core_tiny_patch16_384": (1, 1, (24, 24)), "vit_xsmall_patch16_clip_224": (1, 1, (14, 14)),
    "cait_xxs24_224": (0, 1, None), "xcit_nano_12_p16_224": (0, 1, None), "convit_tiny": (0, 1, None), "pit_ti_224": (1, 1, None),
    "pit_ti_distilled_224": (2, 2, None), "mvitv2_tiny": (0, 0, None), "mvitv2_small_cls": (1, 1, None), "hiera_tiny_224": (0, 0, None),
    "crossvit_tiny_240": (1, 1, None), "coat_lite_tiny": (0, 1, None), "volo_d1_224": (1, 1, None), "levit_128s": (0, 0, None),
    "twins_svt_small": (0, 0, None), "pvt_v2_b0": (0, 0, None), "mixer_s32_224": (0, 0, None), "caformer_s18": (0, 0, None),
    "efficientformer_l1": (0, 0, None), "swin_tiny_patch4_window7_224": (None, None, None), "nest_tiny_jx": (None, None, None),
    "davit_tiny": (None, None, None), "visformer_tiny": (None, None, None), "tiny_vit_5m_224": (None, None, None), "fastvit_t8": (None, None, None),
    "samvit_base_patch16_224": (None, None, None), "tnt_s_patch16_224": (None, None, None), "maxvit_tiny_tf_224": (None, None, None),
}  # fmt: skip


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
