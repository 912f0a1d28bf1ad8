"""Which patches matter to a model: its maps of attention over images, that attention is shown by and patches are ordered by."""

from __future__ import annotations

import numpy as np
import torch

from visus.models.attention import last_and_rollout
from visus.models.relevance import relevance
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages

MAPS = ("attention", "rollout", "gradient-weighted")
BATCH = 32


def importance(model: EvaluatedModel, images: PreparedImages, device: str) -> dict[str, np.ndarray]:
    """float32 [n, patches] by name: last-layer attention averaged over heads, rollout, and gradient-weighted attention."""

    def look(_: slice, x: torch.Tensor) -> dict[str, np.ndarray]:
        last, rolled = last_and_rollout(model.backbone, x)
        return {
            "attention": last.cpu().numpy(),
            "rollout": rolled.cpu().numpy(),
            "gradient-weighted": relevance(model.backbone, x, None).cpu().numpy(),
        }

    parts = list(images.through(model, device, look, size=BATCH))
    return {name: np.concatenate([p[name] for p in parts]) for name in MAPS}
