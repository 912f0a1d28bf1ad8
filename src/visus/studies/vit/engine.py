"""A model's outputs over many versions of the same images, by the engine that features are extracted with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from visus.features.arrays import ArrayRunner, array_runner
from visus.features.key import tapped_as
from visus.models import Backbone, TappedModule
from visus.models.tokens import forward_kept

FEWEST = 64
"""Images from which on making a network ready for the engine pays, over the versions of them that masking asks for."""


def serves(raw: np.ndarray, device: str) -> bool:
    """Whether an engine is worth its preparation for these images: on a CPU, and from FEWEST on."""
    return device == "cpu" and len(raw) >= FEWEST


class Outputs(torch.nn.Module):
    """uint8 [b, h, w, 3], and int64 [b, m] of kept patches where some are dropped -> (float32 [b, k],): logits, or without a classifier the
    pooled feature."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.module, self.backbone = backbone.module, backbone

    def forward(self, raw: torch.Tensor, kept: torch.Tensor | None = None) -> tuple[torch.Tensor]:
        batch = self.backbone.preprocess.normalize(raw)
        found = self.backbone.output(batch) if kept is None else forward_kept(self.backbone, batch, kept)
        return (found.float(),)


@dataclass(frozen=True)
class Engine:
    """A backbone made ready for versions of these images (uint8 [n, h, w, 3]) on a CPU, when it is first asked. patches: how many a picture
    has; 0 of a network from which none can be dropped."""

    backbone: Backbone
    raw: np.ndarray
    patches: int

    def outputs(self, raw: np.ndarray, kept: np.ndarray | None = None) -> np.ndarray | None:
        """float32 [n, k] of versions of the images, without the tokens of other than the kept patches, int64 [n, m] (None: of whole images).
        None where PyTorch must do it."""
        if self.runner is None or (kept is not None and not self.patches):
            return None
        if not self.patches:
            return self.runner(raw)[0]
        # One network in memory serves both: with all patches kept it is the plain one.
        return self.runner(raw, np.tile(np.arange(self.patches), (len(raw), 1)) if kept is None else kept)[0]

    @cached_property
    def runner(self) -> ArrayRunner | None:
        """The network in OpenVINO, None where that cannot run it."""
        if self.patches:
            half = np.tile(np.arange(0, self.patches, 2), (len(self.raw), 1))
            return array_runner(Outputs(self.backbone), self.raw, half, about=tapped_as(self.backbone, (), "kept"))
        if self.backbone.labels is None:
            taps = self.backbone.resolve(["late"])
            about = tapped_as(self.backbone, taps, "mean")
            return array_runner(TappedModule(self.backbone, taps), self.raw, about=about)
        return array_runner(Outputs(self.backbone), self.raw, about=tapped_as(self.backbone, (), "outputs"))
