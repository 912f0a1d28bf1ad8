"""Small backbones of every library for the tests of what trains, and batches for them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torchvision import models
from torchvision.models.resnet import BasicBlock
from torchvision.transforms._presets import ImageClassification

from visus.models import Backbone, load_backbone
from visus.models.from_torchvision import wrap

LIBRARIES = (
    "timm:vit", "timm:resnet", "timm:convnext", "timm:swin", "timm:efficientnet",
    "hf:vit", "hf:swin", "hf:convnext", "torchvision:vit", "torchvision:resnet",
)  # fmt: skip


def batch(backbone: Backbone, n: int = 3, seed: int = 0) -> torch.Tensor:
    h, w = backbone.preprocess.size
    return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(seed))


def loader(timm_folder, hf_folder):
    """'timm:resnet' -> a small Backbone of that library and family."""

    def make(name: str) -> Backbone:
        library, _, family = name.partition(":")
        if library == "torchvision":
            return torchvision(family)
        backbone = load_backbone(str((timm_folder if library == "timm" else hf_folder)(family)[0]))
        return resized(backbone)

    return make


def resized(backbone: Backbone) -> Backbone:
    """Networks that take any size get 64 x 64."""
    if max(backbone.preprocess.size) <= 64:
        return backbone
    return replace(backbone, preprocess=replace(backbone.preprocess, size=(64, 64), resize=64))


def torchvision(family: str) -> Backbone:
    makers = {
        "vit": partial(models.VisionTransformer, 32, 8, 2, 2, 32, 64, dropout=0.1, num_classes=4),
        "resnet": partial(models.ResNet, BasicBlock, [1, 1, 1, 1], num_classes=4),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = makers[family]()
    weights = SimpleNamespace(meta={}, transforms=partial(ImageClassification, crop_size=32, resize_size=32))
    return wrap(model, f"torchvision:{family}", weights, random=True)


def reader_of_one_patch(backbone: Backbone, patch: int) -> None:
    """Plant a truth: positions alone make queries and keys, so that the CLS token of the last block looks at one patch only; the class is
    what stands in that patch."""
    vit: Any = backbone.module.model
    with torch.no_grad():
        for p in vit.parameters():
            p.zero_()
        for norm in [m for m in vit.modules() if isinstance(m, torch.nn.LayerNorm)]:
            norm.weight.fill_(1)
        vit.pos_embed[0, 0, 0] = 4.0  # the CLS token is known by channel 0, the patch by channel 1
        vit.pos_embed[0, 1 + patch, 1] = 4.0
        vit.patch_embed.proj.weight[2] = 1 / 192  # brightness in channel 2
        qkv = vit.blocks[-1].attn.qkv.weight  # rows: q, k, v, each 2 heads x 16
        for head in (0, 16):
            qkv[head, 0] = 8.0
            qkv[32 + head, 1] = 8.0
        qkv[64, 2] = 1.0
        vit.blocks[-1].attn.proj.weight[3, 0] = 1.0
        vit.head.weight[0, 3] = 1.0
