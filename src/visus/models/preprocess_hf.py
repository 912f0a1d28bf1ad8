"""transformers' image processors as a Preprocess: whatever is taken here has given the processor's own pixels on trial pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from visus.errors import DataError
from visus.models.hub import first_line
from visus.models.preprocess import Preprocess, checked_channels
from visus.models.processors import BROKEN
from visus.progress import note

INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Models whose processor is registered under the model they come from.
PARENTS = {
    "clip_vision_model": "clip",
    "siglip_vision_model": "siglip",
    "siglip2_vision_model": "siglip2",
    "dinov2_with_registers": "dinov2",
}
PROCESSOR = "preprocessor_config.json"
TRIALS = ((37, 53), (61, 29))  # (h, w) of the trial pictures; a third is larger than what the processor gives
SAME = 5e-5  # on the scale of normalised pixels


def preprocess_of(where: str, config: Any, kwargs: Mapping[str, Any]) -> Preprocess:
    """The processor that a checkpoint brings; without one, the defaults of its model type at the config's image size, which is noted.

    Raises DataError for a processor that cannot be read or whose pictures have no fixed size, and for a model of other than 1 or 3 channels.
    """
    channels = channels_of(config, where)
    where, kwargs = _with_processor(where, kwargs)
    try:
        processor = AutoImageProcessor.from_pretrained(where, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        if Path(where).is_dir() and (Path(where) / "preprocessor_config.json").exists():
            reason = first_line(error)
            raise DataError(f"{where}: its preprocessor_config.json cannot be read: {reason}") from error
        return _default(config, where, channels)
    return fitted(processor, where, channels=channels)


def _with_processor(where: str, kwargs: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A Trainer's checkpoint-N without a processor of its own has that of its run, which is noted."""
    folder = Path(where)
    beside = folder.parent / PROCESSOR
    bare = folder.is_dir() and not any((folder / n).is_file() for n in (PROCESSOR, "processor_config.json"))
    if bare and folder.name.startswith("checkpoint-") and beside.is_file():
        note(f"{where} brings no {PROCESSOR}: that of {folder.parent} was taken")
        return str(folder.parent), {}
    return where, kwargs


def channels_of(config: Any, what: str) -> int:
    """Channels of the pictures that a transformers model takes, 3 where its config says nothing; DataError unless they are 1 or 3."""
    vision = getattr(config, "vision_config", None) or config
    found = getattr(vision, "num_channels", None)
    return checked_channels(3 if found is None else int(found), what)


def _default(config: Any, where: str, channels: int) -> Preprocess:
    kind = PARENTS.get(config.model_type, config.model_type)
    entry: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(kind)
    names = list(entry.values()) if isinstance(entry, Mapping) else [n for n in entry or () if n]
    names = [n for n in names if n and not n.endswith("Pil")] or names
    if not names:
        raise DataError(
            f"the model brings no preprocessor_config.json, and none is known for {kind}; put one beside its config"
        )
    cls = getattr(transformers, names[0])
    body = dict(cls().to_dict())
    size = getattr(getattr(config, "vision_config", None) or config, "image_size", None)
    settings: dict[str, Any] = {}
    if size is not None:
        h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if body.get("do_center_crop"):
            # The default's proportion between resize and crop is kept.
            old = (body.get("crop_size") or {}).get("height", 224)
            short = (body.get("size") or {}).get("shortest_edge", old)
            settings = {"size": {"shortest_edge": round(h * short / old)}, "crop_size": {"height": h, "width": w}}
        elif "shortest_edge" not in (body.get("size") or {}):
            settings = {"size": {"height": h, "width": w}}
    found = fitted(cls(**settings), where, channels=channels)
    note(
        f"{where} brings no preprocessor_config.json: its pictures are prepared as {names[0]} does by default, {found.size[0]} × {found.size[1]}"
    )
    return found


def fitted(processor: Any, what: str, *, channels: int = 3) -> Preprocess:
    """The Preprocess that gives the processor's own pixels, to SAME, on pictures of odd sizes: smaller and larger than what it makes.

    By its fields where they can say what the processor does, else by running it. Raises DataError, naming the processor, where it needs
    more than a picture or gives no pictures of one fixed size.
    """
    if channels == 1:
        _make_grey(processor, what)
    body = _plain({**processor.to_dict(), "image_processor_type": type(processor).__name__})
    trials, wanted = [_noise(*TRIALS[0])], [_pixels(processor, _noise(*TRIALS[0]), what, channels)]
    h, w = (int(side) for side in wanted[0].shape[1:])
    for side in (*TRIALS[1:], (h + 37, w + 12)):
        trials.append(_noise(*side))
        wanted.append(_pixels(processor, trials[-1], what, channels))
        if (found := tuple(wanted[-1].shape[1:])) != (h, w):
            shown = f"{h} × {w}, {found[0]} × {found[1]}"
            raise DataError(f"{_named(processor, what)} gives pictures of no fixed size ({shown}); visus needs one")
    for choice in _choices(body, (h, w), channels, getattr(processor, "backend", "pil")):
        try:
            if all(_same(choice, trial, x) for trial, x in zip(trials, wanted, strict=True)):
                return choice
        except BROKEN:  # the processor does not run without its arithmetic
            continue
    raise DataError(f"{_named(processor, what)} makes pictures in a way that visus cannot repeat; give another model")


def _same(choice: Preprocess, trial: Image.Image, wanted: torch.Tensor) -> bool:
    found = choice.normalize(torch.from_numpy(choice(trial))[None])[0]
    return found.shape == wanted.shape and float((found - wanted).abs().max()) <= SAME


def _choices(body: Mapping[str, Any], size: tuple[int, int], channels: int, backend: str) -> Iterator[Preprocess]:
    """Ways to make the pictures, the plainest first; the last, whose grey levels are not rounded, is exact whatever the processor does."""
    mean, std = _arithmetic(body)
    mean, std = mean[:channels], std[:channels]
    resample = body.get("resample")
    interpolation = INTERPOLATIONS.get(2 if resample is None else int(resample), "")
    plain = Preprocess(
        size, _resize(body) if body.get("do_resize") else None, interpolation, mean, std, crop_rounding="down",
        backend="torchvision" if backend == "torchvision" else "pillow",
    )  # fmt: skip
    if not (body.get("do_center_crop") and not _crop(body)):
        yield plain
    run = replace(plain, resize=None, processor=json.dumps(body, sort_keys=True))
    yield run
    yield replace(run, levels="float32")


def _resize(body: Mapping[str, Any]) -> int | tuple[int, int] | None:
    """What a picture is resized to before the crop, by the fields that most processors share."""
    size = body.get("size")
    size = {"shortest_edge": size} if isinstance(size, int) else dict(size or {})
    short = size.get("shortest_edge")
    if short is not None and "ConvNext" in str(body.get("image_processor_type", "")):
        # ConvNeXt's own rule: below 384 enlarge by crop_pct and crop, from 384 on squash.
        pct = body.get("crop_pct") or 224 / 256
        return int(short / pct) if short < 384 else (int(short), int(short))
    if short is not None:
        return int(short)
    return (int(size["height"]), int(size["width"])) if {"height", "width"} <= size.keys() else None


def _crop(body: Mapping[str, Any]) -> bool:
    crop = body.get("crop_size")
    return isinstance(crop, int) or {"height", "width"} <= dict(crop or {}).keys()


def _plain(body: Any) -> Any:
    """Settings as JSON has them."""
    if isinstance(body, Mapping):
        return {str(k): _plain(v) for k, v in body.items()}
    if isinstance(body, np.ndarray):
        return body.tolist()
    if isinstance(body, list | tuple):
        return [_plain(v) for v in body]
    if isinstance(body, np.generic):
        return body.item()
    if isinstance(body, int) and not isinstance(body, bool):
        return int(body)  # Pillow's resampling filters are such
    return body if body is None or isinstance(body, bool | float | str) else str(body)


def _noise(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def _pixels(processor: Any, trial: Image.Image, what: str, channels: int) -> torch.Tensor:
    """float32 [channels, h, w]: what the processor makes of a picture. Raises DataError where that is no picture."""
    try:
        found = processor(trial if channels == 3 else trial.convert("L"), return_tensors="pt")
    except BROKEN as error:
        reason = first_line(error)
        raise DataError(f"{_named(processor, what)} makes no pixels of a picture alone: {reason}") from error
    x = found.get("pixel_values") if isinstance(found, Mapping) else found
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or len(x) != 1 or x.shape[1] != channels:
        shape = f" of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else ""
        raise DataError(f"{_named(processor, what)} gives no picture of {channels} channels but something else{shape}")
    return x[0].to(torch.float32)


def _named(processor: Any, what: str) -> str:
    return f"the image processor of {what} ({type(processor).__name__})"


def _make_grey(processor: Any, what: str) -> None:
    """Prepare a processor for pictures of one channel: nothing makes them RGB again, and there is one mean and one deviation."""
    processor.do_convert_rgb = False
    for key in ("image_mean", "image_std"):
        values = getattr(processor, key, None)
        if isinstance(values, Sequence) and len(values) > 1:
            if len(set(values)) > 1:
                raise DataError(
                    f"{what} takes grey pictures, but its {key} has {len(values)} different values; give one in preprocessor_config.json"
                )
            setattr(processor, key, [values[0]])


def _arithmetic(body: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Rescaling, its offset and normalising as one mean and standard deviation on the scale of [0, 1]."""
    factor = float(body.get("rescale_factor") or 1 / 255) if body.get("do_rescale") else 1.0
    offset = 1.0 if body.get("rescale_offset") else 0.0
    normalizes = body.get("do_normalize")
    mean = _channels(body.get("image_mean") if normalizes else None, 0.0)
    std = _channels(body.get("image_std") if normalizes else None, 1.0)
    if body.get("include_top"):  # EfficientNet divides by the deviation a second time
        std = tuple(s * t for s, t in zip(std, _channels(body.get("image_std"), 1.0), strict=True))
    # (u f - o - m) / s = (u / 255 - (o + m) / (255 f)) / (s / (255 f))
    unit = 1.0 if abs(255 * factor - 1) < 1e-9 else 255 * factor
    return tuple((offset + m) / unit for m in mean), tuple(s / unit for s in std)


def _channels(values: Sequence[float] | float | None, default: float) -> tuple[float, ...]:
    if values is None:
        return (default,) * 3
    found = (float(values),) if isinstance(values, int | float) else tuple(float(v) for v in values)
    return found * 3 if len(found) == 1 else found
