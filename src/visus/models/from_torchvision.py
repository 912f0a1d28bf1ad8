"""torchvision: `torchvision:NAME@WEIGHTS`; without weights the default ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from visus.errors import DataError
from visus.models.assemble import assemble, last_linear
from visus.models.base import Backbone, Preprocess
from visus.models.from_timm import three
from visus.models.hub import first_line, url_file
from visus.models.labels import imagenet_labels
from visus.models.points import Layout
from visus.models.registry import random_init, source
from visus.models.trunk import HeadInputTrunk, PlainTrunk, Trunk
from visus.spec import Spec, check_options, unknown


@source("torchvision")
def load_torchvision(spec: Spec, *, download: bool) -> Backbone:
    """A classification model of torchvision."""
    from torchvision import models

    check_options(spec, ("weights",))
    random = random_init(spec)
    known = models.list_models(module=models)
    if spec.name.lower() not in known:
        raise unknown("torchvision model", spec.name, known)
    name = spec.name.lower()
    enum = models.get_model_weights(name)
    weights: Any = enum.DEFAULT
    if spec.revision and spec.revision != "DEFAULT":
        choices = {w.name: w for w in enum}
        if spec.revision not in choices:
            raise unknown(f"weights of {name}:", spec.revision, choices)
        weights = choices[spec.revision]
    model = create(name)
    if not random:
        file = url_file(weights.url, Path(torch.hub.get_dir()) / "checkpoints", download=download)
        from visus.models.checkpoint import read, take_in

        take_in(model, _renamed(name, read(file)), what=f"{file.name} into torchvision:{name}")
    return wrap(model, spec.text, weights, random=random)


def _renamed(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DenseNet's files say 'norm.1' where its modules are called 'norm1' (torchvision.models.densenet._load_state_dict)."""
    if not name.startswith("densenet"):
        return tensors
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): v for key, v in tensors.items()}


def create(name: str) -> Any:
    """A randomly initialised torchvision model."""
    from torchvision import models

    kwargs: dict[str, Any] = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
    try:
        return models.get_model(name, weights=None, **kwargs)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"torchvision cannot make {name}: {first_line(error)}") from error


def wrap(model: Any, text: str, weights: Any, *, random: bool) -> Backbone:
    """A torchvision model as a Backbone; `weights` gives the preprocessing and the labels."""
    model.eval()
    # The pretrained Inception and GoogLeNet undo ImageNet's normalisation themselves.
    if not random and hasattr(model, "transform_input"):
        model.transform_input = True
    head = last_linear(model)
    trunk: Trunk = HeadInputTrunk(model, head) if head else PlainTrunk(model)
    is_vit = hasattr(model, "class_token")
    late = ("avgpool", "model.avgpool") if _ends_in_avgpool(model, head) else None
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
        preprocess_of(weights),
        layout=layout,
        labels=labels,
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


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])
