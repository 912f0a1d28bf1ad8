"""Preprocess: a model's own pictures, resized and cropped in the manner of its library (Pillow's filters or torchvision's)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps

from visus.errors import DataError, SpecError
from visus.images.decode import MAX_PIXELS
from visus.images.errors import DecodeError

T = TypeVar("T")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def three(values: Sequence[float], kind: Callable[[float], T] = float) -> tuple[T, T, T]:  # type: ignore[assignment]
    """One number a channel."""
    a, b, c = (kind(v) for v in values)
    return a, b, c


def checked_channels(channels: int, what: str) -> int:
    """The number itself; raises DataError unless it is 3 (colour) or 1 (grey)."""
    if channels not in (1, 3):
        raise DataError(f"{what} takes pictures of {channels} channels; visus has 3 (colour) or 1 (grey) to give")
    return channels


@dataclass(frozen=True)
class Preprocess:
    """A model's own evaluation transform: resize, crop, scale to [0, 1], normalise.

    size: (h, w) that the model sees. resize: shorter side in pixels before the crop (int), (h, w) to squash to, or None
    (no resizing). interpolation: 'bilinear', 'bicubic', 'lanczos', 'nearest'. mean, std: per channel.
    fit: '' as said above; 'cover': keep the ratio, cover the (h, w) of `resize`, then crop; 'pad': keep the ratio, fit inside it,
    then pad with `fill`. crop_rounding: which pixel an odd margin starts at, 'even' (torchvision) or 'down' (transformers).
    A model of grey pictures has one mean and one deviation.
    backend: what resizes, Pillow or torchvision's arithmetic on tensors. processor: settings (JSON) of a transformers image processor that
    makes the picture itself, where the fields above cannot say what it does. levels: dtype of what a call gives, in grey levels of
    0 to 255; 'float32' where the processor rounds to none.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Literal["", "cover", "pad"] = ""
    fill: tuple[int, int, int] = (0, 0, 0)
    crop_rounding: Literal["even", "down"] = "even"
    backend: Literal["pillow", "torchvision"] = "pillow"
    processor: str = ""
    levels: Literal["uint8", "float32"] = "uint8"

    @property
    def channels(self) -> int:
        """Channels of what `normalize` gives: 3, or 1 for a model of grey pictures."""
        return len(self.mean)

    @property
    def key(self) -> str:
        """Every field as text, for keys of caches; written out under the name that keys have always had."""
        return f"Preprocess({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"

    @property
    def dtype(self) -> np.dtype:
        """Dtype of what a call gives."""
        return np.dtype(self.levels)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An RGB image -> [h, w, 3] in grey levels, contiguous, of `dtype`: everything but the arithmetic, which runs inside the engine.

        For a model of grey pictures all three channels are the picture's grey.
        """
        return apply(self, image)

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (or of `dtype`) [b, h, w, 3] -> float32 [b, channels, h, w], scaled and normalised, on the batch's device."""
        x = batch.permute(0, 3, 1, 2).to(torch.float32)[:, : self.channels]
        mean = torch.tensor(self.mean, dtype=torch.float32, device=batch.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.std, dtype=torch.float32, device=batch.device).view(1, -1, 1, 1) * 255
        return (x - mean) / std


def apply(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """A picture -> [h, w, 3] in grey levels, contiguous: resized and cropped, before the arithmetic.

    Source of the arithmetic: torchvision.transforms.Resize and CenterCrop on Pillow images; timm's ResizeKeepRatio for
    'cover' and 'pad'. Raises SpecError for an unknown interpolation, DecodeError where more than MAX_PIXELS
    pixels would come out.
    """
    mode = "RGB" if preprocess.channels == 3 else "L"
    image = image if image.mode == mode else image.convert(mode)
    if preprocess.processor:
        # transformers costs seconds, and few pictures are made by a processor of its own.
        from visus.models.processors import processed

        w, h = image.size
        if (2 * max(preprocess.size)) ** 2 * max(w, h) / min(
            w, h
        ) > MAX_PIXELS:  # were its shorter side resized to so much
            raise DecodeError(f"too long and thin: {w} x {h}")
        return processed(
            image,
            preprocess.processor,
            size=preprocess.size,
            mean=preprocess.mean,
            std=preprocess.std,
            levels=preprocess.levels,
        )
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
    # A second, and most pictures are resized by Pillow.
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
