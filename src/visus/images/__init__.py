"""What is looked at: a spec string -> ImageSet (lazy pictures, labels, classes, groups, captions).

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from visus.images.base import ImageSet, Quarantined
    from visus.images.errors import DecodeError
    from visus.images.registry import load_images
    from visus.images.split import Splits

__all__ = ["DecodeError", "ImageSet", "Quarantined", "Splits", "load_images"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["ImageSet", "Quarantined"],
        "errors": ["DecodeError"],
        "registry": ["load_images"],
        "split": ["Splits"],
    },
)
