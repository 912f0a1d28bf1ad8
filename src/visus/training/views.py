"""How training images are shown to a model that is trained from nothing: augmented, and with a share of their patches left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from visus.models.preprocess import Preprocess
from visus.training.augment import Augmentation, augmented, cached_draws


@dataclass(frozen=True)
class Drop:
    """share: of patch tokens, left out of every training image, faster and harder to learn by heart (FLIP, Li et al. 2023); whole:
    last share of the epochs, in which images are seen whole, as they will be used."""

    share: float = 0.5
    whole: float = 0.1

    def at(self, epoch: int, epochs: int) -> float:
        """The share in epoch `epoch` (from 0) of `epochs`."""
        return self.share if epoch < round(epochs * (1 - self.whole)) else 0.0


@dataclass(frozen=True)
class Views:
    """preprocess: what the model does with an image. augmentation: how far views of it may differ. drop: patches left out."""

    preprocess: Preprocess
    augmentation: Augmentation
    drop: Drop

    def of(self, images: np.ndarray, rows: np.ndarray, *, seed: int, epoch: int, device: torch.device) -> torch.Tensor:
        """Of uint8 [n, h, w, 3] those at `rows` as an epoch shows them: normalised float32 [b, 3, h, w] on the device."""
        raw = torch.from_numpy(images[rows]).to(device, non_blocking=True)
        dice = cached_draws(len(images), seed, epoch)[rows]
        views = augmented(raw, self.preprocess.size, dice, self.augmentation).permute(0, 2, 3, 1)
        return self.preprocess.normalize(views).contiguous()


def dropped(tokens: torch.Tensor, share: float, prefix: int = 1) -> torch.Tensor:
    """[b, prefix + n, c] -> the prefix and a random (1 - share) of the other tokens, another choice for every row."""
    b, n, c = tokens.shape
    kept = max(round((n - prefix) * (1 - share)), 1)
    order = torch.rand(b, n - prefix, device=tokens.device).argsort(dim=1)[:, :kept].sort(dim=1).values + prefix
    chosen = tokens.gather(1, order[..., None].expand(-1, -1, c))
    return torch.cat([tokens[:, :prefix], chosen], dim=1)
