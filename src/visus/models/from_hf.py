"""transformers: `hf:OWNER/NAME`, from the local cache or, with permission, the hub."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from visus.errors import DataError, OfflineError, SpecError
from visus.models.assemble import assemble
from visus.models.base import Backbone
from visus.models.heads import UNREAD, declared, names_of, said
from visus.models.hub import PATIENCE, allow, first_line, hub_cache, hub_url
from visus.models.points import Layout
from visus.models.pooling_hf import pooling, whole
from visus.models.preprocess_hf import preprocess_of
from visus.models.registry import random_init, source
from visus.models.trunk import HFTrunk
from visus.progress import log
from visus.spec import Spec, check_options

# Dual encoders whose image tower is taken: model type -> class in transformers.
TOWERS = {
    "clip": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "metaclip_2": "MetaClip2VisionModel",
    "chinese_clip": "ChineseCLIPVisionModel",
}
TOWER_TYPES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
BROKEN = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError, pickle.UnpicklingError)


@source("hf")
def load_hf(spec: Spec, *, download: bool) -> Backbone:
    """A vision model of transformers from the Hugging Face hub or its local cache."""
    check_options(spec, ("weights",))
    return load(spec, spec.name, download=download)


def load(spec: Spec, where: str, *, download: bool) -> Backbone:
    """A transformers model from a folder or a repository `where`.

    Raises SpecError for a model that sees no images, DataError for damaged files or weights that do not fit, OfflineError.
    """
    random = random_init(spec)
    kwargs: dict[str, Any] = {"local_files_only": True}
    if spec.revision:
        kwargs["revision"] = spec.revision
    if Path(where).is_dir():
        return _build(spec.text, where, random=random, kwargs=kwargs)
    try:
        return _build(spec.text, where, random=random, kwargs=kwargs)
    except OfflineError as error:
        log(f"{where} is not in the local cache: {error}")
    place = f"into the Hugging Face cache ({hub_cache()}), or give the path of its folder instead"
    allow(f"{where} (Hugging Face)", hub_url(), download=download, place=place)
    return _build(spec.text, where, random=random, kwargs={**kwargs, "local_files_only": False})


def _build(text: str, where: str, *, random: bool, kwargs: dict[str, Any]) -> Backbone:
    from huggingface_hub import constants
    from safetensors import SafetensorError

    patience = constants.HF_HUB_ETAG_TIMEOUT
    try:
        constants.HF_HUB_ETAG_TIMEOUT = int(PATIENCE)
        config, cls, classifies = _choose(text, where, kwargs)
        model = cls(config) if random else _pretrained(cls, config, where, kwargs)
        preprocess = preprocess_of(where, config, kwargs)
    except OSError as error:
        if Path(where).is_dir():
            raise DataError(f"{where} cannot be read as a transformers model: {first_line(error)}") from error
        raise OfflineError(
            f"{where} could not be fetched or read from the Hugging Face cache: {first_line(error)}"
        ) from error
    except (*BROKEN, SafetensorError) as error:
        raise DataError(f"{where} cannot be read as a transformers model: {first_line(error)}") from error
    finally:
        constants.HF_HUB_ETAG_TIMEOUT = patience
    return wrap(model, text, preprocess, classifies=classifies, random=random)


def _choose(text: str, where: str, kwargs: dict[str, Any]) -> tuple[Any, Any, bool]:
    """The (vision) config, the model class, and whether it classifies."""
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    config = AutoConfig.from_pretrained(where, trust_remote_code=False, **kwargs)
    kind = config.model_type
    architecture = (config.architectures or [""])[0]
    names = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(kind, ())
    names = (names,) if isinstance(names, str) else tuple(names or ())
    if architecture in names:
        return config, getattr(transformers, architecture), True
    if kind in TOWERS:
        return config.vision_config, getattr(transformers, TOWERS[kind]), False
    if kind in TOWER_TYPES:
        return config, getattr(transformers, TOWER_TYPES[kind]), False
    name = MODEL_MAPPING_NAMES.get(kind)
    if name is None or (not names and not hasattr(config, "num_channels")):
        raise SpecError(f"{text!r} is a {kind} model, which visus cannot use as a vision backbone; give an image model")
    name = name if isinstance(name, str) else name[0]
    return config, getattr(transformers, name), False


def _pretrained(cls: Any, config: Any, where: str, kwargs: dict[str, Any]) -> Any:
    """from_pretrained that refuses weights that do not fit (transformers itself fills gaps with random numbers)."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = cls.from_pretrained(
            where, config=config, output_loading_info=True, dtype=torch.float32, **kwargs
        )
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    missing = sorted(k for k in report["missing_keys"] if "pooler" not in k)
    wrong = sorted(str(k[0] if isinstance(k, tuple) else k) for k in report.get("mismatched_keys", ()))
    if missing or wrong:
        names = [*missing, *wrong]
        raise DataError(
            f"the weights of {where} do not fit its config: {len(missing)} tensors missing, {len(wrong)} of another shape ({', '.join(names[:3])})"
        )
    return model


def wrap(model: Any, text: str, preprocess: Any, *, classifies: bool, random: bool) -> Backbone:
    """A transformers model as a Backbone: layout by what its config declares, labels by id2label."""
    config = model.config
    base = ""
    if classifies:
        base = "vision_model" if hasattr(model, "vision_model") else model.base_model_prefix
    inner = model.get_submodule(base) if base else model
    vision = getattr(config, "vision_config", None) or config
    pool = pooling(inner, vision)
    head = declared({"problem_type": config.problem_type}) if classifies else "classes"
    if config.num_labels == 1 and head == "labels":
        head = "classes"
    info = {"library": "transformers", "architecture": type(model).__name__}
    names = None
    if head is None:
        classifies = False
        info[UNREAD] = (
            f"ends in a regression head of {config.num_labels:,} number{'s' if config.num_labels > 1 else ''}"
        )
    elif classifies:
        said(head, config.num_labels, spec=text, declared=bool(config.problem_type))
        given = [str(config.id2label.get(i, f"class {i}")) for i in range(config.num_labels)]
        names = names_of(config.num_labels, given, spec=text, sure=random)
    trunk = HFTrunk(model, base, pool, classifies=classifies, beside=whole(inner, vision))
    trunk.binary = names is not None and config.num_labels == 1
    return assemble(
        text,
        trunk,
        preprocess,
        root=f"model.{base}" if base else "model",
        layout=Layout(channels_last=False),
        labels=names,
        random=random,
        info=info,
        head=head or "classes",
    )
