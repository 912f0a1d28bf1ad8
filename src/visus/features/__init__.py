"""features: looking. ImageSet x Backbone -> Features in one streaming pass, any number of taps, a store that resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visus.features.base import Features
    from visus.features.extract import extract

__all__ = ["Features", "extract"]

_HOMES = {"Features": "visus.features.base", "extract": "visus.features.extract"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: importing the room costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
