"""Resizing and cropping in the manner of the libraries (torchvision's arithmetic, Pillow's filters or torchvision's), to uint8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from visus.errors import DataError, SpecError
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


def checked_channels(channels: int, what: str) -> int:
    """The number itself; raises DataError unless it is 3 (colour) or 1 (grey)."""
    if channels not in (1, 3):
        raise DataError(f"{what} takes pictures of {channels} channels; visus has 3 (colour) or 1 (grey) to give")
    return channels


def apply(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """A picture -> [h, w, 3] in grey levels, contiguous: resized and cropped, before the arithmetic.

    Source of the arithmetic: torchvision.transforms.Resize and CenterCrop on Pillow images; timm's ResizeKeepRatio for
    'cover' and 'pad'. Raises SpecError for an unknown interpolation, DecodeError where more than MAX_PIXELS
    pixels would come out.
    """
    mode = "RGB" if preprocess.channels == 3 else "L"
    image = image if image.mode == mode else image.convert(mode)
    if preprocess.processor:
        from visus.models.preprocess_hf import processed

        w, h = image.size
        if (2 * max(preprocess.size)) ** 2 * max(w, h) / min(
            w, h
        ) > MAX_PIXELS:  # were its shorter side resized to so much
            raise DecodeError(f"too long and thin: {w} x {h}")
        return processed(preprocess, image)
    image = _resized(preprocess, image)
    fill = preprocess.fill if preprocess.fit == "pad" else (0, 0, 0)
    if mode == "L":  # its one channel three times, as pictures are kept everywhere
        image = image.convert("RGB")
    image = _center_crop(image, preprocess.size, fill, preprocess.crop_rounding)
    return np.array(image, dtype=np.uint8)


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
    if size == image.size:
        return image
    if preprocess.backend == "torchvision":
        return _by_tensors(image, size, preprocess.interpolation)
    return image.resize(size, FILTERS[preprocess.interpolation])


def _by_tensors(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Resized to (width, height) as torchvision resizes uint8 tensors, with antialiasing: other roundings than Pillow's."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    array = np.array(image)
    x = torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).contiguous()
    mode = InterpolationMode("nearest-exact" if interpolation == "nearest" else interpolation)
    found = functional.resize(x, [size[1], size[0]], interpolation=mode, antialias=True).numpy()
    return Image.fromarray(found[0] if len(found) == 1 else np.ascontiguousarray(found.transpose(1, 2, 0)))


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
