"""visus measures what a vision model has learned.

`visus.transfer(model=..., images=...)` and `visus transfer --model ... --images ...` are the same call. Everything is imported
when it is first needed, so that `import visus` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from visus.app.api import STUDIES
from visus.paths import shelter_caches
from visus.version import __version__ as __version__

if TYPE_CHECKING:
    from visus.app.api import clip as clip
    from visus.app.api import extract as extract
    from visus.app.api import predict as predict
    from visus.app.api import train as train
    from visus.app.api import transfer as transfer
    from visus.app.api import vae as vae
    from visus.app.api import vit as vit
    from visus.errors import VisusError as VisusError
    from visus.images import load_images as load_images
    from visus.models import load_backbone as load_backbone
    from visus.models import load_dual as load_dual
    from visus.result import Result as Result

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "app.api": list(STUDIES),
        "errors": ["VisusError"],
        "images": ["load_images"],
        "models": ["load_backbone", "load_dual"],
        "result": ["Result"],
    },
)

# Before any part of the lab imports matplotlib or numba, which read their settings once.
shelter_caches()
