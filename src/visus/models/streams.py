"""Following a block's input through its forward pass, to tell the addition of a skip connection from every other one.

The stream is the block's input, a reshaped or permuted view of it, what its shortcut module makes of it, and the sum of an earlier
skip. An addition is a skip when one operand is the stream and the other, of the same shape, was computed from the stream. So
position embeddings, biases, masks and epsilons are none: nothing in them depends on the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

ADDS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})
IN_PLACE = frozenset({"add_", "__iadd__"})
# What changes how a tensor is laid out, not what it holds.
VIEWS = frozenset(
    {
        "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims",
        "movedim", "moveaxis", "squeeze", "unsqueeze", "contiguous", "clone", "to", "type_as", "float", "half", "bfloat16",
    }
)  # fmt: skip
PROJECTIONS = frozenset({"downsample", "shortcut", "proj"})  # the names of a block's own shortcut module
DERIVED, STREAM, PROJECTED = 1, 2, 3


class Addition(NamedTuple):
    """A skip's addition: the shortcut and the branch, which of the two comes first, the branch's factor, in place or not."""

    shortcut: torch.Tensor
    branch: torch.Tensor
    shortcut_first: bool
    alpha: Any
    in_place: bool
    projected: bool


class Flow:
    """What is known of the tensors of one forward pass of one block, by identity; nothing is kept alive."""

    def __init__(self, stream: torch.Tensor | None) -> None:
        self.restart(stream)

    def restart(self, stream: torch.Tensor | None) -> None:
        """Forget everything: `stream` is the stream now, and only what is computed from it depends on it."""
        self.known: Any = WeakTensorKeyDictionary()
        if stream is not None:
            self.known[stream] = STREAM

    def skip(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Addition | None:
        """The addition of a skip, if that call is one."""
        if name not in ADDS or not self.known:
            return None
        operands = [*args, *(kwargs[k] for k in ("input", "other") if k in kwargs)]
        if len(operands) != 2 or not all(isinstance(t, torch.Tensor) for t in operands):
            return None
        first, second = (int(self.known.get(t, 0)) for t in operands)
        shortcut = 0 if first >= STREAM else 1
        if max(first, second) < STREAM or min(first, second) != DERIVED or shape(operands[0]) != shape(operands[1]):
            return None
        return Addition(
            operands[shortcut],
            operands[1 - shortcut],
            shortcut == 0,
            kwargs.get("alpha", 1),
            name in IN_PLACE,
            max(first, second) == PROJECTED,
        )

    def mark(self, name: str, args: object, kwargs: object, result: object) -> None:
        """Note what `result` is, from what the call was given."""
        given = [int(self.known.get(t, 0)) for t in tensors((args, kwargs))]
        if not any(given):
            return
        for tensor in tensors(result):
            if tensor not in self.known:  # what works in place, or hands its input through, changes nothing
                self.known[tensor] = max(given[0], DERIVED) if name in VIEWS else DERIVED

    def follow(self, name: str, given: object, result: object) -> None:
        """A child of the block was run: its output is a shortcut if the child is a projection."""
        # 'proj' is also what attention calls its last layer: that one is not fed with the stream.
        least = STREAM if name == "proj" else DERIVED
        if name in PROJECTIONS and max((int(self.known.get(t, 0)) for t in tensors(given)), default=0) >= least:
            for tensor in tensors(result):
                if self.known.get(tensor, 0) != STREAM:
                    self.known[tensor] = PROJECTED


class Observing(TorchFunctionMode):
    """Which modules add a skip: a flow for every module that runs. The innermost module that sees a skip owns it."""

    def __init__(self) -> None:
        self.running: list[tuple[str, Flow]] = []
        self.owners: dict[str, bool] = {}  # path -> whether its shortcut is a projection, in forward order

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        for path, flow in reversed(self.running):
            addition = flow.skip(name, args, kwargs)
            if addition is not None:
                self.owners[path] = self.owners.get(path, False) or addition.projected
                break
        result = func(*args, **kwargs)
        for _, flow in self.running:
            flow.mark(name, args, kwargs, result)
        return result

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Note when each module under `module` begins and ends."""
        handles = []
        try:
            for path, child in module.named_modules():
                handles.append(child.register_forward_pre_hook(self._enter(path), with_kwargs=True))
                handles.append(child.register_forward_hook(self._leave(path), with_kwargs=True))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.running.append((path, Flow(entering(args, kwargs))))

        return hook

    def _leave(self, path: str) -> Any:
        parent, _, name = path.rpartition(".")

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.running.pop()
            if self.running and self.running[-1][0] == parent:
                self.running[-1][1].follow(name, (args, kwargs), output)

        return hook


class Removing(TorchFunctionMode):
    """Skips of one block taken away: where the block adds its stream to a branch, the branch alone goes on."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.removed = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        addition = self.flow.skip(name, args, kwargs)
        if addition is None:
            result = func(*args, **kwargs)
            self.flow.mark(name, args, kwargs, result)
            return result
        result = branch_alone(addition, name)
        self.removed += 1
        # From here on the branch is the stream: x1 = f(x), and the next skip is the one that adds x1.
        self.flow.restart(result)
        return result

    @contextmanager
    def projections(self, module: nn.Module) -> Iterator[None]:
        """Note what the block's shortcut modules give."""
        handles = []

        def watch(name: str) -> Any:
            def hook(child: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                self.flow.follow(name, (args, kwargs), output)

            return hook

        try:
            for name, child in module.named_children():
                if name in PROJECTIONS:
                    handles.append(child.register_forward_hook(watch(name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()


def branch_alone(addition: Addition, name: str) -> torch.Tensor:
    """What the addition gives without its shortcut, as a tensor of its own where the addition made one."""
    branch = addition.branch
    if addition.shortcut_first and addition.alpha != 1:
        branch = branch * addition.alpha
    if name == "add_" and addition.shortcut_first:
        return addition.shortcut.copy_(branch)  # a call whose result the block may not look at
    if addition.in_place and not addition.shortcut_first:
        return branch
    # A copy, as the sum was one: an in-place activation behind it must not reach what the branch keeps for its gradient.
    dtype = torch.promote_types(branch.dtype, addition.shortcut.dtype)
    return branch.clone() if branch.dtype == dtype else branch.to(dtype)


def entering(args: Any, kwargs: Any) -> torch.Tensor | None:
    """The tensor that a module was given first."""
    given = [*args[:1], *(() if args else kwargs.values())]
    return next((t for t in given if isinstance(t, torch.Tensor)), None)


def function_name(func: Any) -> str:
    """'add' for torch.add, Tensor.add and torch.ops.aten.add.Tensor."""
    return str(getattr(func, "__name__", "")).partition(".")[0]


def tensors(value: object) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)


def shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its shape as numbers; a tracer would record the question."""
    tracer: Any = torch._C
    state = tracer._get_tracing_state()
    if state is None:
        return tuple(tensor.shape)
    tracer._set_tracing_state(None)
    try:
        return tuple(tensor.shape)
    finally:
        tracer._set_tracing_state(state)
