"""Adapters that peft saved (LoRA and its kin): a folder with adapter_config.json, over a base model of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visus.errors import DataError, MissingExtraError, SpecError
from visus.models.base import Backbone
from visus.models.checkpoint import read
from visus.models.from_hf import opened, wrap
from visus.models.hub import first_line
from visus.paths import expanded
from visus.progress import note
from visus.spec import Spec, check_options

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INSIDE = "base_model.model."
BROKEN = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError)


def load_adapted(spec: Spec, folder: Path, *, download: bool) -> Backbone:
    """The base model with the adapters merged into its weights, as a Backbone.

    Raises DataError for adapters that are damaged or do not fit their base, and for a base that is not a path or a cached repository,
    MissingExtraError without peft.
    """
    check_options(spec, ())
    try:
        # Left out of some installations.
        from peft import PeftConfig, get_peft_model
        from peft.utils import set_peft_model_state_dict
    except ImportError as error:
        raise MissingExtraError("adapters need peft; pip install peft") from error
    base = _base(folder)
    file = next((folder / n for n in WEIGHTS if (folder / n).is_file()), None)
    if file is None:
        raise DataError(f"{folder} holds {CONFIG} and no weights; put {WEIGHTS[0]} beside it")
    tensors = read(file)
    head = _head(tensors)
    base_model = opened(spec.text, base, head=head, beside=folder, download=download)
    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        with torch.random.fork_rng(devices=[]):  # peft draws what is then overwritten
            adapted = get_peft_model(base_model.model, config)
        report = set_peft_model_state_dict(adapted, tensors)
    except BROKEN as error:
        raise DataError(f"the adapters in {folder} do not fit {base}: {first_line(error)}") from error
    missing = [
        k for k in report.missing_keys if re.search(r"lora_|modules_to_save|\.ia3_|hada_|lokr_|oft_|boft_|vera_", k)
    ]
    strange = list(report.unexpected_keys)
    if missing or strange:
        names = ", ".join([*missing, *strange][:3])
        raise DataError(
            f"the adapters in {folder} do not fit {base}: {len(missing)} tensors missing, {len(strange)} unexpected ({names})"
        )
    if not callable(getattr(adapted, "merge_and_unload", None)):
        raise DataError(
            f"{folder} holds adapters of a kind that cannot be merged ({config.peft_type}); visus reads LoRA and its kin"
        )
    merged = adapted.merge_and_unload()
    note(
        f"{folder.name}: {len(tensors)} tensors of adapters ({getattr(config.peft_type, 'value', config.peft_type)}) merged into {base}"
    )
    return wrap(merged, spec.text, base_model.preprocess, classifies=base_model.classifies, random=False)


def _base(folder: Path) -> str:
    """Path or repository of the base model. A path is looked for as it stands, then from the adapters' own folder."""
    try:
        found = json.loads((folder / CONFIG).read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / CONFIG} cannot be read: {first_line(error)}") from error
    if not isinstance(found, str) or not found:
        raise DataError(f"{folder / CONFIG} names no base model (base_model_name_or_path); write its path there")
    for place in (expanded(found), folder / found):
        if place.is_dir():
            return str(place)
    if found.startswith(("/", ".", "~")) or found.count("/") != 1:
        raise DataError(
            f"the base model {found} of the adapters in {folder} is not there; put it back, or write its new path into {CONFIG}"
        )
    return found


def _head(tensors: Mapping[str, torch.Tensor]) -> int | None:
    """Classes of a classifier that was trained and saved beside the adapters; None for none. Raises SpecError for one in parts."""
    found = {
        k.removeprefix(INSIDE): int(v.shape[0])
        for k, v in tensors.items()
        if v.ndim == 2
        and k.endswith(".weight")
        and "lora_" not in k
        and re.search(r"(classifier|head|fc|score)(\.\w+)*\.weight$", k)
    }
    if len(set(found.values())) > 1:
        raise SpecError(
            f"the adapters hold a classifier in several parts ({', '.join(found)}), which visus does not read"
        )
    return next(iter(found.values()), None)
