"""The sizes of a timm network as its tensors have them: classes, channels, and for a vision transformer its pictures, patches and blocks."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import timm
import torch

from visus.errors import SpecError
from visus.progress import caution, note

PARTIAL = (RuntimeError, NotImplementedError, ValueError, TypeError)


@lru_cache(maxsize=8)
def template(name: str) -> dict[str, torch.Tensor]:
    """Names and shapes of timm's tensors for an architecture as it stands, without their values."""
    try:
        with torch.device("meta"):
            return dict(timm.create_model(name).state_dict())
    except PARTIAL:  # its constructor reads values
        return dict(timm.create_model(name).state_dict())


def settings(name: str, tensors: Mapping[str, torch.Tensor], options: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of timm.create_model that make the architecture fit the tensors (under its own names).

    options: `img_size` and `num_heads` as a user writes them, where the tensors do not say. Raises SpecError where they are needed.
    """
    kwargs: dict[str, Any] = {**_classes(name, tensors), **_channels(name, tensors)}
    common = template(name)
    if {"patch_embed.proj.weight", "blocks.0.attn.proj.weight"} <= tensors.keys() & common.keys():
        kwargs |= _transformer(name, tensors, common, options)
    elif "img_size" in options:
        kwargs["img_size"] = _size(options["img_size"])
    return kwargs


def _classes(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The number of classes that the checkpoint's own classifier has, so that fine-tuned models load; 0 where it has none."""
    classifier = timm.get_pretrained_cfg_value(name, "classifier")
    classifier = classifier[0] if isinstance(classifier, tuple | list) else classifier
    if not classifier:
        return {}
    weight = tensors.get(f"{classifier}.weight")
    return {"num_classes": 0 if weight is None else int(weight.shape[0])}


def _channels(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    first = timm.get_pretrained_cfg_value(name, "first_conv")
    for path in [first] if isinstance(first, str) else list(first or ()):
        weight = tensors.get(f"{path}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] != 3:
            return {"in_chans": int(weight.shape[1])}
    return {}


def _transformer(
    name: str, tensors: Mapping[str, torch.Tensor], common: Mapping[str, torch.Tensor], options: Mapping[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    patches, usual = (t["patch_embed.proj.weight"].shape for t in (tensors, common))
    if len(patches) != 4:
        return {}
    if patches[2:] != usual[2:]:
        found["patch_size"] = int(patches[2]) if patches[2] == patches[3] else (int(patches[2]), int(patches[3]))
    found |= _blocks(tensors, common)
    if patches[0] != usual[0]:
        found["embed_dim"] = int(patches[0])
    found |= _tokens(tensors, common)
    heads = options.get("num_heads")
    if heads is not None:
        found["num_heads"] = _whole(heads, "num_heads")
    elif "embed_dim" in found:
        raise _heads_asked(name, found["embed_dim"])
    found |= _side(name, tensors, common, (int(patches[2]), int(patches[3])), options)
    if "depth" in found:
        caution(
            f"The weights have {found['depth']} blocks, {name} has {_depth(common)}: a network of {found['depth']} blocks was built."
        )
    if said := {k: v for k, v in found.items() if k != "num_heads"}:
        note(f"sizes of {name} by the tensors: {', '.join(f'{k} {v}' for k, v in said.items())}")
    return found


def _blocks(tensors: Mapping[str, torch.Tensor], common: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    depth, usual = _depth(tensors), _depth(common)
    if depth != usual:
        found["depth"] = depth
    fc1 = "blocks.0.mlp.fc1.weight"
    if fc1 in tensors and fc1 in common:
        ratio, before = (t[fc1].shape[0] / t[fc1].shape[1] for t in (tensors, common))
        if not math.isclose(ratio, before):
            found["mlp_ratio"] = ratio
    scales = [t for t in ("blocks.0.ls1.gamma",) if (t in tensors) != (t in common)]
    if scales:
        found["init_values"] = 1e-5 if scales[0] in tensors else None  # their values come from the tensors
    if ("blocks.0.attn.q_norm.weight" in tensors) != ("blocks.0.attn.q_norm.weight" in common):
        found["qk_norm"] = "blocks.0.attn.q_norm.weight" in tensors
    bias = "blocks.0.attn.qkv.bias"
    if "blocks.0.attn.qkv.weight" in common and (bias in tensors) != (bias in common):
        found["qkv_bias"] = bias in tensors
    if "fc_norm.weight" in tensors and "norm.weight" in common and "norm.weight" not in tensors:
        found["global_pool"] = "avg"  # a ViT that pools its patches norms behind the pooling
    elif "fc_norm.weight" in common and "norm.weight" in tensors and "fc_norm.weight" not in tensors:
        found["global_pool"] = "token"
    return found


def _depth(tensors: Mapping[str, torch.Tensor]) -> int:
    return 1 + max(int(m.group(1)) for k in tensors if (m := re.match(r"blocks\.(\d+)\.", k)))


def _tokens(tensors: Mapping[str, torch.Tensor], common: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "cls_token" in common and "cls_token" not in tensors:
        found |= {"class_token": False, "global_pool": "avg"}
    given, usual = (t["reg_token"].shape[1] if "reg_token" in t else 0 for t in (tensors, common))
    if given != usual:
        found["reg_tokens"] = int(given)
    return found


def _heads_asked(name: str, width: int) -> SpecError:
    """Heads leave no trace in the tensors: at another width than the architecture's they are asked for, as any number that divides it loads."""
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    return SpecError(
        f"the tensors are {width} wide, {name} is {model.embed_dim} wide with {model.blocks[0].attn.num_heads} heads, and the tensors do not say how "
        "many heads they have; name the architecture of that width, or say ?num_heads="
    )


def _side(
    name: str,
    tensors: Mapping[str, torch.Tensor],
    common: Mapping[str, torch.Tensor],
    patch: tuple[int, int],
    options: Mapping[str, str],
) -> dict[str, Any]:
    """Size of the pictures, by the length of the positional embedding; whether it has places for more than patches is the architecture's."""
    asked = options.get("img_size")
    cfg = timm.get_pretrained_cfg(name)
    usual = tuple(int(v) for v in cfg.input_size[1:]) if cfg is not None else (224, 224)
    embedding = tensors.get("pos_embed")
    if asked is not None:
        return {"img_size": _size(asked)}
    if embedding is None or embedding.ndim != 3:
        return {}
    old = common["patch_embed.proj.weight"].shape[2:]
    embedded = common["pos_embed"].shape[1] > (usual[0] // int(old[0])) * (usual[1] // int(old[1]))
    patches = int(embedding.shape[1]) - (_prefix(tensors) if embedded else 0)
    if patches == (usual[0] // patch[0]) * (usual[1] // patch[1]):
        return {}
    grid = math.isqrt(patches)
    if grid * grid == patches:
        return {"img_size": (grid * patch[0], grid * patch[1])}
    raise SpecError(
        f"the positional embedding of {patches} patches is of pictures that are not square; say their size: ?img_size=HEIGHTxWIDTH"
    )


def _prefix(tensors: Mapping[str, torch.Tensor]) -> int:
    registers = int(tensors["reg_token"].shape[1]) if "reg_token" in tensors else 0
    return int("cls_token" in tensors) + int("dist_token" in tensors) + registers


def _size(text: str) -> int | tuple[int, int]:
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) == 1:
        return _whole(text, "img_size")
    if len(parts) != 2:
        raise SpecError(f"img_size={text!r} is not understood; write ?img_size=224 or ?img_size=HEIGHTxWIDTH")
    return _whole(parts[0], "img_size"), _whole(parts[1], "img_size")


def _whole(text: str, what: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise SpecError(f"{what}={text!r} is no whole number from 1")
    return int(text)


def converted(model: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The tensors as the architecture's own filter in timm renames them (weights of the original authors); None where it has none or fails."""
    rename = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if rename is None:
        return None
    try:
        return dict(rename(dict(tensors), model))
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, AssertionError, IndexError):
        return None
