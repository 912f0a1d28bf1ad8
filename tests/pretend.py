"""A CUDA device for machines without one: tensors that say they are on cuda:0, compute on the CPU, and refuse to be mixed with others.

FakeTensorMode refuses mixed devices too, but holds no values, so that no command could run to its end; and where PyTorch is built for CUDA
and finds no driver, its backward pass asks the driver for a stream. Here every value is there, so a command's numbers can be compared
with the CPU's. What PyTorch's own code in C++ sees is a CPU tensor behind a subclass; what Python sees is a GPU.

Held to CUDA's rules: an operation takes tensors of one device, and numbers (0-d tensors) and indices of the CPU; no NumPy array of a
tensor on the GPU; a generator is of its tensors' device. Not held to them: kernels, speed, memory, streams, several devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

PLACE = torch.device("cuda", 0)
NAME = "Pretended GPU"
# May read indices of the CPU into a tensor of the GPU, or copy between them.
MIXING = ("aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class OnGpu(torch.Tensor):
    """A tensor on the pretended device. held: its values, a tensor on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGpu:
        found = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device="cpu", requires_grad=False,
        )  # fmt: skip
        found.held = held
        return found  # type: ignore[return-value]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return called(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        name = func._schema.name
        if any(not isinstance(t, OnGpu) and t.ndim for t in tensors) and not (
            name in MIXING and (name == "aten::copy_" or isinstance(args[0], OnGpu))
        ):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got some on cuda:0 and some on cpu"
            )
        generator = kwargs.get("generator")
        if generator is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        plain = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if name == "aten::copy_" and not isinstance(args[0], OnGpu):
            return args[0]
        out = tree_map(lambda t: OnGpu(t) if isinstance(t, torch.Tensor) else t, plain)
        return return_and_correct_aliasing(func, args, kwargs, out)

    def __deepcopy__(self, memo: Any) -> OnGpu:
        if id(self) not in memo:
            twin = OnGpu(self.held.clone())
            twin.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                twin._is_param = True
            memo[id(self)] = twin
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A checkpoint of it is read with map_location="cpu".
        return self.held.__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held})"


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnGpu) else x


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return OnGpu(x.detach().clone(memory_format=torch.preserve_format))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.held if isinstance(gradient, OnGpu) else gradient


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: OnGpu) -> torch.Tensor:
        return x.held.detach().clone(memory_format=torch.preserve_format)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return OnGpu(gradient)


def moved(x: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """x on the device, itself where it is there already."""
    if device is None or (device.type == "cuda") is isinstance(x, OnGpu):
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return (_Up if device.type == "cuda" else _Down).apply(x)  # type: ignore[no-any-return, no-untyped-call]


def _to(func: Any, args: Any, kwargs: Any) -> Any:
    """Tensor.to: the device by a move, the rest by PyTorch."""
    x, *rest = args
    kwargs = dict(kwargs)
    device = kwargs.pop("device", None)
    for k, value in enumerate(rest):
        if isinstance(value, str | torch.device | int) and not isinstance(value, bool):
            device = rest.pop(k)
            break
        if isinstance(value, torch.Tensor):
            other = rest.pop(k)
            device, kwargs["dtype"] = other.device, other.dtype
            break
    copy = kwargs.pop("copy", False)
    there = moved(x, None if device is None else torch.device(device))
    kwargs.pop("non_blocking", None)
    rest = [r for r in rest if not isinstance(r, bool)]
    if rest or any(v is not None for v in kwargs.values()):
        with torch._C.DisableTorchFunctionSubclass():
            return func(there, *rest, **kwargs)
    return there.clone() if copy and there is x else there


def called(func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """One call of PyTorch, as a machine with a GPU answers it."""
    first = args[0] if args else None
    if func is torch.Tensor.to:
        return _to(func, args, kwargs)
    if func in (torch.Tensor.cpu, torch.Tensor.cuda):
        return moved(first, torch.device("cpu" if func is torch.Tensor.cpu else "cuda"))
    if func is torch.Tensor.pin_memory:
        return first
    if isinstance(first, OnGpu):
        if func == torch.Tensor.device.__get__:  # type: ignore[attr-defined]
            return PLACE
        if func == torch.Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return True
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if func in (
            torch.Tensor.item,
            torch.Tensor.tolist,
            torch.Tensor.__format__,
            torch.Tensor.__float__,
            torch.Tensor.__int__,
            torch.Tensor.__bool__,
            torch.Tensor.__index__,
        ):
            with torch._C.DisableTorchFunctionSubclass():
                return func(first.held.detach(), *args[1:], **kwargs)
        if func in (torch.tensor, torch.as_tensor):
            args = (moved(first, torch.device("cpu")) if kwargs.get("device") is not None else first, *args[1:])
    device, generator = kwargs.get("device"), kwargs.get("generator")
    if device is not None and torch.device(device).type == "cuda" and getattr(func, "__name__", "") != "_parse_to":
        if generator is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        kwargs = {**kwargs, "device": "cpu"}
        grad = kwargs.pop("requires_grad", False)
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **kwargs)
            out = out if isinstance(out, OnGpu) else OnGpu(out)
        return out.requires_grad_() if grad else out
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


class Machine(TorchFunctionMode):
    """A machine with a GPU: calls that name it are answered, by this thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return called(func, types, args, kwargs or {})


class _Event:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        return None

    def synchronize(self) -> None:
        return None


class _Stream(_Event):
    pass


@contextmanager
def gpu(count: int = 2) -> Iterator[None]:
    """A machine with `count` GPUs, as torch.cuda tells of them, for as long as the block lasts; only the first can be used."""
    autocast = torch.autocast

    class Autocast(autocast):  # type: ignore[misc, valid-type]
        """On the pretended GPU the CPU's, which is what the tensors are."""

        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    said: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (8, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(name=NAME, total_memory=2**34, major=8, minor=0),
        "is_bf16_supported": lambda *a, **k: True,
        "current_stream": lambda device=None: SimpleNamespace(synchronize=lambda: None),
        "stream": lambda stream: nullcontext(),
        "Stream": _Stream,
        "Event": _Event,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 2**30,
        "get_rng_state": lambda device=None: torch.zeros(1, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    # As on a GPU, where a module that moves keeps its parameters: an optimizer that was given them goes on with them.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with (
            patch.multiple(torch.cuda, **said),
            patch.object(torch, "autocast", Autocast),
            patch.object(torch, "inference_mode", torch.no_grad),  # which subclasses do not survive
            patch.object(
                torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None, create=True
            ),
            patch.object(torch.optim.Optimizer, "_cuda_graph_capture_health_check", lambda self: None, create=True),
            Machine(),
        ):
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapped)


def on(device: str) -> Callable[[], Any]:
    """The machine for a device: the pretended one for CUDA, this one for 'cpu'."""
    return gpu if device.startswith("cuda") else nullcontext
