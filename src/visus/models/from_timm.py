"""timm: `timm:NAME` and `timm:NAME.TAG`."""

from __future__ import annotations

import math
import pickle
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.data import resolve_model_data_config

from visus.errors import DataError, SpecError
from visus.models.assemble import assemble
from visus.models.base import Backbone
from visus.models.heads import UNREAD, declared, names_of, said
from visus.models.hub import first_line, hub_file, url_file
from visus.models.points import Layout
from visus.models.preprocess import Preprocess, checked_channels, three
from visus.models.registry import random_init
from visus.models.trunk import TimmTrunk
from visus.progress import note
from visus.spec import Spec, check_options, unknown

PICTURES = ("input_size", "img_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")


def load_timm(spec: Spec, *, download: bool) -> Backbone:
    """A model of timm with its pretrained weights, or with random ones for `?weights=none`."""
    check_options(spec, ("weights",))
    random = random_init(spec)
    architecture(spec.name)
    if random:
        return wrap(create(spec.name), spec.text, random=True)
    cfg = timm.get_pretrained_cfg(spec.name, allow_unregistered=False)
    if cfg is None or not (cfg.hf_hub_id or cfg.url or cfg.file):
        raise SpecError(
            f"timm has no pretrained weights for {spec.name}; add ?weights=none for a random initialisation"
        )
    if cfg.hf_hub_id:
        repo = (
            str(cfg.hf_hub_id)
            if "/" in str(cfg.hf_hub_id).rstrip("/")[:-1] and not str(cfg.hf_hub_id).endswith("/")
            else ""
        )
        repo = repo or f"timm/{cfg.architecture}" + (f".{cfg.tag}" if cfg.tag else "")
        names = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else WEIGHTS
        file = hub_file(repo, names, download=download)
    else:
        file = url_file(str(cfg.url), Path(torch.hub.get_dir()) / "checkpoints", download=download)
    model = create(spec.name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    return wrap(model, spec.text)


def architecture(name: str) -> None:
    """Raise SpecError unless timm knows the architecture and, where one is typed, its pretrained tag."""
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise unknown("timm model", base if tag else name, timm.list_models())
    tags = [str(n) for n in timm.list_pretrained(f"{base}.*")]
    if tag and name not in tags:
        raise unknown(f"pretrained weights of {base}:", name, tags, f"without a tag: timm:{base}")


def create(name: str, **kwargs: Any) -> Any:
    """timm.create_model; raises DataError when the weights do not fit or cannot be read."""
    try:
        return timm.create_model(name, **kwargs)
    except (RuntimeError, KeyError, ValueError, TypeError, SafetensorError, pickle.UnpicklingError, OSError) as error:
        raise DataError(f"timm cannot make {name}: {first_line(error)}") from error


def wrap(
    model: Any,
    text: str,
    *,
    random: bool = False,
    labels: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Backbone:
    """A timm model as a Backbone: its own preprocessing, prefix tokens, layout and labels.

    labels: None: those of its own weights; (): none are known. config: what a folder declares beside the model's own config, of its head.
    """
    cfg = dict(getattr(model, "pretrained_cfg", None) or {})
    classes = int(getattr(model, "num_classes", 0) or 0)
    named = cfg.get("label_names") if labels is None else labels or None
    read = declared({**cfg, **(config or {})})
    unread = (
        {}
        if read or not classes
        else {UNREAD: f"ends in a regression head of {classes:,} number{'s' if classes > 1 else ''}"}
    )
    if unread:
        model.reset_classifier(0)
        classes = 0
    trunk = TimmTrunk(model, classifies=classes > 0)
    trunk.binary = classes == 1
    read = "classes" if classes == 1 else read
    if classes:
        told = {**cfg, **(config or {})}
        kept = bool(named or told.get("problem_type") or told.get("multi_label") or told.get("multilabel"))
        said(read or "classes", classes, spec=text, declared=kept)
    prefix = int(getattr(model, "num_prefix_tokens", 0) or 0)
    paths = dict(model.named_modules())
    late = None
    if ("layer4" in paths and "global_pool.pool" in paths and _pools_to_a_point(model)) or (
        _is_efficientnet(paths) and _pools_to_a_point(model)
    ):
        late = ("global_pool", "model.global_pool.pool")
    fmt = getattr(model, "output_fmt", None)
    layout = Layout(
        prefix=prefix,
        channels_last=None if fmt is None else str(getattr(fmt, "value", fmt)) == "NHWC",
        late=late,
        extra=tuple(
            f"model.{f['module']}"
            for f in getattr(model, "feature_info", None) or ()
            if isinstance(f, dict) and f.get("module")
        ),
    )
    return assemble(
        text,
        trunk,
        preprocess_of(model),
        layout=layout,
        labels=names_of(classes, named, spec=text, sure=labels is None or random) if classes else None,
        random=random,
        info={
            "library": "timm",
            "architecture": cfg.get("architecture", type(model).__name__),
            **unread,
            **dict(info or {}),
        },
        head=read or "classes",
    )


def _pools_to_a_point(model: Any) -> bool:
    """Whether the global pool's output is [b, c, 1, 1] before it is flattened."""
    return getattr(model.global_pool, "pool_type", "") in ("avg", "max", "avgmax") and model.num_features == getattr(
        model, "head_hidden_size", -1
    )


def _is_efficientnet(paths: Mapping[str, Any]) -> bool:
    return {"conv_stem", "blocks", "conv_head", "bn2", "global_pool.pool"} <= set(paths)


def preprocess_of(model: Any) -> Preprocess:
    """timm's evaluation transform of a model (resolve_data_config, transforms_imagenet_eval) as a Preprocess.

    The size is the network's own where it takes no other (`img_size=`), and the channels are its first layer's. Raises DataError for a
    model of other than 1 or 3 channels.
    """
    cfg = dict(resolve_model_data_config(model))
    embed = getattr(model, "patch_embed", None)
    side = getattr(embed, "img_size", None)
    if side is not None and getattr(embed, "strict_img_size", False):
        cfg["input_size"] = (cfg["input_size"][0], int(side[0]), int(side[1]))
    channels = checked_channels(in_chans(model), str(getattr(model, "pretrained_cfg", {}).get("architecture") or "it"))
    for key in ("mean", "std"):
        if channels == 1 and len(cfg[key]) > 1:  # as timm's own save_for_hf has it
            cfg[key] = (round(sum(cfg[key]) / len(cfg[key]), 4),)
            note(f"{key} of grey pictures: {cfg[key][0]}, the mean over the channels of the colour model's")
    return from_data_config(cfg)


def trained_with(model: Any, args: Any) -> None:
    """Take what timm's training script wrote into a checkpoint of its pictures (size, mean, deviation, crop, resampling), which is noted."""
    said = dict(args) if isinstance(args, Mapping) else dict(vars(args)) if isinstance(args, Namespace) else {}
    found: dict[str, Any] = {k: said[k] for k in PICTURES if said.get(k) is not None}
    if "crop_pct" not in said or not found:  # of another script
        return
    if isinstance(found.get("img_size"), int):
        found.setdefault("input_size", (in_chans(model), found["img_size"], found["img_size"]))
    found.pop("img_size", None)
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    note(f"pictures as the training was told: {', '.join(f'{k} {v}' for k, v in found.items())}")
    model.pretrained_cfg = {**dict(model.pretrained_cfg), **found}


def in_chans(model: Any) -> int:
    """Channels that the first convolution of a timm model takes; 3 where it names none."""
    first = dict(getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    names = [first] if isinstance(first, str) else list(first or ())
    for name in names:
        weight = getattr(dict(model.named_modules()).get(name), "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 4:
            return int(weight.shape[1])
    return int(getattr(model, "in_chans", 3) or 3)


def from_data_config(cfg: Mapping[str, Any]) -> Preprocess:
    """timm's data config -> Preprocess. Source: timm.data.transforms_factory.transforms_imagenet_eval."""
    size = (int(cfg["input_size"][1]), int(cfg["input_size"][2]))
    scaled = tuple(math.floor(side / cfg["crop_pct"]) for side in size)
    mean, std = tuple(map(float, cfg["mean"])), tuple(map(float, cfg["std"]))
    plain = Preprocess(size, scaled[0], str(cfg["interpolation"]).replace("random", "bilinear"), mean, std)
    mode = cfg.get("crop_mode") or "center"
    if mode == "squash":
        return replace(plain, resize=(scaled[0], scaled[1]))
    if mode == "border":
        fill = three([round(255 * v) for v in mean] * (3 // len(mean)), int)
        return replace(plain, resize=(scaled[0], scaled[1]), fit="pad", fill=fill)
    return plain if scaled[0] == scaled[1] else replace(plain, resize=(scaled[0], scaled[1]), fit="cover")
