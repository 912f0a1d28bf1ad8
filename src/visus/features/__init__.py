"""features: looking. ImageSet x Backbone -> Features in one streaming pass, any number of taps, a store that resumes."""

from __future__ import annotations

# Imported at once: `extract` is a function and the name of its module, and Python puts the module in the function's place when it is
# imported later than the package.
from visus.features.base import Features
from visus.features.extract import extract

__all__ = ["Features", "extract"]
