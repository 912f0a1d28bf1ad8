"""Eval mode for the length of a block: every measurement runs in it and leaves a network in the mode that it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module, only: Callable[[nn.Module], bool] | None = None) -> Iterator[Callable[[], None]]:
    """The module and all inside in eval mode; every mode is put back whatever happens in the block.

    only: of which modules inside (None: of all). Gives a function that puts the modes back before the block ends.
    """
    modes = {m: m.training for m in module.modules() if only is None or only(m)}

    def restore() -> None:
        for m, training in modes.items():
            if m.training != training:  # a tracer would follow an assignment that changes nothing
                m.training = training

    try:
        for m, training in modes.items():
            if training:
                m.training = False
        yield restore
    finally:
        restore()
