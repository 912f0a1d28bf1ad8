"""Models that come with the lab: `visus:effnet-lite0` (real ImageNet weights, no network)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.families import SHIPPED, opener
from visus.models.registry import load
from visus.spec import Spec, check_options, unknown

# What `make models` trains, and on which splits of visus:emoji, the default first.
TRAINED = {"emoji-vit": ("artist",), "emoji-clip": ("artist", "concept")}


def load_shipped(spec: Spec, *, download: bool) -> Backbone:
    """A model that ships with the lab or with one of its dependencies."""
    if spec.name not in SHIPPED:
        raise unknown("model of visus:", spec.name, SHIPPED)
    found: Backbone = opener(SHIPPED, spec.name)(spec, download=download)
    return found


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


def load_trained(spec: Spec, *, download: bool) -> Backbone:
    """A model that was trained here, as any checkpoint folder."""
    check_options(spec, ("weights", "split"))
    options = {name: value for name, value in spec.options.items() if name != "split"}
    return load(Spec("", str(shipped_folder(spec)), None, options, spec.text), download=False)
