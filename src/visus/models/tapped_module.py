"""A backbone with its normalisation and taps as one module, for engines that trace or compile."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from visus.models.base import Backbone
from visus.models.tap import Tap


class TappedModule(torch.nn.Module):
    """A backbone with its normalisation and taps as one module, for engines that trace or compile.

    forward: uint8 [b, h, w, 3] -> a tuple of tensors in the order of `taps`: float32 [b, d], or the modules' outputs for pool None.
    """

    def __init__(self, backbone: Backbone, taps: Sequence[Tap], pool: str | None = "mean") -> None:
        super().__init__()
        self.module = backbone.module
        self.backbone = backbone
        self.taps = tuple(taps)
        self.pool = pool

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.backbone.forward(self.backbone.preprocess.normalize(batch), self.taps, pool=self.pool)
        return tuple(out[tap.name] for tap in self.taps)
