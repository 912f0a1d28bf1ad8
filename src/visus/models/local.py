"""A path: a checkpoint folder (transformers, timm, open_clip or what `save_tuned` wrote), or one file of weights with `?arch=timm:NAME`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.checkpoint import choose, opened, take_chosen
from visus.models.heads import tags_beside
from visus.models.registry import random_init, source
from visus.models.weights_file import load_file
from visus.paths import expanded
from visus.progress import note
from visus.spec import Spec, check_options

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "model.pt", "model.pth")


@source("")
def load_local(spec: Spec, *, download: bool) -> Backbone:
    """A model from a folder or a file on this machine. Raises DataError for what cannot be read, SpecError for a missing ?arch=."""
    path = expanded(spec.name)
    if path.is_file():
        return load_file(spec, path)
    if (path / "open_clip_config.json").is_file():
        return _open_clip_folder(spec, path)
    if (path / "adapter_config.json").is_file():
        from visus.models.adapters import load_adapted

        return load_adapted(spec, path, download=download)
    if not (path / "config.json").is_file() and (step := trained_step(path)) is not None:
        return load_local(replace(spec, name=str(step)), download=download)
    config = read_config(path)
    if "visus" in config:
        from visus.models.tuned import load_tuned

        check_options(spec, ("weights",))
        return load_tuned(spec, path, config, download=download)
    if "architecture" in config:
        return _timm_folder(spec, path, config)
    if "model_type" in config:
        from visus.models import from_hf

        check_options(spec, ("weights",))
        return from_hf.load(spec, str(path), download=False)
    raise DataError(f"{path}: config.json names neither a transformers model_type nor a timm architecture")


def trained_step(path: Path) -> Path | None:
    """Which checkpoint-N of a Trainer's run to load: the best by trainer_state.json where that is there, else the newest; it is noted.

    None for a folder without any.
    """
    steps = {
        int(p.name.rpartition("-")[2]): p for p in path.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()
    }
    steps = {n: p for n, p in steps.items() if (p / "config.json").is_file() or (p / "adapter_config.json").is_file()}
    if not steps:
        return None
    newest = steps[max(steps)]
    try:
        best = json.loads((newest / "trainer_state.json").read_text("utf-8")).get("best_model_checkpoint")
    except (OSError, ValueError, AttributeError):
        best = None
    chosen = {p.name: p for p in steps.values()}.get(str(best or "").replace("\\", "/").rpartition("/")[2])
    why = "the best by its trainer_state.json" if chosen else "the newest"
    chosen = chosen or newest
    if len(steps) > 1:
        names = ", ".join(steps[n].name for n in sorted(steps))
        note(
            f"{path} is a training run with {names}: {chosen.name} was taken, {why}; give a checkpoint's own path for another"
        )
    return chosen


def read_config(path: Path) -> dict[str, Any]:
    """A checkpoint folder's config.json. Raises DataError when it is missing or damaged."""
    try:
        body = json.loads((path / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} is no checkpoint folder: it holds no config.json (transformers, timm) and no open_clip_config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'config.json'} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise DataError(f"{path / 'config.json'} holds no settings; save the model again")
    return body


def _open_clip_folder(spec: Spec, path: Path) -> Backbone:
    from visus.models import from_openclip

    check_options(spec, ("weights",))
    random = random_init(spec)
    return from_openclip.wrap(from_openclip.open_folder(path, random=random), spec.text, random=random)


def _timm_folder(spec: Spec, path: Path, config: Mapping[str, Any]) -> Backbone:
    from visus.models import from_timm

    check_options(spec, ("weights",))
    random = random_init(spec)
    name = str(config["architecture"])
    from_timm.architecture(name)
    overlay = dict(config.get("pretrained_cfg") or {})
    kwargs = dict(config.get("model_args") or {})
    classes = config.get("num_classes", overlay.get("num_classes"))
    if classes is not None:
        kwargs.setdefault("num_classes", int(classes))
    if config.get("global_pool") is not None:
        kwargs.setdefault("global_pool", config["global_pool"])
    model = from_timm.create(name, pretrained=False, pretrained_cfg_overlay=overlay, **kwargs)
    if not random:
        file = next((path / n for n in WEIGHTS if (path / n).is_file()), None)
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
    return from_timm.wrap(model, spec.text, random=random, labels=labels or (), config=config)
