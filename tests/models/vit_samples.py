"""Made for test_vit, test_vit_tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.models.small import torchvision

from visus.models import Backbone, load_backbone

TIMM = ("vit", "vit_gap", "deit", "registers", "siglip", "tall", "rope", "rope_mixed", "dynamic", "qk_norm")


SHIPPED = ("visus:emoji-vit", "visus:emoji-clip")


HF = ("vit", "vit_plain", "deit", "dinov2", "dinov2_head", "registers", "clip", "siglip")


ALL = [*(f"timm:{f}" for f in TIMM), *(f"hf:{f}" for f in HF), "torchvision:vit", "openclip", *SHIPPED]


ATTENDING = [*ALL, "timm:beit"]  # its bias for every pair of patches keeps tokens from leaving


@pytest.fixture
def make(timm_folder, hf_folder, openclip_folder) -> Callable[[str], Backbone]:
    """'timm:vit' -> a small random model, written to disk and loaded by the public route."""

    def one(name: str) -> Backbone:
        library, _, family = name.partition(":")
        if library == "visus":
            return load_backbone(name)
        return sharpened(load(library, family))

    def load(library: str, family: str) -> Backbone:
        if library == "torchvision":
            made = torchvision(family)
            torch.nn.init.normal_(
                made.module.model.heads.head.weight, generator=torch.Generator().manual_seed(0)
            )  # torchvision's starts at zero
            return made
        if library == "openclip":
            return load_backbone(str(openclip_folder[0]))
        return load_backbone(str((timm_folder if library == "timm" else hf_folder)(family)[0]))

    return one


def sharpened(backbone: Backbone) -> Backbone:
    """Weights large enough for attention to choose: as libraries start them it is all but uniform, and any matrix would pass."""
    with torch.no_grad():
        for name, p in backbone.module.named_parameters():
            if p.ndim == 2 and p.std() < 0.05:
                p.mul_(4)
            if name.endswith(
                (".gamma", ".gamma_1", ".gamma_2", ".lambda1")
            ):  # LayerScale starts so small that no block says anything
                p.fill_(0.5)
    return backbone


def state(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in backbone.module.state_dict().items()}
