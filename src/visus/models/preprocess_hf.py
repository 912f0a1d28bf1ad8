"""transformers' image processors as a Preprocess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visus.errors import DataError
from visus.models.base import Preprocess

INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Models whose processor is registered under the model they come from.
PARENTS = {
    "clip_vision_model": "clip",
    "siglip_vision_model": "siglip",
    "siglip2_vision_model": "siglip2",
    "dinov2_with_registers": "dinov2",
}


def preprocess_of(where: str, config: Any, kwargs: Mapping[str, Any]) -> Preprocess:
    """The processor that a checkpoint brings; without one, the defaults of its model type at the config's image size."""
    from transformers import AutoImageProcessor

    try:
        body = AutoImageProcessor.from_pretrained(where, **kwargs).to_dict()
    except (OSError, ValueError, KeyError) as error:
        if Path(where).is_dir() and (Path(where) / "preprocessor_config.json").exists():
            raise DataError(f"{where}: its preprocessor_config.json cannot be read: {error}") from error
        return _default(config)
    return from_processor(body, where)


def _default(config: Any) -> Preprocess:
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    kind = PARENTS.get(config.model_type, config.model_type)
    entry: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(kind)
    names = list(entry.values()) if isinstance(entry, Mapping) else [n for n in entry or () if n]
    names = [n for n in names if n and not n.endswith("Pil")] or names
    if not names:
        raise DataError(
            f"the model brings no preprocessor_config.json, and none is known for {kind}; put one beside its config"
        )
    body = dict(getattr(transformers, names[0])().to_dict())
    size = getattr(getattr(config, "vision_config", None) or config, "image_size", None)
    if size is not None:
        h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if body.get("do_center_crop"):
            # The default's proportion between resize and crop is kept.
            old = (body.get("crop_size") or {}).get("height", 224)
            short = (body.get("size") or {}).get("shortest_edge", old)
            body["size"], body["crop_size"] = {"shortest_edge": round(h * short / old)}, {"height": h, "width": w}
        elif "shortest_edge" not in (body.get("size") or {}):
            body["size"] = {"height": h, "width": w}
    return from_processor(body, str(kind))


def from_processor(body: Mapping[str, Any], what: str) -> Preprocess:
    """A processor's settings -> Preprocess. Raises DataError for settings that have no fixed output size."""
    size = dict(body.get("size") or {}) if not isinstance(body.get("size"), int) else {"shortest_edge": body["size"]}
    size = {k: v for k, v in size.items() if v is not None}
    crop = body.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else dict(crop or {})
    if body.get("do_flip_channel_order"):
        raise DataError(
            f"{what} wants its channels as blue, green, red, which visus does not do; take the model from timm instead"
        )
    mean, std = _arithmetic(body)
    resample = body.get("resample")
    interpolation = INTERPOLATIONS[2 if resample is None else int(resample)]
    resizes = body.get("do_resize", True)
    resize: int | tuple[int, int] | None = None
    target: tuple[int, int] | None = None
    short = size.get("shortest_edge")
    if short is not None and "ConvNext" in str(body.get("image_processor_type", "")):
        # ConvNeXt's own rule: below 384 enlarge by crop_pct and crop, from 384 on squash.
        pct = body.get("crop_pct") or 224 / 256
        resize = int(short / pct) if short < 384 else (int(short), int(short))
        target = (int(short), int(short))
    elif short is not None:
        resize = int(short)
    elif {"height", "width"} <= size.keys():
        resize = target = (int(size["height"]), int(size["width"]))
    if body.get("do_center_crop") and {"height", "width"} <= crop.keys():
        target = (int(crop["height"]), int(crop["width"]))
    if target is None:
        raise DataError(f"the image processor of {what} gives pictures of no fixed size ({size}); visus needs one")
    return Preprocess(target, resize if resizes else None, interpolation, mean, std, crop_rounding="down")


def _arithmetic(body: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Rescaling, its offset and normalising as one mean and standard deviation on the scale of [0, 1]."""
    factor = float(body.get("rescale_factor") or 1 / 255) if body.get("do_rescale", True) else 1.0
    offset = 1.0 if body.get("rescale_offset") else 0.0
    normalizes = body.get("do_normalize", True)
    mean = _channels(body.get("image_mean") if normalizes else None, 0.0)
    std = _channels(body.get("image_std") if normalizes else None, 1.0)
    if body.get("include_top"):  # EfficientNet divides by the deviation a second time
        std = (std[0] * _second(body, 0), std[1] * _second(body, 1), std[2] * _second(body, 2))
    # (u f - o - m) / s = (u / 255 - (o + m) / (255 f)) / (s / (255 f))
    unit = 1.0 if abs(255 * factor - 1) < 1e-9 else 255 * factor
    a, b, c = ((offset + m) / unit for m in mean)
    d, e, f = (s / unit for s in std)
    return (a, b, c), (d, e, f)


def _second(body: Mapping[str, Any], channel: int) -> float:
    return _channels(body.get("image_std"), 1.0)[channel]


def _channels(values: Sequence[float] | float | None, default: float) -> tuple[float, float, float]:
    if values is None:
        return (default,) * 3
    if isinstance(values, int | float):
        return (float(values),) * 3
    a, b, c = (float(v) for v in values)
    return a, b, c
