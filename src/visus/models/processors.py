"""Image processors of transformers, made again of their settings and run: for pictures that no plain resize and crop makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from visus.errors import DataError
from visus.models.hub import first_line

# What a processor raises for settings or pictures that it cannot work with.
BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    RuntimeError,
    ImportError,
    OSError,
    AssertionError,
)


def processed(
    image: Image.Image,
    settings: str,
    *,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    levels: str,
) -> np.ndarray:
    """A picture -> [h, w, 3] in grey levels of dtype `levels`, as the processor of these settings (JSON) makes it.

    mean, std: what the processor normalises by, taken off again where it rounds to no grey levels ('float32'). Another size than
    the processor's own (training on larger or smaller pictures) is resampled from what it gives.
    """
    processor = revived(settings)
    exact = levels == "float32"
    options: dict[str, Any] = {} if exact else {"do_rescale": False, "do_normalize": False}
    found = processor(image, return_tensors="pt", **options)
    x = (found["pixel_values"] if isinstance(found, Mapping) else found)[0].to(torch.float32)
    if exact:
        offset, scale = (255 * torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (mean, std))
        x = (x * scale + offset).to(torch.float32)
    if tuple(x.shape[1:]) != size:
        x = torch.nn.functional.interpolate(x[None], size, mode="bilinear", antialias=True)[0]
    if not exact:
        x = x.round()
    array = x.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array.astype(np.dtype(levels)))


@lru_cache(maxsize=32)
def revived(text: str) -> Any:
    """The image processor of transformers with these settings (JSON); raises DataError for another class."""
    body = json.loads(text)
    name = str(body.pop("image_processor_type", "") or "")
    cls: Any = getattr(transformers, name.removesuffix("Fast"), None) if name else None
    if not (isinstance(cls, type) and issubclass(cls, BaseImageProcessor)):
        raise DataError(f"{name or 'a processor without a name'} is no image processor of transformers; update it")
    try:
        return cls(**body)
    except BROKEN as error:
        raise DataError(f"{name} cannot be made of its settings: {first_line(error)}") from error
