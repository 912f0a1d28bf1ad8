"""Small randomly initialised models on disk, one of each family, made by their own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from tests.models.small import loader
from timm.models._hub import save_for_hf

TIMM = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}),
    "vit_gap": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "global_pool": "avg"},
    ),
    "deit": (
        "deit_tiny_distilled_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 7},
    ),
    "siglip": (
        "vit_base_patch16_siglip_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "tall": ("vit_tiny_patch16_224", {"img_size": (48, 32), "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "rope": ("eva02_tiny_patch14_224", {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "dynamic": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "dynamic_img_size": True},
    ),
    "qk_norm": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "qk_norm": True},
    ),
    "rope_mixed": (
        "vit_base_patch16_rope_mixed_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "beit": ("beit_base_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "parallel": (
        "vit_small_patch16_18x2_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "cait": ("cait_xxs24_224", {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "resnet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": (1, 1, 2), "num_heads": (1, 2, 4)},
    ),
    "efficientnet": ("efficientnet_lite0", {}),
    "mobilenet": ("mobilenetv3_small_050", {}),
    "mixer": ("gmlp_ti16_224", {}),
    "densenet": ("densenet121", {}),
    "regnet": ("regnety_002", {}),
}  # fmt: skip


def _vit(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
        "patch_size": 8, **more,
    }  # fmt: skip


HF = {
    "vit": ("ViTForImageClassification", "ViTConfig", _vit()),
    "vit_plain": ("ViTModel", "ViTConfig", _vit()),
    "deit": ("DeiTForImageClassification", "DeiTConfig", _vit()),
    "dinov2": ("Dinov2Model", "Dinov2Config", _vit()),
    "dinov2_head": ("Dinov2ForImageClassification", "Dinov2Config", _vit()),
    "registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", _vit(num_register_tokens=3)),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", _vit()),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", _vit()),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 2, 1], "num_heads": [1, 2, 4], "window_size": 4},
    ),
    "resnet": ("ResNetForImageClassification", "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_type": "basic"}),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
}  # fmt: skip


@pytest.fixture
def timm_folder(tmp_path: Path) -> Callable[[str], tuple[Path, Any]]:
    """family -> (folder as timm saves it, the model in eval mode)."""

    def make(family: str) -> tuple[Path, Any]:
        name, kwargs = TIMM[family]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = timm.create_model(name, **{"num_classes": 5, **kwargs}).eval()
        folder = tmp_path / f"timm-{family}"
        save_for_hf(model, str(folder), safe_serialization=True)
        config = json.loads((folder / "config.json").read_text())
        config["model_args"] = {k: v for k, v in kwargs.items() if k not in ("num_classes", "global_pool")}
        (folder / "config.json").write_text(json.dumps(config))
        return folder, model

    return make


@pytest.fixture
def hf_folder(tmp_path: Path) -> Callable[[str], tuple[Path, Any]]:
    """family -> (folder as transformers saves it, the model in eval mode)."""

    def make(family: str) -> tuple[Path, Any]:
        model_class, config_class, kwargs = HF[family]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = getattr(transformers, model_class)(getattr(transformers, config_class)(**kwargs)).eval()
        folder = tmp_path / f"hf-{family}"
        model.save_pretrained(folder)
        return folder, model

    return make


@pytest.fixture
def openclip_folder(tmp_path: Path) -> tuple[Path, Any]:
    """A small CLIP as open_clip keeps it, and the model in eval mode."""
    body = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
            "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2], "interpolation": "bilinear"},
    }
    folder = tmp_path / "openclip"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = open_clip.CLIP(**body["model_cfg"]).eval()
    (folder / "open_clip_config.json").write_text(json.dumps(body))
    save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    return folder, model


@pytest.fixture
def small(timm_folder, hf_folder) -> Callable[[str], Any]:
    """'timm:resnet', 'hf:vit', 'torchvision:vit', ... -> a small Backbone."""
    return loader(timm_folder, hf_folder)
