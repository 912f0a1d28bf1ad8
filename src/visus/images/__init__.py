"""What is looked at: a spec string -> ImageSet (lazy pictures, labels, classes, groups, captions).

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.images.base import ImageSet, Quarantined
    from visus.images.decode import DecodeError
    from visus.images.registry import load_images
    from visus.images.split import Splits

_HOMES = {
    "load_images": "visus.images.registry",
    "ImageSet": "visus.images.base",
    "Quarantined": "visus.images.base",
    "Splits": "visus.images.split",
    "DecodeError": "visus.images.decode",
}
__all__ = ["DecodeError", "ImageSet", "Quarantined", "Splits", "load_images"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus.images' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
