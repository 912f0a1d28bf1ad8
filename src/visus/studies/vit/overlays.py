"""Maps over patches laid on images: an absolute scale beside each image's own, so that a flat map looks flat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch.nn import functional

from visus.luma import luma

UNIFORM = 8.0  # on the absolute scale, the colour scale ends at so many times what every patch would get alike
STRENGTH = 0.6


def upsampled(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float [n, gh, gw] -> float32 [n, h, w], bilinear between the centres of the patches."""
    x = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None]
    found: np.ndarray = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    return found


def scaled(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of the same shape, the longer one `side`."""
    height, width = size
    longer = max(height, width)
    return max(round(height * side / longer), 1), max(round(width * side / longer), 1)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Grey levels [h, w, 3] -> uint8 [H, W, 3] of the same shape, its longer side `side`; enlarged pixels stay squares."""
    whole = Image.fromarray(np.round(image).astype(np.uint8))
    method = Image.Resampling.NEAREST if max(whole.size) < side else Image.Resampling.LANCZOS
    return np.asarray(whole.resize(scaled(image.shape[:2], side)[::-1], method))


def overlaid(images: np.ndarray, maps: np.ndarray, side: int, *, absolute: bool) -> np.ndarray:
    """uint8 [n, h, w, 3] and maps [n, gh, gw], no value negative -> uint8 [n, H, W, 3] of the same shape, its longer side `side`.

    absolute: colours say how many times a uniform map's share a patch has, up to UNIFORM, the same for all images; else
    each map from its own least to its own largest value.
    """
    maps = np.asarray(maps, np.float64)
    if absolute:
        share = maps / np.maximum(maps.sum(axis=(1, 2), keepdims=True), 1e-12)
        level = np.clip(share * maps[0].size / UNIFORM, 0, 1)
    else:
        low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
        level = (maps - low) / np.maximum(high - low, 1e-12)
    size = scaled(images.shape[1:3], side)
    level = np.clip(upsampled(level, size), 0, 1)
    colours = colormaps["inferno"](level)[..., :3]
    found = np.empty((len(images), *size, 3), np.uint8)
    for out, image, colour in zip(found, images, colours, strict=True):
        below = resized(image, side).astype(np.float64) / 255
        grey = luma(below)
        mixed = (1 - STRENGTH) * grey[..., None] + STRENGTH * colour
        out[:] = np.round(255 * mixed)
    return found


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [n, h, w, 3] of images of several shapes, white beyond each."""
    height, width = (max(p.shape[axis] for p in images) for axis in (0, 1))
    found = np.full((len(images), height, width, 3), 255, np.uint8)
    for out, image in zip(found, images, strict=True):
        out[: image.shape[0], : image.shape[1]] = image
    return found
