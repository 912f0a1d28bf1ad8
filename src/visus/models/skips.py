"""Skip connections of any library's network: found, chosen by name, and taken away without touching the model's source.

P7: in chosen blocks y = f(x) replaces y = x + f(x). Source of the question: Veit et al. 2016, "Residual networks behave like ensembles of
relatively shallow networks" (they drop f and keep x; here x is dropped and f kept); He et al. 2016, "Identity mappings".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from visus.errors import DataError, SpecError
from visus.models.base import Backbone
from visus.models.modes import eval_mode
from visus.models.points import INNER
from visus.models.streams import Flow, Observing, Removing, entering
from visus.spec import unknown

PREFIX = "NoSkip"


@dataclass(frozen=True)
class Skip:
    """A residual block.

    name: what a user types, formed as tap names are ('layer3.10', 'blocks.4.1', 'stages.2.blocks.3', 'blocks.7'). path: of the block inside
    the backbone's module. stage: what its name begins with ('layer3', 'blocks.4', 'stages.2', 'blocks'). depth: its place among
    the residual blocks, between 0 and 1. projection: whether the shortcut is not the identity (a ResNet's downsample).
    """

    name: str
    path: str
    stage: str
    depth: float
    projection: bool = False


def find_skips(backbone: Backbone) -> tuple[Skip, ...]:
    """Every residual block in forward order; none where the network has none.

    One picture of zeros goes through the network in eval mode, without gradients; a block is listed when it adds its own stream (its
    input, or what its shortcut makes of it) to something of the same shape computed from it, once or more often. A block
    that holds further residual blocks is not listed, they are. Weights, buffers, modes and hooks are as they were.
    """
    module = backbone.module
    first = next(iter(module.parameters()), torch.zeros(()))
    picture = torch.zeros(
        1, backbone.preprocess.channels, *backbone.preprocess.size, dtype=first.dtype, device=first.device
    )
    observing = Observing()
    with torch.no_grad(), eval_mode(module), observing.watching(module):
        backbone.output(picture)
    owners = observing.owners
    found = {p: owners[p] for p in owners if p and not any(other.startswith(f"{p}.") for other in owners)}
    taps = {tap.module: tap.name for tap in backbone.taps}
    skips = []
    for place, (path, projection) in enumerate(found.items(), 1):
        name = _name(path, taps)
        skips.append(Skip(name, path, _stage(name), place / (len(found) + 1), projection))
    return tuple(skips)


def choose_skips(skips: Sequence[Skip], text: str) -> tuple[Skip, ...]:
    """The residual blocks that a text names, in forward order.

    text: names and ranges separated by commas: 'layer3.10', 'layer3.10-layer3.20' (both ends included), a stage 'layer3' (all in it),
    'layer2-layer3', 'all'. Raises SpecError for an unknown name (nearest listed), an empty range or text, and a network without skips.
    """
    if not skips:
        raise SpecError("this network has no skip connections; choose a residual network or a transformer")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise SpecError("no residual block was named; write for example " + skips[len(skips) // 2].name)
    chosen: set[int] = set()
    for part in parts:
        chosen.update(_places(skips, part))
    return tuple(skips[i] for i in sorted(chosen))


@contextmanager
def without_skips(module: nn.Module, skips: Iterable[Skip]) -> Iterator[None]:
    """Inside the block, f(x) replaces x + f(x) in the given residual blocks of `module`, and nothing else changes.

    Of a transformer's block both additions go: x1 = attention(norm(x)), y = mlp(norm(x1)). Stochastic depth is off in these
    blocks: without a shortcut it would not skip the branch but erase the picture. Parameters and buffers stay, those of a projection
    that is no longer used too. Copies (copy.deepcopy) and traces made inside keep the removal; the blocks' class
    names begin with NoSkip, so that repr(module) tells. Raises DataError when a path is not in the module or the block cannot be
    changed, and, at the forward pass, when a block adds no skip.
    """
    known = dict(module.named_modules())
    swapped: list[tuple[nn.Module, type]] = []
    try:
        for skip in skips:
            block = known.get(skip.path)
            if block is None:
                raise DataError(f"there is no residual block at {skip.path}; find the skips of this very network")
            original: Any = type(block)
            if getattr(original, "without_skip", False):
                continue  # by a block of ours further out
            if isinstance(block, torch.jit.ScriptModule) or "forward" in vars(block):
                raise DataError(f"the skip of {skip.name} cannot be removed: its forward pass is compiled or patched")
            block.__class__ = _without_skip(original)
            swapped.append((block, original))
        yield
    finally:
        for block, original in swapped:
            block.__class__ = original


@cache
def _without_skip(original: Any) -> Any:
    """A class like `original` whose forward pass runs without its skips."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        removing = Removing(Flow(entering(args, kwargs)))
        with removing.projections(self), eval_mode(self, only=_drops_paths), removing:
            output = original.forward(self, *args, **kwargs)
        if not removing.removed:
            raise DataError(f"a {original.__name__} was to lose its skip but adds none; leave this block out")
        return output

    body = {"forward": forward, "without_skip": True, "__module__": original.__module__}
    return type(PREFIX + original.__name__, (original,), body)


def _drops_paths(module: nn.Module) -> bool:
    """Whether it is stochastic depth."""
    return type(module).__name__.endswith(("DropPath", "StochasticDepth"))


def _places(skips: Sequence[Skip], part: str) -> Sequence[int]:
    """The places that a name, a stage or a range stands for."""
    found = _named(skips, part)
    if found:
        return found
    pieces = part.split("-")  # names may hold a hyphen too
    for cut in range(1, len(pieces)):
        first, last = (_named(skips, "-".join(p).strip()) for p in (pieces[:cut], pieces[cut:]))
        if first and last:
            if last[-1] < first[0]:
                raise SpecError(f"{part!r} names no residual block: its end lies before its beginning; swap the two")
            return range(first[0], last[-1] + 1)
    names = [s.name for s in skips]
    known = [*names, *(s.stage for s in skips), "all"]
    wrong = part
    if len(pieces) == 2:
        wrong = next(p.strip() for p in pieces if not _named(skips, p.strip()))
    raise unknown("residual block", wrong, known, "only blocks with a skip connection count")


def _named(skips: Sequence[Skip], name: str) -> list[int]:
    if name == "all":
        return list(range(len(skips)))
    return [i for i, s in enumerate(skips) if name and (s.name == name or s.name.startswith(f"{name}."))]


def _name(path: str, taps: dict[str, str]) -> str:
    """The tap's name, continued by what follows it in the path."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        tap = taps.get(".".join(parts[:end]))
        if tap is not None:
            return ".".join([tap, *parts[end:]])
    return path.removeprefix("model.")


def _stage(name: str) -> str:
    """What a block's name begins with: without its number, and without the chain that a numbered stage keeps its blocks in."""
    parts = name.split(".")[:-1] or [name]
    if len(parts) > 1 and parts[-1] in INNER and parts[-2][-1].isdigit():
        parts = parts[:-1]
    return ".".join(parts)
