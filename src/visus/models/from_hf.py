"""transformers: `hf:OWNER/NAME`, from the local cache or, with permission, the hub."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, MODEL_MAPPING_NAMES
from transformers.utils import logging

from visus.errors import DataError, OfflineError, SpecError
from visus.models.assemble import assemble
from visus.models.base import Backbone
from visus.models.checkpoint import choose, read
from visus.models.checkpoint import opened as contents_of
from visus.models.folders import OPEN_CLIP_WEIGHTS, TIMM_WEIGHTS, read_config
from visus.models.heads import UNREAD, declared, names_of, said
from visus.models.hub import PATIENCE, allow, first_line, hub_cache, hub_file, hub_url
from visus.models.points import Layout
from visus.models.pooling_hf import pooling, whole
from visus.models.preprocess import Preprocess
from visus.models.preprocess_hf import preprocess_of
from visus.models.registry import load as load_spec
from visus.models.registry import random_init
from visus.models.trunk import HeadInputTrunk, HFTrunk, Logits, Trunk
from visus.progress import caution, log, note
from visus.spec import Spec, check_options

# Dual encoders whose image tower is taken: model type -> class in transformers.
TOWERS = {
    "clip": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "metaclip_2": "MetaClip2VisionModel",
    "chinese_clip": "ChineseCLIPVisionModel",
}
# Of a dual encoder only the image tower is a backbone: nobody has to be told that its text tower is left out.
OTHER_TOWER = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")
TOWER_TYPES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
BROKEN = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError, pickle.UnpicklingError)


def load_hf(spec: Spec, *, download: bool) -> Backbone:
    """A vision model of transformers from the Hugging Face hub or its local cache."""
    check_options(spec, ("weights",))
    if (folder := _foreign(spec, download=download)) is not None:
        return load_spec(Spec("", str(folder), None, spec.options, spec.text), download=download)
    return load(spec, spec.name, download=download)


def load_folder(spec: Spec, folder: Path, *, download: bool) -> Backbone:
    """A folder that transformers wrote; nothing is fetched."""
    check_options(spec, ("weights",))
    return load(spec, str(folder), download=False)


def _foreign(spec: Spec, *, download: bool) -> Path | None:
    """The snapshot of a repository that timm or open_clip wrote, with its weights; None for others, and for one that is not cached."""
    try:
        file = hub_file(spec.name, ("config.json", "open_clip_config.json"), download=False, revision=spec.revision)
    except (OfflineError, ValueError):  # ValueError: no name that a repository could have
        return None
    folder = file.parent
    names: tuple[str, ...] = OPEN_CLIP_WEIGHTS
    if file.name == "config.json":
        body, names = read_config(folder), TIMM_WEIGHTS
        if "model_type" in body or "architecture" not in body:
            return None
    if not random_init(spec):
        hub_file(spec.name, names, download=download, revision=folder.name)
    return folder


@dataclass(frozen=True)
class Opened:
    """A model of transformers: whether it classifies, and its preprocessing."""

    model: Any
    preprocess: Preprocess
    classifies: bool


def load(spec: Spec, where: str, *, download: bool) -> Backbone:
    """A transformers model from a folder or a repository `where`.

    Raises SpecError for a model that sees no images, DataError for damaged files or weights that do not fit, OfflineError.
    """
    random = random_init(spec)
    found = opened(spec.text, where, random=random, revision=spec.revision, download=download)
    return wrap(found.model, spec.text, found.preprocess, classifies=found.classifies, random=random)


def opened(
    text: str,
    where: str,
    *,
    random: bool = False,
    revision: str | None = None,
    head: int | None = None,
    beside: Path | None = None,
    download: bool = False,
) -> Opened:
    """The model of a folder or a repository `where`, not yet a Backbone; errors as `load` has them.

    head: build it to classify into so many classes, with a classifier that is still to be filled. beside: a folder whose config.json and
    preprocessor_config.json go before those of `where`.
    """
    kwargs: dict[str, Any] = {"local_files_only": True}
    if revision:
        kwargs["revision"] = revision
    build = partial(_build, text, where, random=random, head=head, beside=beside)
    if Path(where).is_dir():
        return build(kwargs=kwargs)
    try:
        return build(kwargs=kwargs)
    except OfflineError as error:
        log(f"{where} is not in the local cache: {error}")
    place = f"into the Hugging Face cache ({hub_cache()}), or give the path of its folder instead"
    allow(f"{where} (Hugging Face)", hub_url(), download=download, place=place)
    return build(kwargs={**kwargs, "local_files_only": False})


def _build(
    text: str, where: str, *, random: bool, head: int | None, beside: Path | None, kwargs: dict[str, Any]
) -> Opened:
    patience = constants.HF_HUB_ETAG_TIMEOUT
    try:
        constants.HF_HUB_ETAG_TIMEOUT = int(PATIENCE)
        config, cls, classifies = _choose(text, where, kwargs, head=head)
        if head is not None and beside is not None and (beside / "config.json").is_file():
            config.id2label = AutoConfig.from_pretrained(beside, trust_remote_code=False).id2label
        model = cls(config) if random else _pretrained(cls, config, where, kwargs, headless=head is not None)
        brought = beside is not None and (beside / "preprocessor_config.json").is_file()
        preprocess = preprocess_of(str(beside) if brought else where, config, {} if brought else kwargs)
    except OSError as error:
        if Path(where).is_dir():
            raise DataError(f"{where} cannot be read as a transformers model: {first_line(error)}") from error
        raise OfflineError(
            f"{where} could not be fetched or read from the Hugging Face cache: {first_line(error)}"
        ) from error
    except (*BROKEN, SafetensorError) as error:
        if "custom code" in str(error) or "trust_remote_code" in str(error):
            raise DataError(
                f"{where} needs code of its own (auto_map in its config.json), which visus does not run; give a model that transformers knows itself"
            ) from error
        raise DataError(f"{where} cannot be read as a transformers model: {first_line(error)}") from error
    finally:
        constants.HF_HUB_ETAG_TIMEOUT = patience
    return Opened(model, preprocess, classifies)


def _choose(text: str, where: str, kwargs: dict[str, Any], *, head: int | None) -> tuple[Any, Any, bool]:
    """The (vision) config, the model class, and whether it classifies; with `head`, into so many classes."""
    config = AutoConfig.from_pretrained(where, trust_remote_code=False, **kwargs)
    kind = config.model_type
    if kind == "timm_wrapper":  # only where its config has just been fetched
        raise SpecError(f"{text!r} is a model of timm, whose config is in the cache now: give the same command again")
    architecture = (config.architectures or [""])[0]
    names = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(kind, ())
    names = (names,) if isinstance(names, str) else tuple(names or ())
    if head is not None:
        if not names:
            raise SpecError(f"{text!r} brings a classifier, and {kind} has none in transformers; give an image model")
        config.num_labels = head
        return config, getattr(transformers, architecture if architecture in names else names[0]), True
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


def _pretrained(cls: Any, config: Any, where: str, kwargs: dict[str, Any], *, headless: bool = False) -> Any:
    """from_pretrained that refuses weights that do not fit (transformers itself fills gaps with random numbers).

    Names with what torch.compile, DataParallel or a training wrapper put before them are taken without it. headless: the classifier may
    lack, or be of another size.
    """
    model, missing, wrong = _from(cls, config, where, kwargs, headless=headless)
    if missing and Path(where).is_dir() and (tensors := _unwrapped(Path(where), set(model.state_dict()))):
        model, missing, wrong = _from(cls, config, None, {"state_dict": tensors}, headless=headless)
    if missing or wrong:
        names = [*missing, *wrong]
        raise DataError(
            f"the weights of {where} do not fit its config: {len(missing)} tensors missing, {len(wrong)} of another shape ({', '.join(names[:3])})"
        )
    return model


def _unwrapped(folder: Path, names: set[str]) -> dict[str, torch.Tensor]:
    """The tensors of a folder under the model's own names, where wrapping has put something before them; {} where it has not."""
    file = next((folder / n for n in FILES if (folder / n).is_file()), None)
    if file is None:
        return {}
    chosen = choose(contents_of(file), names, what=f"{file} into its config")
    return chosen.tensors if len(chosen.tensors.keys() & names) > len(read(file).keys() & names) else {}


def _from(
    cls: Any, config: Any, where: str | None, kwargs: dict[str, Any], *, headless: bool
) -> tuple[Any, list[str], list[str]]:
    """The model, the names that it misses, and those of another shape."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = cls.from_pretrained(
            where,
            config=config,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **kwargs,
        )
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
    wrong = sorted(str(k[0] if isinstance(k, tuple) else k) for k in report.get("mismatched_keys", ()))
    missing = sorted(k for k in report["missing_keys"] if "pooler.dense" not in k and k not in wrong)
    left = sorted(k for k in report.get("unexpected_keys", ()) if not k.startswith(OTHER_TOWER))
    if left:
        examples = f"{', '.join(left[:3])}{', ...' if len(left) > 3 else ''}"
        note(f"{where or 'the checkpoint'}: {len(left)} tensors are not of {cls.__name__} and left out ({examples})")
    if headless:
        inside = f"{model.base_model_prefix}."
        missing, wrong = ([k for k in names if k.startswith(inside)] for names in (missing, wrong))
    return model, missing, wrong


def wrap(model: Any, text: str, preprocess: Any, *, classifies: bool, random: bool) -> Backbone:
    """A transformers model as a Backbone: layout by what its config declares, labels by id2label."""
    config = model.config
    base = ""
    if classifies:
        base = "vision_model" if hasattr(model, "vision_model") else model.base_model_prefix
    whole_net = classifies and base not in dict(model.named_children())  # HGNetV2 and its kin hold no base model
    base = "" if whole_net else base
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
        known = config.id2label or {}
        if stray := [i for i in known if i not in range(config.num_labels)]:
            caution(
                f"{text} names outputs that it does not have ({', '.join(map(str, stray[:3]))}, of {config.num_labels:,}, counted from 0): "
                "these names are not used, and the others may be shifted; mend id2label in its config.json"
            )
        given = [str(known.get(i, f"class {i}")) for i in range(config.num_labels)] if known else None
        names = names_of(config.num_labels, given, spec=text, sure=random)
    trunk: Trunk = HFTrunk(model, base, pool, classifies=classifies, beside=whole(inner, vision))
    root = f"model.{base}" if base else "model"
    if whole_net:
        heads = [path for path, m in model.named_modules() if getattr(m, "out_features", None) == config.num_labels]
        if not heads:
            raise DataError(
                f"{text} ({type(model).__name__}) ends in no linear classifier, which visus could read; give another model"
            )
        trunk, root = HeadInputTrunk(Logits(model), f"net.{heads[-1]}"), "model.net"
    trunk.binary = names is not None and config.num_labels == 1
    read = _reads(trunk, base, config.num_labels) if names is not None and not whole_net else None
    backbone = assemble(
        text,
        trunk,
        preprocess,
        layout=Layout(channels_last=False, root=root),
        labels=names,
        random=random,
        info=info,
        head=head or "classes",
    )
    if read is not None and (found := read()):
        note(f"{text}: {found}")
    return backbone


def _reads(trunk: Trunk, base: str, classes: int) -> Callable[[], str]:
    """Watch the passes that follow; what it gives ends that, and says whether the classifier reads another vector than 'late' ('': the same)."""
    seen: dict[str, torch.Tensor] = {}
    inside = f"{base}."
    heads = [
        m
        for path, m in trunk.model.named_modules()
        if not path.startswith(inside) and getattr(m, "out_features", None) == classes
    ]
    handles = [trunk.pooled.register_forward_hook(lambda m, args, out: seen.update(late=out.detach()))]
    handles += (
        [heads[-1].register_forward_pre_hook(lambda m, args: seen.update(head=args[0].detach()))] if heads else []
    )

    def said() -> str:
        for handle in handles:
            handle.remove()
        late, head = seen.get("late"), seen.get("head")
        if late is None or head is None or (late.shape == head.shape and torch.allclose(late, head, 1e-4, 1e-5)):
            return ""
        widths = f"{late.shape[-1]:,} and {head.shape[-1]:,} numbers"
        return f"its features (late) are its base model's output, pooled; its classifier reads another vector made of it ({widths})"

    return said
