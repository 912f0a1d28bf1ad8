"""What looks: a spec string -> Backbone, with named taps, labels and its own preprocessing.

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from visus.models.base import Backbone
    from visus.models.dual import DualEncoder
    from visus.models.dual_open import load_dual
    from visus.models.preprocess import Preprocess
    from visus.models.registry import load_backbone
    from visus.models.tap import Tap
    from visus.models.tapped_module import TappedModule

__all__ = ["Backbone", "DualEncoder", "Preprocess", "Tap", "TappedModule", "load_backbone", "load_dual"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Backbone"],
        "dual": ["DualEncoder"],
        "dual_open": ["load_dual"],
        "preprocess": ["Preprocess"],
        "registry": ["load_backbone"],
        "tap": ["Tap"],
        "tapped_module": ["TappedModule"],
    },
)
