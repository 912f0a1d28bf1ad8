"""One shape for every library's models: `model` inside, `pooled` the point where its features pass, logits (or features) out.

`pooled` is an identity: hooked like any other module, it is the tap 'late' of every architecture, and what passes through it is by
construction what the library itself calls the features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from visus.models.tapping import unwrap


class Trunk(nn.Module):
    """Base: `forward` on a normalised batch [b, 3, h, w] sends the features through `pooled`; returns logits or, without classifier, features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.pooled = nn.Identity()


class TimmTrunk(Trunk):
    """timm: forward_head(forward_features(x), pre_logits=True) are the features."""

    def __init__(self, model: nn.Module, *, classifies: bool) -> None:
        super().__init__(model)
        self.classifies = classifies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        maps = model.forward_features(x)
        vector = self.pooled(unwrap(model.forward_head(maps, pre_logits=True)))
        return unwrap(model.forward_head(maps)) if self.classifies else vector


class PlainTrunk(Trunk):
    """A model whose output is the features (an open_clip image tower)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return unwrap(self.pooled(unwrap(self.model(x))))


class HeadInputTrunk(Trunk):
    """torchvision: what enters the last linear layer are the features."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def entering(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self.pooled(args[0])

        handle = self.model.get_submodule(self.head).register_forward_pre_hook(entering)
        try:
            return unwrap(self.model(x))
        finally:
            handle.remove()


class HFTrunk(Trunk):
    """transformers: what `pool` makes of the base model's output are the features; logits where there is a classifier.

    base: path of the base model inside the model ('' for the model itself).
    """

    def __init__(self, model: nn.Module, base: str, pool: Callable[[Any], torch.Tensor], *, classifies: bool) -> None:
        super().__init__(model)
        self.base, self.pool, self.classifies = base, pool, classifies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.classifies:
            return unwrap(self.pooled(self.pool(self.model.get_submodule(self.base)(pixel_values=x))))

        def passing(module: nn.Module, args: Any, output: Any) -> None:
            self.pooled(self.pool(output))

        handle = self.model.get_submodule(self.base).register_forward_hook(passing)
        try:
            return unwrap(self.model(pixel_values=x).logits)
        finally:
            handle.remove()
