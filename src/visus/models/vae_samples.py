"""Codes that a VAE of somebody else's draws itself: by a method of its own, or on the way of its forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from visus.errors import DataError
from visus.models.vae_theirs import required

METHODS = r"_*((re)?param|sampl|draw)"  # how people call what draws z from mean and spread
ON_IMAGES = r"loss|elbo|objective|recon"  # and what goes from images through z on its way
DRAWS = 32


def sampling_methods(module: nn.Module) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Methods of the module's own classes that may draw z from two tensors."""
    for name in _methods(module, METHODS, takes=2):
        yield name, getattr(module, name)


def walks(module: nn.Module) -> Iterator[str]:
    """Names of the methods of the module's own classes that may take images through z: forward, then its loss and the like."""
    yield "forward"
    yield from _methods(module, rf".*({ON_IMAGES})", takes=1)


def _methods(module: nn.Module, pattern: str, *, takes: int) -> Iterator[str]:
    """Names of methods of the module's own classes, by a pattern, that need so many arguments."""
    for kind in type(module).__mro__:
        if kind is nn.Module:
            return
        for name in vars(kind):
            method = getattr(module, name, None)
            if (
                re.match(pattern, name.lower())
                and callable(method)
                and not isinstance(method, nn.Module)
                and len(required(method) or ()) == takes
            ):
                yield name


def draws_of(draw: Callable[[], Any], shape: torch.Size) -> torch.Tensor | None:
    """DRAWS results of a shape, or None where it draws something else, or the same at every call."""
    draws = []
    for _ in range(DRAWS):
        try:
            found = draw()
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return None  # a method of that name with another purpose
        found = found[0] if isinstance(found, tuple | list) and found else found
        if not isinstance(found, torch.Tensor) or found.shape != shape:
            return None
        draws.append(found)
        if len(draws) == 2 and torch.equal(*draws):
            return None
    return torch.stack(draws)


def draws_on_the_way(module: nn.Module, run: Callable[[], Any], shape: torch.Size) -> torch.Tensor | None:
    """The z of passes of images through the module, float [DRAWS, b, ...]: the first input of decode or of a part of
    the module that changes from call to call.

    shape: of the mean. None where `run` asks for more than images, or nothing of as many numbers changes.
    """
    size = shape[1:].numel()

    def walk() -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []

        def keep(_: Any, args: tuple[Any, ...]) -> None:
            for a in args[:1]:
                if isinstance(a, torch.Tensor) and a.ndim and len(a) == shape[0] and a[0].numel() == size:
                    seen.append(a.reshape(shape).clone())

        def decode(*args: Any, **named: Any) -> Any:
            keep(None, args)
            return own(*args, **named)

        own: Any = module.decode
        hooks = [m.register_forward_pre_hook(keep) for m in module.modules() if m is not module]
        before = module.__dict__.get("decode")
        module.__dict__["decode"] = decode
        try:
            run()
        except DataError:
            return []  # no witness
        finally:
            del module.__dict__["decode"]
            if before is not None:
                module.__dict__["decode"] = before
            for hook in hooks:
                hook.remove()
        return seen

    one, other = walk(), walk()
    if len(one) != len(other):
        return None
    at = next((k for k, (a, b) in enumerate(zip(one, other, strict=True)) if not torch.equal(a, b)), None)
    if at is None:
        return None
    draws = [w[at] for w in (walk() for _ in range(DRAWS)) if len(w) == len(one)]
    return torch.stack(draws) if len(draws) == DRAWS else None
