"""What looks: a spec string -> Backbone, with named taps, labels and its own preprocessing.

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.models.base import Backbone, Preprocess, Tap
    from visus.models.dual import DualEncoder, load_dual
    from visus.models.registry import load_backbone
    from visus.models.tapping import TappedModule, forward_taps

_HOMES = {
    "load_backbone": "visus.models.registry",
    "load_dual": "visus.models.dual",
    "DualEncoder": "visus.models.dual",
    "Backbone": "visus.models.base",
    "Tap": "visus.models.base",
    "Preprocess": "visus.models.base",
    "TappedModule": "visus.models.tapping",
    "forward_taps": "visus.models.tapping",
}
__all__ = ["Backbone", "DualEncoder", "Preprocess", "Tap", "TappedModule", "forward_taps", "load_backbone", "load_dual"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus.models' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
