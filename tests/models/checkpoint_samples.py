"""Made for test_checkpoints, test_checkpoint_folders."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import random
import types
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from torchvision import models

from visus.models import (
    checkpoint,
    from_openclip,
    from_timm,
    load_backbone,
    sizes,
    weights_file,
)

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3}


VIT = "vit_tiny_patch16_224"


CNN = "mobilenetv3_small_050"


def made(name: str = VIT, seed: int = 1, **kwargs: Any) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, **{**(SMALL if name == VIT else {}), "num_classes": 5, **kwargs}).eval()
        for p in model.parameters():
            p.data += 0.02 * torch.randn_like(p)
    return model


@pytest.fixture(scope="module")
def vit():
    return made(), made(seed=2)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    found: list[str] = []
    for module in (checkpoint, sizes, from_timm, weights_file, from_openclip):
        monkeypatch.setattr(module, "note", found.append)
    for module in (checkpoint, sizes):
        monkeypatch.setattr(module, "caution", found.append)
    return found


def pre(prefix: str, state: dict) -> dict:
    return {prefix + k: v for k, v in state.items()}


def bare(state: dict) -> dict:
    return {k: v for k, v in state.items() if not k.startswith("head.")}


def args(**kwargs: Any) -> argparse.Namespace:
    return argparse.Namespace(
        lr=np.float64(0.1), out=pathlib.Path("runs"), when=datetime.datetime(2024, 1, 1), tags={"a"}, **kwargs
    )


def optimizer(model: torch.nn.Module) -> dict:
    tool = torch.optim.AdamW(model.parameters())
    return {**tool.state_dict(), "state": {i: {"exp_avg": p.detach()} for i, p in enumerate(model.parameters())}}


def decoder() -> dict:
    return {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 48), "decoder_pos_embed": torch.zeros(1, 17, 8),
            "decoder_blocks.0.norm1.weight": torch.zeros(8), "decoder_pred.weight": torch.zeros(192, 8)}  # fmt: skip


# name -> what is written, of the model (a) and another of the same shape (b); whether (a)'s classifier is among it.
FILES = {
    "dino": (lambda a, b: {
        "student": pre("module.backbone.", bare(b.state_dict())) | {"module.head.mlp.0.weight": torch.zeros(4, 48)},
        "teacher": pre("backbone.", bare(a.state_dict())) | {"head.mlp.0.weight": torch.zeros(4, 48), "head.last_layer.weight_g": torch.ones(4, 1)},
        "optimizer": optimizer(a), "epoch": 100, "args": args(arch="vit_small"), "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": 2.0},
    }, False),
    "mae": (lambda a, b: {"model": bare(a.state_dict()) | decoder(), "optimizer": optimizer(a), "epoch": 1, "scaler": {}, "args": args()}, False),
    "mocov3": (lambda a, b: {
        "epoch": 3, "arch": "vit_small", "optimizer": optimizer(a), "scaler": {},
        "state_dict": pre("module.base_encoder.", bare(a.state_dict())) | pre("module.momentum_encoder.", bare(b.state_dict()))
        | {"module.base_encoder.head.0.weight": torch.zeros(4, 48), "module.predictor.0.weight": torch.zeros(4, 4)},
    }, False),
    "lightning": (lambda a, b: {
        "state_dict": pre("net.model.", a.state_dict()) | {"criterion.weight": torch.ones(5), "val_acc.total": torch.tensor(3)},
        "hyper_parameters": {"lr": 0.1, "out": pathlib.Path("x")}, "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": torch.tensor(0.5)}},
        "optimizer_states": [optimizer(a)], "lr_schedulers": [], "loops": {"fit_loop": {"state_dict": {}}}, "pytorch-lightning_version": "2.4.0",
    }, True),
    "timm's ema": (lambda a, b: {
        "epoch": 3, "arch": VIT, "state_dict": b.state_dict(), "state_dict_ema": a.state_dict(), "optimizer": optimizer(a), "version": 2,
        "args": args(), "metric": np.float64(71.2),
    }, True),
    "ema as module": (lambda a, b: {"model": b.state_dict(), "model_ema": pre("module.", a.state_dict())}, True),
    "ema inside": (lambda a, b: {"state_dict": pre("model.", b.state_dict()) | pre("ema_model.module.", a.state_dict())}, True),
    "data parallel": (lambda a, b: pre("module.", a.state_dict()), True),
    "compiled": (lambda a, b: {"model": pre("_orig_mod.", a.state_dict())}, True),
    "compiled inside": (lambda a, b: {"state_dict": pre("module._orig_mod.backbone.", bare(a.state_dict()))}, False),
    "fsdp": (lambda a, b: {"model": {k.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): v for k, v in a.state_dict().items()}}, True),
    "bare": (lambda a, b: bare(a.state_dict()), False),
    "half": (lambda a, b: {k: v.half() for k, v in a.state_dict().items()}, True),
    "bfloat": (lambda a, b: {"net": {k: v.bfloat16() for k, v in a.state_dict().items()}}, True),
    "segmentation": (lambda a, b: {"state_dict": pre("backbone.", bare(a.state_dict())) | {"decode_head.conv_seg.weight": torch.zeros(3, 48, 1, 1)},
                                   "meta": {"CLASSES": ("a", "b"), "seed": np.int64(3)}}, False),
    "byol": (lambda a, b: {"online_encoder": bare(a.state_dict()), "target_encoder": bare(b.state_dict()), "step": torch.tensor(3)}, False),
    "rng": (lambda a, b: {"model": a.state_dict(), "numpy": np.random.get_state(), "python": random.getstate(), "sn": types.SimpleNamespace(a=1)},
            True),
    "the same twice": (lambda a, b: {"net": a.state_dict(), "network": a.state_dict()}, True),
}  # fmt: skip


def same(spec: str, model: torch.nn.Module, *, head: bool, tolerance: float = 1e-5) -> Any:
    backbone = load_backbone(spec)
    h, w = backbone.preprocess.size
    x = torch.randn(2, backbone.preprocess.channels, h, w, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        logits = model(x)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, features.flatten(1), rtol=tolerance, atol=tolerance)
    assert (backbone.labels is not None) == head
    if head:
        torch.testing.assert_close(backbone.classify(x), logits, rtol=tolerance, atol=tolerance)
    return backbone


SIZES = {
    "pictures": {"img_size": 48},
    "patch": {"patch_size": 4},
    "depth": {"depth": 4},
    "width": {"embed_dim": 96},
    "grey": {"in_chans": 1},
    "classes": {"num_classes": 11},
    "no classes": {"num_classes": 0},
    "registers": {"reg_tokens": 4},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "pooled patches": {"global_pool": "avg"},
    "layer scale": {"init_values": 0.1},
    "q and k normed": {"qk_norm": True},
    "mlp": {"mlp_ratio": 2},
    "all": {
        "img_size": 40,
        "patch_size": 4,
        "depth": 1,
        "in_chans": 1,
        "num_classes": 2,
        "reg_tokens": 2,
        "init_values": 0.1,
    },
}


class Settings(dict):
    """Stands for the classes of a settings library that is not installed here."""


class Run:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self):
        return (open, (self.flag, "w"))


RESNETS = {
    "moco": (lambda a, b: {"epoch": 200, "arch": "resnet18", "state_dict": pre("module.encoder_q.", no_fc(a)) | pre("module.encoder_k.", no_fc(b)) | {
        "module.encoder_q.fc.0.weight": torch.zeros(4, 512), "module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1)}}, False),
    "simclr": (lambda a, b: {"arch": "resnet18", "state_dict": pre("backbone.", no_fc(a)) | {"backbone.fc.0.weight": torch.zeros(4, 512)}}, False),
    "swav": (lambda a, b: pre("module.", no_fc(a)) | {"module.projection_head.0.weight": torch.zeros(4), "module.prototypes.weight": torch.zeros(4)},
             False),
    "detection": (lambda a, b: {"model": pre("backbone.body.", no_fc(a)) | {"rpn.head.conv.0.0.weight": torch.zeros(4)}}, False),
    "classes": (lambda a, b: {"state_dict": pre("module.", a.state_dict()), "best_acc1": torch.tensor(3.0), "arch": "resnet18"}, True),
}  # fmt: skip


def no_fc(model: torch.nn.Module) -> dict:
    return {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}


@pytest.fixture(scope="module")
def resnets():
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(models.resnet18(num_classes=7).eval())
    return found


@pytest.fixture(scope="module")
def clip_weights():
    """A small CLIP of open_clip's, and the architecture's settings, as a file among its configs would have them."""
    cfg = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    found = {}
    for quick in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            found[quick] = open_clip.CLIP(**cfg, quick_gelu=quick).eval()
            for p in found[quick].parameters():
                p.data += 0.1 * torch.randn_like(p)
    return cfg, found


def hf_vit(folder: Any, *, labels: int = 3, seed: int = 1, kind: str = "ViTForImageClassification") -> Any:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8, num_labels=labels
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind)(config).eval()
        for p in model.parameters():
            p.data += 0.05 * torch.randn_like(p)
    model.save_pretrained(folder)
    return model


def hf_same(spec: Any, model: torch.nn.Module) -> Any:
    backbone = load_backbone(str(spec))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.classify(x), model(pixel_values=x).logits, rtol=1e-5, atol=1e-5)
    return backbone


SHADOWS = {
    "list": lambda a, b: {"model": a, "ema": {"decay": 0.99, "shadow_params": list(b.values()), "collected_params": None}},
    "callback": lambda a, b: {"state_dict": pre("model.", a), "callbacks": {"EMA": {"ema_weights": pre("model.", b)}}},
    "no dots": lambda a, b: {"state_dict": pre("model.", a) | pre("model_ema.", {k.replace(".", ""): v for k, v in b.items()})},
}  # fmt: skip
