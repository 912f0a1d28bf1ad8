"""features: looking. ImageSet x Backbone -> Features in one streaming pass, any number of taps, a store that resumes.

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from visus.features.base import Features
    from visus.features.extraction import extract

__all__ = ["Features", "extract"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"base": ["Features"], "extraction": ["extract"]})
