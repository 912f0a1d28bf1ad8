"""The one way to name what is imported only when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def named(path: str) -> Any:
    """What 'package.module:name' names; its module is imported on the first call.

    For a family of which a run needs one (an adapter for timm, for transformers, for open_clip: each is seconds), and for the few
    calls of a contract into a room below it.
    """
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
