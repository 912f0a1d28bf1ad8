"""Which tokens of a sequence stand for no patch: measured, since every architecture puts its class, register and detection tokens elsewhere.

Where a sequence first appears, tokens that are the same for two pictures hold nothing of a picture, and tokens that move when the class
token's own weights are moved are the class token. No table of model names is needed, and a model that nobody has seen is read right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import nn

# The last part of the names under which libraries keep tokens of their own; none is the name of a model.
DECLARED = {
    "cls": ("cls_token", "class_token", "class_embedding", "cls_embedding", "cls_tokens", "class_tokens"),
    "distillation": ("dist_token", "distillation_token"),
    "register": ("reg_token", "reg_tokens", "register_token", "register_tokens", "registers", "storage_tokens"),
    "detection": ("detection_tokens", "det_token", "det_tokens"),
}
STILL = 1e-6  # relative to a token's largest value: what differs by less is the same token for both pictures


@dataclass(frozen=True)
class Others:
    """The tokens of a sequence that are no patches. prefix, suffix: how many stand before and behind the patches; names: of them all, in order."""

    prefix: int = 0
    suffix: int = 0
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return self.prefix + self.suffix

    def cls(self, tokens: int) -> int | None:
        """Position of the class token in a sequence of so many tokens; None where there is none, or several."""
        at = [i for i, name in enumerate(self.names) if name == "cls"]
        if len(at) != 1:
            return None
        return at[0] if at[0] < self.prefix else tokens - len(self.names) + at[0]


@dataclass(frozen=True)
class Appearance:
    """Where a sequence is met: entering or leaving the module at `path`. shape: (tokens, width)."""

    path: str
    entering: bool
    shape: tuple[int, ...]


def others(
    trunk: nn.Module, found: Appearance, value: torch.Tensor, picture: torch.Tensor, *, declared: int = 0
) -> Others | None:
    """What stands beside the patches of a sequence; None where that is neither before them nor behind.

    value: the sequence of two pictures, [2, n, c], of which `picture` [1, channels, h, w] is one. declared: the number that the library
    gives, for a network in which no token depends on the picture (all weights zero).
    """
    still = _same(value[0], value[1])
    if bool(still.all()):
        return Others(declared, 0, ("cls", *("token",) * (declared - 1)) if declared else ())
    names = [""] * len(still)
    for kind, positions in _declared(trunk, found, picture):
        for at in positions:
            names[at] = names[at] or kind
    special = [bool(s) or bool(name) for s, name in zip(still, names, strict=True)]
    prefix = next(i for i, s in enumerate([*special, False]) if not s)
    suffix = next(i for i, s in enumerate([*reversed(special), False]) if not s)
    if prefix == len(special):  # class tokens in blocks of their own
        return Others(prefix, 0, tuple(_numbered(names)))
    if sum(special) != prefix + suffix:
        return None
    return Others(prefix, suffix, tuple(_numbered(names[:prefix] + names[len(names) - suffix :])))


def _numbered(names: Sequence[str]) -> Iterator[str]:
    """Registers, detection and nameless tokens with their number; a class token is what it is."""
    for i, name in enumerate(names):
        kind = name or "token"
        several = kind not in ("cls", "distillation")
        yield f"{kind} {sum((n or 'token') == kind for n in names[: i + 1])}" if several else kind


def _kept_as(name: str, kind: str) -> bool:
    """Whether a parameter of this name holds such tokens; of several stages they are numbered (cls_token_0, cls_token1)."""
    return name.rpartition(".")[2].rstrip("0123456789").rstrip("_") in DECLARED[kind]


def class_tokens(module: nn.Module) -> bool:
    """Whether the module keeps a class token among its weights."""
    return any(_kept_as(name, "cls") for name, _ in module.named_parameters())


def _declared(trunk: nn.Module, found: Appearance, picture: torch.Tensor) -> Iterator[tuple[str, list[int]]]:
    """(kind, positions of the tokens that move with these weights), of every kind of token that the network keeps weights of."""
    before = None
    for kind in DECLARED:
        for weights in [p for name, p in trunk.named_parameters() if p.ndim and _kept_as(name, kind)]:
            if before is None:
                before = again(trunk, found, picture)
            with _moved(weights):
                after = again(trunk, found, picture)
            if before is not None and after is not None and before.shape == after.shape:
                moved = torch.nonzero(~_same(before[0], after[0])).flatten().tolist()
                if (
                    len(moved) <= weights.numel() // weights.shape[-1]
                ):  # behind attention more of them move, and it says nothing
                    yield kind, moved


@contextmanager
def _moved(weights: nn.Parameter) -> Iterator[None]:
    """The weights moved by noise, for the length of the block."""
    kept = weights.detach().clone()
    try:
        with torch.no_grad():
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)).to(weights))
        yield
    finally:
        with torch.no_grad():
            weights.copy_(kept)


class _Met(Exception):  # noqa: N818 - not an error: it ends a forward pass
    """The sequence has appeared."""


def again(trunk: nn.Module, found: Appearance, pictures: torch.Tensor) -> torch.Tensor | None:
    """The same sequence for other pictures, [b, n, c]; nothing behind it is run. None where it does not appear."""
    seen: list[torch.Tensor] = []

    def meet(value: torch.Tensor | None) -> None:
        if value is not None and value.ndim == 3 and value.shape[1:] == found.shape:
            seen.append(value.detach().clone())
            raise _Met

    module = trunk.get_submodule(found.path)
    handle: Any
    if found.entering:
        handle = module.register_forward_pre_hook(
            lambda m, args, kwargs: meet(first_tensor(args, kwargs)), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda m, args, out: meet(first_tensor((out,), {})))
    try:
        with torch.inference_mode():
            trunk(pictures)
    except _Met:
        return seen[0]
    finally:
        handle.remove()
    return None


def first_tensor(args: Any, kwargs: Any) -> torch.Tensor | None:
    """The first tensor of what a module was given or gave."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, tuple | list) and value and isinstance(value[0], torch.Tensor):
            return value[0]
        values = getattr(value, "values", None)
        if callable(values):
            return next((v for v in values() if isinstance(v, torch.Tensor)), None)
    return None


def _same(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """bool [n]: tokens [n, c] that are equal."""
    a, b = a.float(), b.float()
    found: torch.Tensor = (a - b).abs().amax(dim=-1) <= STILL * torch.maximum(
        a.abs().amax(dim=-1), b.abs().amax(dim=-1)
    )
    return found


def fits(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether positions [height, width] have the shape of pictures of this size, as far as rounding at strides and borders goes."""
    if size[0] == size[1]:
        return height == width
    ideal = height * size[1] / size[0]
    return abs(width - ideal) <= max(2.0, 0.1 * ideal)


def grid_of(patches: int, module: nn.Module, size: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of so many patches of pictures of this size, or None: by a patch embedding's stride, else by the picture's shape."""
    for convolution in module.modules():
        if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == convolution.stride:
            rows, columns = size[0] // int(convolution.stride[0]), size[1] // int(convolution.stride[1])
            if rows * columns == patches:
                return rows, columns
    if size[0] == size[1]:
        side = isqrt(patches)
        return (side, side) if side * side == patches else None
    choices = [(r, patches // r) for r in range(1, patches + 1) if patches % r == 0 and fits(r, patches // r, size)]
    return min(choices, key=lambda c: abs(c[1] * size[0] - c[0] * size[1]), default=None)


def corners(
    trunk: nn.Module, found: Appearance, picture: torch.Tensor, patch: tuple[int, int]
) -> tuple[int, ...] | None:
    """Positions of the tokens that the top left, top right, bottom left and bottom right patch become; None: the sequence does not appear.

    picture: [1, channels, h, w]. patch: height and width, in pixels, of what is changed in a corner.
    """
    changed = [picture]
    for rows in (slice(None, patch[0]), slice(-patch[0], None)):
        for columns in (slice(None, patch[1]), slice(-patch[1], None)):
            other = picture.clone()
            other[:, :, rows, columns] = 1 - other[:, :, rows, columns]
            changed.append(other)
    values = again(trunk, found, torch.cat(changed))
    if values is None:
        return None
    moved = (values[1:].float() - values[:1].float()).norm(dim=-1)
    return tuple(int(i) for i in moved.argmax(dim=1))
