"""The sources of models by scheme, and `load_backbone`: a spec string -> Backbone.

Loaders fill LOADERS with the decorator `source`; their modules are imported when their scheme is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from visus.arguments import checked
from visus.errors import SpecError
from visus.paths import expanded
from visus.spec import Spec, parse_spec, unknown

if TYPE_CHECKING:
    from visus.models.base import Backbone

# A loader takes (spec, *, download: bool) and raises VisusError.
ModelLoader = Callable[..., "Backbone"]
LOADERS: dict[str, ModelLoader] = {}

# Where each scheme is registered; '' is a path.
HOMES = {
    "timm": "visus.models.from_timm",
    "hf": "visus.models.from_hf",
    "torchvision": "visus.models.from_torchvision",
    "openclip": "visus.models.from_openclip",
    "visus": "visus.models.shipped",
    "": "visus.models.local",
}
SCHEMES = tuple(name for name in HOMES if name)


def source(scheme: str) -> Callable[[ModelLoader], ModelLoader]:
    """Register a loader under a scheme."""

    def register(loader: ModelLoader) -> ModelLoader:
        LOADERS[scheme] = loader
        return loader

    return register


@checked
def load_backbone(spec: str, *, seed: int = 0, download: bool = False) -> Backbone:
    """Load a model by its spec string; it comes in eval mode, on the CPU, gradients off.

    spec: `timm:NAME`, `hf:OWNER/NAME`, `torchvision:NAME@WEIGHTS`, `openclip:ARCH@TAG`, `visus:NAME`, or the path of a checkpoint
    folder or file; `?weights=none` behind it gives a random initialisation. seed: of that initialisation; the global generator is
    not touched. download: permission to fetch what is not on this machine.
    Raises SpecError for an unknown name (the nearest are listed) or option, DataError for a checkpoint that cannot be used,
    OfflineError, within 5 s, where something must be fetched and cannot or may not be.
    """
    import torch

    parsed = _parse(str(spec))
    if parsed.scheme not in LOADERS:
        import_module(HOMES[parsed.scheme])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LOADERS[parsed.scheme](parsed, download=download)


def random_init(spec: Spec) -> bool:
    """Whether the spec says `?weights=none`; raises SpecError for another value."""
    value = spec.options.get("weights")
    if value not in (None, "none"):
        raise SpecError(
            f"weights={value!r} in {spec.text!r} is not known; the only choice is ?weights=none, a random initialisation"
        )
    return value == "none"


def _parse(text: str) -> Spec:
    parsed = parse_spec(text, SCHEMES, revisions=("torchvision", "openclip", "hf"))
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
