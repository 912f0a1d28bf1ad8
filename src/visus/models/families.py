"""The families of models, and which function of which file opens what: the one place where a file is imported only when it is asked for.

timm, transformers and open_clip cost seconds each, and a run needs one of them. `opener` imports the file behind a name; the functions of a
table take the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from visus.spec import Spec, parse_spec

# By the scheme of a spec, '' for a path: (spec, *, download) -> Backbone.
SOURCES = {
    "timm": "visus.models.from_timm:load_timm",
    "hf": "visus.models.from_hf:load_hf",
    "torchvision": "visus.models.from_torchvision:load_torchvision",
    "openclip": "visus.models.from_openclip:load_openclip",
    "visus": "visus.models.shipped:load_shipped",
    "": "visus.models.local:load_local",
}
SCHEMES = tuple(name for name in SOURCES if name)

# By the name of a model that comes with the lab: (spec, *, download) -> Backbone.
SHIPPED = {
    "effnet-lite0": "visus.models.effnet:load_effnet_lite0",
    "emoji-vit": "visus.models.shipped:load_trained",
    "emoji-clip": "visus.models.shipped:load_trained",
}

# By what wrote a folder: (spec, folder, *, download) -> Backbone.
FOLDERS = {
    "openclip": "visus.models.from_openclip:load_folder",
    "peft": "visus.models.adapters:load_adapted",
    "visus": "visus.models.tuned:load_tuned",
    "timm": "visus.models.timm_files:load_folder",
    "hf": "visus.models.from_hf:load_folder",
}

# By the library of ?arch=, of one file of weights: (spec, arch, contents) -> Backbone.
FILES = {
    "openclip": "visus.models.from_openclip:load_file",
    "torchvision": "visus.models.from_torchvision:load_file",
    "timm": "visus.models.timm_files:load_file",
}

# Dual encoders: by where they lie, (spec, ...) -> DualEncoder.
DUALS = {
    "transformers folder": "visus.models.dual_hf:open_folder",
    "open_clip folder": "visus.models.dual_openclip:open_folder",
    "open_clip name": "visus.models.dual_openclip:open_named",
    "open_clip file": "visus.models.dual_openclip:open_file",
}


def opener(table: Mapping[str, str], name: str) -> Callable[..., Any]:
    """The function that a table gives for a name, its file imported."""
    found: Callable[..., Any] = resolve_name(table[name])
    return found


def model_spec(text: str) -> Spec:
    """A model's spec string, parsed; errors as `parse_spec` has them."""
    return parse_spec(str(text), SCHEMES, revisions=("torchvision", "openclip", "hf"))
