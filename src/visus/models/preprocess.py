"""Resizing and cropping in the manner of the libraries (torchvision's arithmetic, Pillow's filters), to uint8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from visus.errors import SpecError
from visus.images.decode import MAX_PIXELS
from visus.images.errors import DecodeError

if TYPE_CHECKING:
    from visus.models.base import Preprocess

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def apply(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """A picture -> uint8 [h, w, 3], contiguous: resized and cropped, before the arithmetic.

    Source of the arithmetic: torchvision.transforms.Resize and CenterCrop on Pillow images; timm's ResizeKeepRatio for
    'cover' and 'pad'. Raises SpecError for an unknown interpolation, DecodeError where more than MAX_PIXELS
    pixels would come out.
    """
    image = image if image.mode == "RGB" else image.convert("RGB")
    image = _resized(preprocess, image)
    fill = preprocess.fill if preprocess.fit == "pad" else (0, 0, 0)
    image = _center_crop(image, preprocess.size, fill, preprocess.crop_rounding)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def _resized(preprocess: Preprocess, image: Image.Image) -> Image.Image:
    target, (w, h) = preprocess.resize, image.size
    if target is None:
        return image
    if preprocess.interpolation not in FILTERS:
        raise SpecError(f"unknown interpolation {preprocess.interpolation!r}; known: {', '.join(FILTERS)}")
    if isinstance(target, int) and not preprocess.fit:
        # torchvision truncates the longer side.
        size = (target, int(target * h / w)) if w <= h else (int(target * w / h), target)
    else:
        th, tw = (target, target) if isinstance(target, int) else target
        size = (tw, th)
        if preprocess.fit:
            ratio = (min if preprocess.fit == "cover" else max)(h / th, w / tw)
            size = (round(w / ratio), round(h / ratio))
    size = (max(size[0], 1), max(size[1], 1))
    if size[0] * size[1] > MAX_PIXELS:
        raise DecodeError(f"too long and thin: {w} x {h} would be resized to {size[0]:,} x {size[1]:,}")
    return image if size == image.size else image.resize(size, FILTERS[preprocess.interpolation])


def _center_crop(image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int], rounding: str) -> Image.Image:
    """Centre crop to (h, w); a picture smaller than that is padded first, the odd pixel right and below."""
    th, tw = size
    w, h = image.size
    if w < tw or h < th:
        dw, dh = max(tw - w, 0), max(th - h, 0)
        image = ImageOps.expand(image, (dw // 2, dh // 2, (dw + 1) // 2, (dh + 1) // 2), fill)
        w, h = image.size
    if (w, h) == (tw, th):
        return image
    place = round if rounding == "even" else int
    top, left = place((h - th) / 2.0), place((w - tw) / 2.0)
    return image.crop((left, top, left + tw, top + th))
