"""torchvision: `torchvision:NAME@WEIGHTS`; without weights the default ones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torchvision import models

from visus.errors import DataError
from visus.models.assemble import assemble, last_linear
from visus.models.base import Backbone
from visus.models.checkpoint import Contents, choose, read, take_chosen, take_in
from visus.models.heads import names_of, said
from visus.models.hub import first_line, url_file
from visus.models.labels import imagenet_labels
from visus.models.points import Layout
from visus.models.preprocess import Preprocess, checked_channels, three
from visus.models.registry import random_init
from visus.models.trunk import HeadInputTrunk, PlainTrunk, Trunk
from visus.progress import note
from visus.spec import Spec, check_options, unknown


def load_torchvision(spec: Spec, *, download: bool) -> Backbone:
    """A classification model of torchvision."""
    check_options(spec, ("weights",))
    random = random_init(spec)
    name = _known(spec.name)
    weights = _weights(name, spec.revision)
    model = create(name)
    if not random:
        file = url_file(weights.url, Path(torch.hub.get_dir()) / "checkpoints", download=download)
        take_in(model, renamed(name, read(file)), what=f"{file.name} into torchvision:{name}")
    return wrap(model, spec.text, weights, random=random)


def load_file(spec: Spec, arch: Spec, contents: Contents) -> Backbone:
    """A file of weights in torchvision's architecture `arch`; errors as `weights_file.load_file` has them."""
    name = _known(arch.name)
    what = f"{contents.file} into torchvision:{name}"
    states = {place: renamed(name, dict(t)) for place, t in contents.states.items()}
    contents = replace(contents, states=states)
    usual = create(name)
    chosen = choose(contents, usual.state_dict(), key=spec.options.get("key"), what=what)
    model, classes = sized(usual, name, chosen.tensors, what=str(contents.file))
    tensors = dict(chosen.tensors)
    if not classes:  # features alone: the classifier that the architecture ends with is left at zero and never asked
        tensors |= {
            k: torch.zeros_like(v) for k, v in model.state_dict().items() if k not in tensors and in_head(model, k)
        }
    aside = None if classes else last_linear(model)
    take_chosen(model, replace(chosen, tensors=tensors), contents, what=what, aside=aside)
    weights = _weights(name, arch.revision)
    names = names_of(classes, None, spec=spec.text) if classes else None
    backbone = wrap(model, spec.text, weights, random=False, labels=names or ())
    if classes == 1:
        said("classes", 1, spec=spec.text, declared=False)
        trunk: Any = backbone.module
        trunk.binary = True
    return replace(backbone, labels=names)


def _known(name: str) -> str:
    """The name as torchvision has it; raises SpecError, with the nearest, for an unknown one."""
    known = models.list_models(module=models)
    if name.lower() not in known:
        raise unknown("torchvision model", name, known)
    return name.lower()


def _weights(name: str, revision: str | None) -> Any:
    """The weights of a model by the name of their revision, by default torchvision's default ones."""
    enum: Any = models.get_model_weights(name)
    if not revision or revision == "DEFAULT":
        return enum.DEFAULT
    choices = {w.name: w for w in enum}
    if revision not in choices:
        raise unknown(f"weights of {name}:", revision, choices)
    return choices[revision]


def renamed(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DenseNet's files say 'norm.1' where its modules are called 'norm1' (torchvision.models.densenet._load_state_dict)."""
    if not name.startswith("densenet"):
        return tensors
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): v for key, v in tensors.items()}


def create(name: str, **kwargs: Any) -> Any:
    """A randomly initialised torchvision model."""
    if name in ("inception_v3", "googlenet"):
        kwargs = {"init_weights": True, **kwargs}
    try:
        return models.get_model(name, weights=None, **kwargs)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"torchvision cannot make {name}: {first_line(error)}") from error


def sized(model: Any, name: str, tensors: Mapping[str, torch.Tensor], *, what: str) -> tuple[Any, int]:
    """The model `name` at the sizes that its tensors have (classes, channels, a ViT's pictures), and how many classes: 0 for none.

    what: the file, for messages. Raises DataError for other than 1 or 3 channels.
    """
    kwargs: dict[str, Any] = {}
    head = last_linear(model)
    weight = tensors.get(f"{head}.weight") if head else None
    classes = int(weight.shape[0]) if weight is not None and weight.ndim == 2 else 0
    if classes and classes != model.get_submodule(head).out_features:
        kwargs["num_classes"] = classes
    places, patch = tensors.get("encoder.pos_embedding"), tensors.get("conv_proj.weight")
    if places is not None and patch is not None and hasattr(model, "image_size"):
        side = math.isqrt(int(places.shape[1]) - 1) * int(patch.shape[-1])
        if side != model.image_size:
            kwargs["image_size"] = side
    if kwargs:
        note(f"sizes of torchvision:{name} by the tensors: {', '.join(f'{k} {v}' for k, v in kwargs.items())}")
        model = create(name, **kwargs)
    path, conv = next((p, m) for p, m in model.named_modules() if isinstance(m, torch.nn.Conv2d))
    given = tensors.get(f"{path}.weight")
    if given is not None and given.ndim == 4 and given.shape[1] != conv.in_channels and conv.groups == 1:
        conv.in_channels = checked_channels(int(given.shape[1]), what)
        conv.weight = torch.nn.Parameter(torch.empty(conv.out_channels, conv.in_channels, *conv.kernel_size))
    return model, classes


def in_head(model: Any, name: str) -> bool:
    """Whether a tensor belongs to the last linear layer."""
    return name.rpartition(".")[0] == last_linear(model)


def wrap(model: Any, text: str, weights: Any, *, random: bool, labels: Sequence[str] | None = None) -> Backbone:
    """A torchvision model as a Backbone; `weights` gives the preprocessing and the labels, where `labels` does not; () for none."""
    model.eval()
    # The pretrained Inception and GoogLeNet undo ImageNet's normalisation themselves.
    if not random and hasattr(model, "transform_input"):
        model.transform_input = True
    head = last_linear(model)
    trunk: Trunk = HeadInputTrunk(model, head) if head else PlainTrunk(model)
    is_vit = hasattr(model, "class_token")
    late = ("avgpool", "model.avgpool") if _ends_in_avgpool(model, head) else None
    if labels is None:
        labels = weights.meta.get("categories")
        if labels is not None and len(labels) == 1000:
            labels = imagenet_labels(1000) if random else labels
    layout = Layout(
        prefix=1 if is_vit else 0,
        channels_last=None if type(model).__name__ == "SwinTransformer" else False,
        late=late,
    )
    return assemble(
        text,
        trunk,
        _fitted(preprocess_of(weights), model),
        layout=layout,
        labels=labels or None,
        random=random,
        info={"library": "torchvision"},
    )


def _ends_in_avgpool(model: Any, head: str | None) -> bool:
    """Whether nothing but flattening and dropout stands between `avgpool` and the last linear layer."""
    if not hasattr(model, "avgpool") or head is None:
        return False
    if hasattr(model, "layer4"):
        return head == "fc"
    between = (
        list(getattr(model, "classifier", ()))[:-1]
        if isinstance(getattr(model, "classifier", None), torch.nn.Sequential)
        else [None]
    )
    return all(isinstance(m, torch.nn.Dropout | torch.nn.Flatten) for m in between) and hasattr(model, "features")


def preprocess_of(weights: Any) -> Preprocess:
    """torchvision's ImageClassification preset of some weights as a Preprocess."""
    preset = weights.transforms()
    crop, resize = _side(preset.crop_size), _side(preset.resize_size)
    return Preprocess((crop, crop), resize, str(preset.interpolation.value), three(preset.mean), three(preset.std))


def _fitted(preprocess: Preprocess, model: Any) -> Preprocess:
    """The preset at the model's own picture size (a ViT's is fixed) and channels."""
    side = getattr(model, "image_size", None)
    if isinstance(side, int) and (side, side) != preprocess.size:
        preprocess = replace(preprocess, size=(side, side), resize=side)
    conv = next((m for m in model.modules() if isinstance(m, torch.nn.Conv2d)), None)
    if conv is not None and conv.in_channels == 1:
        mean, std = (round(sum(v) / len(v), 4) for v in (preprocess.mean, preprocess.std))
        note(f"mean and deviation of grey pictures: {mean}, {std}, the means over the channels of the colour model's")
        preprocess = replace(preprocess, mean=(mean,), std=(std,))
    return preprocess


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])
