"""A path: a checkpoint folder (transformers, timm, open_clip or what `save_tuned` wrote), or one file of weights with `?arch=timm:NAME`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.families import FOLDERS, opener
from visus.models.folders import read_config, trained_step
from visus.models.weights_file import load_file
from visus.paths import expanded
from visus.spec import Spec


def load_local(spec: Spec, *, download: bool) -> Backbone:
    """A model from a folder or a file on this machine. Raises DataError for what cannot be read, SpecError for a missing ?arch=."""
    path = expanded(spec.name)
    if path.is_file():
        return load_file(spec, path)
    kind = _kind(path)
    if kind is None and (step := trained_step(path)) is not None:
        return load_local(replace(spec, name=str(step)), download=download)
    found: Backbone = opener(FOLDERS, kind or _by_config(path))(spec, path, download=download)
    return found


def _kind(folder: Path) -> str | None:
    """What wrote a folder, where a file's name tells."""
    if (folder / "open_clip_config.json").is_file():
        return "openclip"
    if (folder / "adapter_config.json").is_file():
        return "peft"
    return _by_config(folder) if (folder / "config.json").is_file() else None


def _by_config(folder: Path) -> str:
    """What wrote a folder, by its config.json. Raises DataError where that is missing, damaged or of something else."""
    config = read_config(folder)
    for key, kind in (("visus", "visus"), ("architecture", "timm"), ("model_type", "hf")):
        if key in config:
            return kind
    raise DataError(f"{folder}: config.json names neither a transformers model_type nor a timm architecture")
