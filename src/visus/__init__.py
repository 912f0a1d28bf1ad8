"""visus measures what a vision model has learned.

`visus.transfer(model=..., images=...)` and `visus transfer --model ... --images ...` are the same call. Everything is imported
when it is first needed, so that `import visus` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from visus.paths import shelter_caches
from visus.version import __version__ as __version__

if TYPE_CHECKING:
    from visus.app.api import clip, extract, predict, train, transfer, vae, vit
    from visus.errors import VisusError
    from visus.images import load_images
    from visus.models import load_backbone, load_dual
    from visus.result import Result

__all__ = [
    "Result",
    "VisusError",
    "clip",
    "extract",
    "load_backbone",
    "load_dual",
    "load_images",
    "predict",
    "train",
    "transfer",
    "vae",
    "vit",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "app.api": ["clip", "extract", "predict", "train", "transfer", "vae", "vit"],
        "errors": ["VisusError"],
        "images": ["load_images"],
        "models": ["load_backbone", "load_dual"],
        "result": ["Result"],
    },
)

# Before any part of the lab imports matplotlib or numba, which read their settings once.
shelter_caches()
