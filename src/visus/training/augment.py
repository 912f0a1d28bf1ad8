"""Augmentation of a whole batch at once: random resized crop, mirror, colour. The same for the same seed, epoch and image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

DRAWS = 10  # random numbers an image


@dataclass(frozen=True)
class Augmentation:
    """How far views of an image may differ.

    scale: share of the image's area that a crop shows. ratio: width over height of a crop. mirror: probability. jitter: brightness,
    contrast and saturation are scaled by factors in 1 +- jitter. turn: rotation in degrees, at most. grey: probability of a grey view.
    """

    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mirror: float = 0.5
    jitter: float = 0.3
    turn: float = 0.0
    grey: float = 0.0


PHOTOGRAPH = Augmentation()


def draws(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """float64 [n, DRAWS] in [0, 1): the dice of every image of an epoch, whatever batches it is cut into."""
    return np.random.default_rng([seed, epoch]).random((n, DRAWS))


@lru_cache(maxsize=2)
def cached_draws(n: int, seed: int, epoch: int) -> np.ndarray:
    """`draws`, kept while an epoch lasts."""
    return draws(n, seed=seed, epoch=epoch)


def augmented(
    batch: torch.Tensor, size: tuple[int, int], dice: np.ndarray, how: Augmentation = PHOTOGRAPH
) -> torch.Tensor:
    """uint8 [b, H, W, 3] -> float32 [b, 3, h, w] in [0, 255]: another random view of each image.

    size: (h, w). dice: float64 [b, DRAWS] in [0, 1). Crop: area and ratio drawn as in Inception (Szegedy et al. 2015; torchvision's
    RandomResizedCrop), turned and mirrored where `how` says so, resampled bilinearly in one call for the batch; brightness, contrast
    and saturation scaled (torchvision's ColorJitter, in that order).
    """
    b, height, width = batch.shape[:3]
    x = batch.permute(0, 3, 1, 2).to(torch.float32)
    theta = torch.from_numpy(crops(dice, height / width, how)).to(x.device)
    grid = functional.affine_grid(theta, [b, 3, *size], align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    factors = (1 + how.jitter * (2 * dice[:, 5:8] - 1)).astype(np.float32)
    brightness, contrast, saturation = torch.from_numpy(factors).to(x.device).view(b, 3, 1, 1, 1).unbind(1)
    x = (x * brightness).clamp_(0, 255)
    x = _blend(x, _grey(x).mean(dim=(2, 3), keepdim=True), contrast)
    if how.grey:
        saturation = saturation * torch.from_numpy(dice[:, 9] >= how.grey).to(saturation).view(b, 1, 1, 1)
    return _blend(x, _grey(x), saturation)


def crops(dice: np.ndarray, aspect: float, how: Augmentation = PHOTOGRAPH) -> np.ndarray:
    """float64 [b, DRAWS] in [0, 1) -> float32 [b, 2, 3]: affine maps from output to input coordinates, both in [-1, 1].

    aspect: height over width of the input. Crops lie inside the image, but for the corners of turned ones.
    """
    area = how.scale[0] + (how.scale[1] - how.scale[0]) * dice[:, 0]
    low, high = math.log(how.ratio[0]), math.log(how.ratio[1])
    ratio = np.exp(low + (high - low) * dice[:, 1])  # width over height, in pixels
    wide = np.minimum(np.sqrt(area * ratio * aspect), 1.0)
    tall = np.minimum(np.sqrt(area / ratio / aspect), 1.0)
    mirror = np.where(dice[:, 4] < how.mirror, -1.0, 1.0)
    theta = np.zeros((len(dice), 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 2] = wide * mirror, (1 - wide) * (2 * dice[:, 2] - 1)
    theta[:, 1, 1], theta[:, 1, 2] = tall, (1 - tall) * (2 * dice[:, 3] - 1)
    if how.turn:
        angle = np.deg2rad(how.turn * (2 * dice[:, 8] - 1))
        # Turned in pixels, where angles mean something: the coordinates of an image that is not square are stretched.
        theta[:, 0, 1], theta[:, 1, 0] = -np.sin(angle) * tall * aspect, np.sin(angle) * theta[:, 0, 0] / aspect
        theta[:, 0, 0] *= np.cos(angle)
        theta[:, 1, 1] *= np.cos(angle)
    return theta


def _grey(x: torch.Tensor) -> torch.Tensor:
    """Luma by ITU-R 601, as torchvision's rgb_to_grayscale: [b, 1, h, w]."""
    weights = torch.tensor((0.2989, 0.587, 0.114), device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def _blend(x: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (other + (x - other) * factor).clamp_(0, 255)
