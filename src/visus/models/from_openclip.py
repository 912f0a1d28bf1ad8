"""open_clip: `openclip:ARCH@TAG`, the image tower. Its features are encode_image's output, projected and not normalised."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError

from visus.errors import DataError, SpecError
from visus.models.assemble import assemble
from visus.models.base import Backbone
from visus.models.checkpoint import Chosen, Contents, choose, opened, take_chosen
from visus.models.folders import OPEN_CLIP_WEIGHTS
from visus.models.hub import first_line, hub_file, url_file
from visus.models.points import Layout
from visus.models.preprocess import Preprocess, three
from visus.models.registry import random_init
from visus.models.trunk import PlainTrunk
from visus.progress import note
from visus.spec import Spec, check_options, unknown

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
         "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # fmt: skip
OPENAI = {"input_resolution", "context_length", "vocab_size"}  # what the archives of OpenAI hold beside weights


def load_openclip(spec: Spec, *, download: bool) -> Backbone:
    """The image tower of an open_clip model."""
    return wrap(open_named(spec, download=download), spec.text, random=random_init(spec))


def load_folder(spec: Spec, folder: Path, *, download: bool) -> Backbone:
    """The image tower of a folder with an open_clip_config.json."""
    check_options(spec, ("weights",))
    random = random_init(spec)
    return wrap(open_folder(folder, random=random), spec.text, random=random)


def load_file(spec: Spec, arch: Spec, contents: Contents) -> Backbone:
    """The image tower of a file of weights in open_clip's architecture `arch`."""
    return wrap(open_file(arch, contents, spec), spec.text)


def open_named(spec: Spec, *, download: bool) -> Any:
    """open_clip's model of `openclip:ARCH@TAG`, both towers; `?weights=none` for a random initialisation.

    Raises SpecError for an unknown name, tag or option, DataError for weights that do not fit, OfflineError.
    """
    check_options(spec, ("weights",))
    random = random_init(spec)
    name = spec.name
    if name not in open_clip.list_models():
        raise unknown("open_clip architecture", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    cfg = open_clip.get_pretrained_cfg(name, spec.revision) if spec.revision else {}
    if spec.revision and not cfg:
        raise unknown(f"pretrained tag of {name}:", spec.revision, tags)
    if random:
        return create(name, **tagged(cfg))
    if not spec.revision:
        choice = f"one of {', '.join(tags[:3])}" if tags else "nothing is known for it"
        raise SpecError(
            f"{spec.text!r} names no pretrained weights; write openclip:{name}@TAG ({choice}) or add ?weights=none"
        )
    return create(name, pretrained=str(_weights(cfg, download=download)), **tagged(cfg))


def tagged(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a pretrained tag says of its model, as arguments of `create`: the activation that its weights were trained with, its pixels.

    open_clip itself only warns where the architecture's activation is not the tag's. A tag that says nothing leaves the
    architecture's own (roberta-ViT-B-32 is QuickGELU by its config alone).
    """
    return {"force_quick_gelu": bool(cfg.get("quick_gelu")), "force_preprocess_cfg": _preprocess_cfg(cfg)}


def open_file(arch: Spec, contents: Contents, spec: Spec) -> Any:
    """open_clip's model `arch` (ARCH, or ARCH@TAG for a tag's activation and pixels) with the weights of a file, both towers.

    An archive of OpenAI's is QuickGELU, as open_clip itself takes it; else the weights do not say, and the architecture's own
    activation is noted. Raises SpecError for an unknown name or tag, DataError for weights that do not fit.
    """
    if arch.name not in open_clip.list_models():
        raise unknown("open_clip architecture", arch.name, open_clip.list_models())
    cfg = open_clip.get_pretrained_cfg(arch.name, arch.revision) if arch.revision else {}
    if arch.revision and not cfg:
        raise unknown(
            f"pretrained tag of {arch.name}:", arch.revision, open_clip.list_pretrained_tags_by_model(arch.name)
        )
    what = f"{contents.file} into openclip:{arch.name}"
    own = open_clip.get_model_config(arch.name)
    model = create(arch.name, **tagged(cfg))
    names = set(model.state_dict())
    chosen = _chosen(contents, names, what=what, key=spec.options.get("key"))
    tensors = chosen.tensors
    openai = bool(OPENAI & tensors.keys())
    tensors = {k: v for k, v in tensors.items() if k not in OPENAI}
    if all(k.startswith("visual.") for k in tensors):
        raise DataError(
            f"{contents.file} holds the image tower of {arch.name} alone, without the text tower; visus reads open_clip's files with "
            "both towers: save the whole model's state_dict"
        )
    again: dict[str, Any] = {}
    side = _image_side(tensors)
    if side is not None and side != model.visual.image_size and (side, side) != model.visual.image_size:
        again["force_image_size"] = side
        note(f"pictures of {side} × {side} by the positional embedding of {contents.file.name}")
    if openai and not cfg and not own.get("quick_gelu"):
        again["force_quick_gelu"] = True
    if again:
        model = create(arch.name, **{**tagged(cfg), **again})
    if not cfg:
        quick = bool(own.get("quick_gelu") or openai)
        said = "an archive of OpenAI's" if openai else f"openclip:{arch.name} has it"
        other = (
            ""
            if openai
            else "; weights trained with the other want the architecture's other name (-quickgelu) or ARCH@TAG"
        )
        note(f"{contents.file.name}: {'QuickGELU' if quick else 'GELU'}, as {said}{other}")
    _take(model, replace(chosen, tensors=tensors), contents, what=what)
    return model


def open_folder(folder: Path, *, random: bool) -> Any:
    """open_clip's model of a folder with an open_clip_config.json, both towers; `random`: without its weights.

    Raises DataError for weights that are missing, several, or do not fit.
    """
    model = create(f"local-dir:{folder}", load_weights=False)
    if not random:
        file = weights_of(folder)
        if file is None:
            raise DataError(
                f"{folder} holds a config and no weights; put open_clip_model.safetensors beside it, or add ?weights=none"
            )
        contents, what = opened(file), f"{file} into its open_clip_config.json"
        _take(model, _chosen(contents, set(model.state_dict()), what=what), contents, what=what)
    return model


def weights_of(folder: Path) -> Path | None:
    """The file of weights in a folder: by its usual name, else the only one; None for none. Raises DataError for several."""
    named = next((folder / n for n in FILES if (folder / n).is_file()), None)
    found = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    if named is None and len(found) > 1:
        raise DataError(
            f"{folder} holds several files of weights: {', '.join(p.name for p in found[:4])}; leave one there"
        )
    return named or next(iter(found), None)


def _chosen(contents: Contents, names: set[str], *, what: str, key: str | None = None) -> Chosen:
    found = choose(contents, names | {n.removeprefix("text.") for n in names}, key=key, what=what)
    return replace(found, tensors={k: v for k, v in found.tensors.items() if not k.endswith("position_ids")})


def _take(model: Any, chosen: Chosen, contents: Contents, *, what: str) -> None:
    """Load the weights as open_clip.load_checkpoint does, but for resampling: other authors' names, one tower's names, scalars."""
    tensors = convert_state_dict(model, {k: v for k, v in chosen.tensors.items() if k not in OPENAI})
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in tensors and getattr(model, scalar, None) is not None:
            tensors[scalar] = tensors[scalar].reshape(getattr(model, scalar).shape)
    take_chosen(model, replace(chosen, tensors=tensors), contents, what=what)


def _image_side(tensors: Mapping[str, Any]) -> int | None:
    """Side of a ViT's square pictures, by its positional embedding; None for other towers."""
    places, patch = tensors.get("visual.positional_embedding"), tensors.get("visual.conv1.weight")
    if places is None or patch is None or places.ndim != 2:
        return None
    grid = math.isqrt(int(places.shape[0]) - 1)
    return grid * int(patch.shape[-1]) if grid * grid == int(places.shape[0]) - 1 else None


def _weights(cfg: Mapping[str, Any], *, download: bool) -> Path:
    if hub := cfg.get("hf_hub"):
        repo, _, file = str(hub).rpartition("/")
        safe = f"{file.rpartition('.')[0]}.safetensors"
        names, repo = ((safe, file), repo) if file and "/" in repo else (OPEN_CLIP_WEIGHTS, str(hub).rstrip("/"))
        return hub_file(repo, names, download=download)
    return url_file(str(cfg["url"]), Path.home() / ".cache" / "clip", download=download)


def _preprocess_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: cfg[key]
        for key in ("mean", "std", "interpolation", "resize_mode", "fill_color")
        if cfg.get(key) is not None
    }


def create(name: str, **kwargs: Any) -> Any:
    """open_clip.create_model without any download of its own; raises DataError when the weights do not fit."""
    quiet = logging.getLogger()
    try:
        level = quiet.level
        quiet.setLevel(logging.ERROR)  # open_clip reports to the root logger
        return open_clip.create_model(name, pretrained_text=False, **kwargs)
    except (RuntimeError, KeyError, ValueError, TypeError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        raise DataError(f"open_clip cannot make {name}: {first_line(error)}") from error
    finally:
        quiet.setLevel(level)


def wrap(model: Any, text: str, *, random: bool = False) -> Backbone:
    """An open_clip model's image tower as a Backbone."""
    visual = model.visual
    cfg = open_clip.get_model_preprocess_cfg(model)
    trunk = getattr(visual, "trunk", None)  # a tower made by timm
    if trunk is None:
        has_cls = hasattr(visual, "class_embedding")
        layout = Layout(prefix=int(has_cls), channels_last=False)
    else:
        prefix = int(getattr(trunk, "num_prefix_tokens", 0) or 0)
        layout = Layout(prefix=prefix, root="model.trunk")
    return assemble(
        text,
        PlainTrunk(visual),
        preprocess_of(cfg),
        layout=layout,
        random=random,
        info={"library": "open_clip"},
    )


def preprocess_of(cfg: Mapping[str, Any]) -> Preprocess:
    """open_clip's evaluation transform (open_clip.transform.image_transform) as a Preprocess."""
    size = cfg["size"]
    h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    interpolation = "bilinear" if cfg.get("interpolation") == "bilinear" else "bicubic"
    mean, std = _three(cfg["mean"]), _three(cfg["std"])
    mode = cfg.get("resize_mode") or "shortest"
    if mode == "squash":
        return Preprocess((h, w), (h, w), interpolation, mean, std)
    if mode == "longest":
        fill = (int(cfg.get("fill_color") or 0),) * 3
        return Preprocess((h, w), (h, w), interpolation, mean, std, fit="pad", fill=fill)
    if h == w:
        return Preprocess((h, w), h, interpolation, mean, std)
    return Preprocess((h, w), (h, w), "bicubic", mean, std, fit="cover")  # whatever the interpolation says


def _three(values: Any) -> tuple[float, float, float]:
    return three(values if isinstance(values, list | tuple) else (values,) * 3)
