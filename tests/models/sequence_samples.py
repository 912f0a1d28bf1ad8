"""Made for test_sequence, test_sequence_guards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from visus.models import Backbone, Preprocess
from visus.models.assemble import assemble
from visus.models.points import Layout
from visus.models.trunk import PlainTrunk

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
