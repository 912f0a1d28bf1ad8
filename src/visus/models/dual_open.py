"""`load_dual`: a spec string -> DualEncoder; a repository of the hub is fetched whole before it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from visus.arguments import checked
from visus.errors import OfflineError, SpecError
from visus.models.dual import DualEncoder
from visus.models.dual_folder import INDEX, KINDS, OPEN_CLIP, check_kind, kind_of, weight_files
from visus.models.dual_new import CONFIG, PROCESSOR, WEIGHTS
from visus.models.dual_text import SETTINGS, TOKENIZER
from visus.models.families import DUALS, model_spec, opener
from visus.models.folders import read_config
from visus.models.hub import first_line, hub_file, hub_url, reachable
from visus.models.registry import random_init
from visus.models.shipped import shipped_folder
from visus.paths import expanded
from visus.spec import Spec, check_options


@checked
def load_dual(spec: str, *, seed: int = 0, download: bool = False, place: str = "cpu") -> DualEncoder:
    """A dual encoder by its spec; it comes in eval mode, on the CPU, gradients off.

    spec: `visus:emoji-clip`, `hf:OWNER/NAME`, `openclip:ARCH@TAG`, or a folder as transformers or open_clip keep them; `?weights=none`
    gives a random initialisation. seed: of that; the global generator is not touched. download: permission to fetch what is missing.
    place: the device that encodes where none is named; weights come there when they are needed.
    Raises SpecError for what is no dual encoder, DataError for files that are missing, damaged or do not fit together, OfflineError
    where something must be fetched and cannot or may not be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return replace(_open(model_spec(spec), download=download), place=place)


def is_dual(spec: str, *, download: bool = False) -> bool:
    """Whether the spec names a dual encoder, by its configuration alone; False for one of the hub that is not on this machine.

    download: permission to fetch that configuration.
    """
    return _names_dual(model_spec(spec), download=download)


def _open(spec: Spec, *, download: bool) -> DualEncoder:
    if _is_file(spec):
        return _opened("open_clip file", spec, download=download)
    check_options(spec, ("weights", "split") if spec.scheme == "visus" else ("weights",))
    random = random_init(spec)
    if spec.scheme == "openclip":
        return _opened("open_clip name", spec, random=random, download=download)
    folder = _fetched(spec, random=random, download=download) if spec.scheme == "hf" else _folder(spec)
    if (folder / OPEN_CLIP).is_file() and spec.scheme != "hf":
        return _opened("open_clip folder", spec, folder, random=random)
    return _opened("transformers folder", spec, folder, random=random)


def _opened(name: str, *args: Any, **kwargs: Any) -> DualEncoder:
    found: DualEncoder = opener(DUALS, name)(*args, **kwargs)
    return found


def _names_dual(spec: Spec, *, download: bool) -> bool:
    if spec.scheme == "visus":
        return spec.name == "emoji-clip"
    if spec.scheme == "hf":
        try:
            folder = hub_file(spec.name, (CONFIG,), download=download, revision=spec.revision).parent
        except (OfflineError, ValueError):  # ValueError: no name that a repository could have
            return False
    elif spec.scheme:
        return spec.scheme == "openclip"
    elif _is_file(spec):
        return True
    else:
        folder = expanded(spec.name)
        if (folder / OPEN_CLIP).is_file():
            return True
    return (folder / CONFIG).is_file() and kind_of(read_config(folder)) in KINDS


def _is_file(spec: Spec) -> bool:
    """Whether the spec is a file of weights for an architecture of open_clip."""
    return not spec.scheme and spec.options.get("arch", "").startswith("openclip:") and expanded(spec.name).is_file()


def _folder(spec: Spec) -> Path:
    if spec.scheme == "visus":
        return shipped_folder(spec)
    path = expanded(spec.name)
    if spec.scheme or not path.is_dir():
        raise SpecError(
            f"{spec.text!r} is no folder of a dual encoder; give such a folder, visus:emoji-clip, hf:OWNER/NAME or openclip:ARCH@TAG"
        )
    return path


def _fetched(spec: Spec, *, random: bool, download: bool) -> Path:
    """The snapshot of a repository in the Hugging Face cache, with all that a dual encoder needs; safetensors alone."""
    try:
        folder = hub_file(spec.name, (CONFIG,), download=download, revision=spec.revision).parent
    except ValueError as error:
        raise SpecError(f"{spec.text!r} names no repository: {first_line(error)}; write hf:OWNER/NAME") from error
    check_kind(spec, read_config(folder))

    def fetch(*names: str) -> str:
        found = next((n for n in names if (folder / n).is_file()), None)
        return found or hub_file(spec.name, names, download=download, revision=folder.name).name

    fetch(TOKENIZER)
    if not random and fetch(WEIGHTS, INDEX) == INDEX:
        for name in weight_files(folder):
            fetch(name)
    for name in (SETTINGS, PROCESSOR):  # not every repository has them
        if not (folder / name).is_file() and download and reachable(hub_url()):
            try:
                fetch(name)
            except OfflineError:
                continue
    return folder
