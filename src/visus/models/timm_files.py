"""timm's models from this machine: a folder that timm wrote, and one file of weights in an architecture of timm's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from visus.errors import DataError, SpecError
from visus.models.base import Backbone
from visus.models.checkpoint import Chosen, Contents, choose, opened, take_chosen
from visus.models.folders import TIMM_WEIGHTS, read_config
from visus.models.from_timm import architecture, create, trained_with, wrap
from visus.models.heads import tags_beside
from visus.models.preprocess import checked_channels
from visus.models.registry import random_init
from visus.models.sizes import converted, settings, template
from visus.spec import Spec, check_options


def load_folder(spec: Spec, path: Path, *, download: bool) -> Backbone:
    """A folder that timm wrote. Raises SpecError for an unknown architecture, DataError for weights that are missing or do not fit."""
    check_options(spec, ("weights",))
    config = read_config(path)
    random = random_init(spec)
    name = str(config["architecture"])
    architecture(name)
    overlay = dict(config.get("pretrained_cfg") or {})
    kwargs = dict(config.get("model_args") or {})
    classes = config.get("num_classes", overlay.get("num_classes"))
    if classes is not None:
        kwargs.setdefault("num_classes", int(classes))
    if config.get("global_pool") is not None:
        kwargs.setdefault("global_pool", config["global_pool"])
    model = create(name, pretrained=False, pretrained_cfg_overlay=overlay, **kwargs)
    if not random:
        file = next((path / n for n in TIMM_WEIGHTS if (path / n).is_file()), None)
        if file is None:
            raise DataError(
                f"{path} holds a config and no weights; put model.safetensors beside it, or add ?weights=none"
            )
        contents, what = opened(file), f"{file} into timm:{name}"
        take_chosen(model, choose(contents, model.state_dict(), what=what), contents, what=what)
    labels = config.get("label_names")
    if labels is None and (tags := tags_beside(path, model.num_classes)):
        labels, config = list(tags), {**config, "multi_label": True}
    descriptions = config.get("label_descriptions")
    if isinstance(labels, list) and isinstance(descriptions, Mapping):
        labels = [str(descriptions.get(label, label)) for label in labels]
    return wrap(model, spec.text, random=random, labels=labels or (), config=config)


def load_file(spec: Spec, arch: Spec, contents: Contents) -> Backbone:
    """A file of weights in timm's architecture `arch`; errors as `weights_file.load_file` has them."""
    architecture(arch.name)
    what = f"{contents.file} into timm:{arch.name}"
    names = template(arch.name)
    # Names that the architecture has at other depths, so that a deeper or a headless one is found whole.
    chosen = choose(contents, names, key=spec.options.get("key"), what=what)
    chosen = _renamed(arch.name, chosen, names, spec.options)
    kwargs = settings(arch.name, chosen.tensors, spec.options)
    checked_channels(int(kwargs.get("in_chans", 3)), str(contents.file))
    model = create(arch.name, **kwargs)
    take_chosen(model, chosen, contents, what=what)
    trained_with(model, contents.rest.get("args"))
    return wrap(model, spec.text, labels=())  # whose classes they are, the file does not say


def _renamed(name: str, chosen: Chosen, names: Mapping[str, torch.Tensor], options: Mapping[str, str]) -> Chosen:
    """Weights of the original authors under timm's names, where timm's own filter knows them."""

    def covered(tensors: Mapping[str, torch.Tensor]) -> int:
        return sum(k in tensors for k in names)

    if covered(chosen.tensors) == len(names):
        return chosen
    for sized in (False, True):
        try:
            model = create(name, **(settings(name, chosen.tensors, options) if sized else {}))
        except (SpecError, DataError):
            continue
        found = converted(model, chosen.tensors)
        if found is None or covered(found) <= covered(chosen.tensors):
            continue
        known = {k: v.shape for k, v in chosen.tensors.items() if k != "pos_embed"}
        if not any(k in known and v.shape != known[k] for k, v in found.items()) and _as_long(found, chosen.tensors):
            return replace(chosen, tensors=found)
    return chosen


def _as_long(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether the positional embeddings are of as many patches (the class token's place may have gone): renamed, not resampled."""
    if "pos_embed" not in a or "pos_embed" not in b:
        return True
    return abs(int(a["pos_embed"].shape[1]) - int(b["pos_embed"].shape[1])) <= 1
