"""A trained classifier on disk: model.safetensors and a config.json that says which backbone it was made of; loads as any model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from visus.errors import DataError, SpecError, StoreError
from visus.models.base import Backbone
from visus.models.checkpoint import read, take_in
from visus.models.classifier import Classifier, classifier_of
from visus.models.families import model_spec
from visus.models.folders import read_config
from visus.models.hub import first_line
from visus.models.lora import has_lora
from visus.models.preprocess import Preprocess
from visus.models.registry import load_backbone, random_init
from visus.paths import atomic_path, expanded, write_text
from visus.spec import Spec, check_options

VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_tuned(
    folder: str | Path,
    classifier: Classifier,
    backbone: Backbone,
    *,
    classes: Sequence[str],
    info: Mapping[str, object] | None = None,
) -> Path:
    """Write the classifier to `folder`, which `load_backbone` then loads; returns the folder.

    backbone: what the classifier was made of; a local one must stay where it is. classes: names of the outputs. info: what can be
    written as JSON, for whoever reads the file. Each file is written whole or not at all. Raises DataError for LoRA adapters that are
    not merged and for names that do not fit the head, StoreError when the folder cannot be written.
    """
    folder = Path(folder)
    if has_lora(classifier):
        raise DataError("the classifier still has LoRA adapters; merge them (merge_lora) before it is saved")
    if len(classes) != classifier.head.out_features:
        raise DataError(f"{len(classes)} class names were given for a head of {classifier.head.out_features} outputs")
    config = {
        "visus": VERSION,
        "base": _lasting(backbone.spec),
        "transform_input": bool(getattr(classifier.trunk.model, "transform_input", False)),
        "preprocess": asdict(backbone.preprocess),
        "classes": [str(name) for name in classes],
        "info": dict(info or {}),
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"the info to save beside the model is no JSON: {first_line(error)}") from error
    # Clones: tensors that share memory (tied weights, views) are refused by safetensors.
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in classifier.state_dict().items()}
    try:
        # First the old settings go: new weights must never stand beside the classes of old ones.
        (folder / CONFIG).unlink(missing_ok=True)
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(tensors, str(temporary), metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise StoreError(
            f"cannot write {folder / WEIGHTS}: {first_line(error)}; free some space or choose another folder"
        ) from error
    write_text(folder / CONFIG, text)
    return folder


def load_tuned(spec: Spec, folder: Path, *, download: bool) -> Backbone:
    """What `save_tuned` wrote, as a Backbone with its classes as labels and the taps of its base.

    The base is built without its weights; all tensors come from the folder (none with ?weights=none). Raises DataError, naming the
    folder, for settings or weights that are damaged, missing or do not fit, and for a local base that is gone.
    """
    check_options(spec, ("weights",))
    config = read_config(folder)
    base, preprocess, classes = _settings(folder, config)
    seed = torch.initial_seed()  # load_backbone's, of a random initialisation
    backbone = _base(folder, base, seed=seed, download=download)
    # torchvision's pretrained Inception and GoogLeNet undo ImageNet's normalisation themselves; the random ones do not.
    inner: Any = backbone.module.model
    if hasattr(inner, "transform_input"):
        inner.transform_input = bool(config.get("transform_input"))
    classifier = classifier_of(backbone, len(classes), seed=seed)
    random = random_init(spec)
    if not random:
        if not (folder / WEIGHTS).is_file():
            raise DataError(f"{folder} holds a config and no weights; put {WEIGHTS} beside it, or add ?weights=none")
        take_in(classifier, read(folder / WEIGHTS), what=f"{folder / WEIGHTS} into {base}")
    found = classifier.backbone(replace(backbone, preprocess=preprocess), classes)
    return replace(found, spec=spec.text, random=random, info={**backbone.info, "base": base})


def _settings(folder: Path, config: Mapping[str, Any]) -> tuple[str, Preprocess, tuple[str, ...]]:
    if config.get("visus") != VERSION:
        raise DataError(
            f"{folder / CONFIG} is of version {config.get('visus')!r}, this lab reads {VERSION}; update visus"
        )
    try:
        given = config["preprocess"]
        values = {f.name: _tuples(given[f.name]) for f in fields(Preprocess) if f.name in given}
        preprocess = Preprocess(**values)
        base, classes = config["base"], config["classes"]
        if not isinstance(base, str) or not isinstance(classes, list) or len(classes) < 2:
            raise TypeError("base must be a spec and classes a list of at least two names")
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder / CONFIG} is incomplete or damaged ({first_line(error)}); save the model again"
        ) from error
    return base, preprocess, tuple(str(name) for name in classes)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _base(folder: Path, base: str, *, seed: int, download: bool) -> Backbone:
    """The backbone without its weights; a file of weights is read, as its tensors say how many classes the architecture has."""
    parsed = model_spec(base)
    if not parsed.scheme and not expanded(parsed.name).exists():
        raise DataError(
            f"{folder} was trained from {parsed.name}, which is gone; put it back, or write its new path as 'base' into {folder / CONFIG}"
        )
    bare = base if parsed.options else f"{base}?weights=none"
    try:
        return load_backbone(bare, seed=seed, download=download)
    except (SpecError, DataError) as error:
        raise DataError(f"the backbone of {folder} cannot be built: {error}") from error


def _lasting(spec: str) -> str:
    """The spec with a local path made absolute, so that it is found from every folder."""
    parsed = model_spec(spec)
    if parsed.scheme:
        return spec
    path = expanded(parsed.name).resolve()
    return f"{path}{spec[len(parsed.name) :]}"
