"""`load_backbone`: a spec string -> Backbone."""

from __future__ import annotations

import torch

from visus.arguments import checked
from visus.errors import SpecError
from visus.models.base import Backbone
from visus.models.families import SCHEMES, SOURCES, model_spec, opener
from visus.paths import expanded
from visus.spec import Spec, unknown


@checked
def load_backbone(spec: str, *, seed: int = 0, download: bool = False) -> Backbone:
    """Load a model by its spec string; it comes in eval mode, on the CPU, gradients off.

    spec: `timm:NAME`, `hf:OWNER/NAME`, `torchvision:NAME@WEIGHTS`, `openclip:ARCH@TAG`, `visus:NAME`, or the path of a checkpoint
    folder or file; `?weights=none` behind it gives a random initialisation. seed: of that initialisation; the global generator is
    not touched. download: permission to fetch what is not on this machine.
    Raises SpecError for an unknown name (the nearest are listed) or option, DataError for a checkpoint that cannot be used,
    OfflineError, within 5 s, where something must be fetched and cannot or may not be.
    """
    parsed = _parse(str(spec))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load(parsed, download=download)


def load(spec: Spec, *, download: bool) -> Backbone:
    """A parsed spec as a Backbone; a random initialisation draws from the global generator as it stands."""
    found: Backbone = opener(SOURCES, spec.scheme)(spec, download=download)
    return found


def random_init(spec: Spec) -> bool:
    """Whether the spec says `?weights=none`; raises SpecError for another value."""
    value = spec.options.get("weights")
    if value not in (None, "none"):
        raise SpecError(
            f"weights={value!r} in {spec.text!r} is not known; the only choice is ?weights=none, a random initialisation"
        )
    return value == "none"


def _parse(text: str) -> Spec:
    parsed = model_spec(text)
    if parsed.scheme or _exists(parsed.name):
        return parsed
    # A path with a '?' in its own name is taken as it stands.
    if _exists(text):
        return Spec("", text, None, {}, text)
    if any(mark in parsed.name for mark in "/\\~") or parsed.name.startswith("."):
        raise SpecError(f"there is no file or folder {parsed.name!r}; check the path")
    head, colon, _ = text.partition(":")
    if colon:
        raise unknown("kind of model", head, SCHEMES, "or a path to a checkpoint")
    raise SpecError(
        f"unknown model {text!r}; write timm:{text}, torchvision:{text}, hf:OWNER/NAME, openclip:ARCH@TAG or a path"
    )


def _exists(text: str) -> bool:
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # a name too long for the file system, or one with a null byte
        return False
