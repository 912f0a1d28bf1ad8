"""visus measures what a vision model has learned.

`visus.transfer(model=..., images=...)` and `visus transfer --model ... --images ...` are the same call. Everything is imported
when it is first needed, so that `import visus` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visus.paths import shelter_caches

__version__ = "0.1.0"

if TYPE_CHECKING:
    from visus.app.doors import clip, extract, predict, train, transfer, vae, vit
    from visus.errors import VisusError
    from visus.images import load_images
    from visus.models import load_backbone, load_dual
    from visus.result import Result

_HOMES = {
    "transfer": "visus.app.doors",
    "predict": "visus.app.doors",
    "extract": "visus.app.doors",
    "train": "visus.app.doors",
    "clip": "visus.app.doors",
    "vae": "visus.app.doors",
    "vit": "visus.app.doors",
    "load_images": "visus.images",
    "load_backbone": "visus.models",
    "load_dual": "visus.models",
    "Result": "visus.result",
    "VisusError": "visus.errors",
}
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

# Before any part of the lab imports matplotlib or numba, which read their settings once.
shelter_caches()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
