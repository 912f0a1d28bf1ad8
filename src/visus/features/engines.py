"""What runs the forward pass: OpenVINO on CPUs where it is installed, PyTorch everywhere; same features to 1e-4."""

from __future__ import annotations

import copy
import importlib.util
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from visus.errors import DataError, MissingExtraError
from visus.features.pipeline import Outputs, Slot
from visus.models.base import Backbone
from visus.models.tap import Tap
from visus.models.tapped_module import TappedModule


class EngineError(DataError):
    """An engine cannot run this network; the message says why in one line."""


def choose_engine(engine: str, device: str) -> str:
    """'auto' -> 'openvino' on a CPU where it is installed, else 'torch'. Raises DataError or MissingExtraError."""
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "auto":
        return "openvino" if device == "cpu" and installed else "torch"
    if engine not in ("openvino", "torch"):
        raise DataError(f"unknown engine {engine!r}; write auto, openvino or torch")
    if engine == "openvino" and device != "cpu":
        raise DataError(f"OpenVINO runs on the CPU here, not on {device}; write --engine torch or --device cpu")
    if engine == "openvino" and not installed:
        raise MissingExtraError("OpenVINO is not installed; pip install 'visus[openvino]', or write --engine torch")
    return engine


def tapped(backbone: Backbone, taps: Sequence[Tap], pool: str, *, share: bool = False) -> torch.nn.Module:
    """The backbone as a module: uint8 [b, h, w, 3] -> one float32 [b, d] a tap, with weights of its own.

    A copy, so that neither a device, a memory layout nor a hook of ours ever reaches the user's model. share: of its modules alone, for a look
    that leaves the weights where and as they are.
    """
    module = TappedModule(backbone, taps, pool)
    return replica(module).eval() if share else own_copy(module)


def own_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in eval mode and without gradients: an engine may do with it what it likes."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def replica(module: torch.nn.Module) -> torch.nn.Module:
    """A copy that shares the weights: hooks set during a forward pass in one thread are not seen by another."""
    shared = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, shared)


@contextmanager
def computing(kind: str, precision: str) -> Iterator[None]:
    """Inference mode, and bf16 by autocast where asked for."""
    with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


class TorchSlot:
    """A network on a device. Calling it computes at once; `launch` starts and lets the caller wait later.

    On a CPU every thread that calls it uses one core: OpenMP's team size is a property of the thread.
    """

    def __init__(self, module: torch.nn.Module, *, device: str = "cpu", precision: str = "fp32") -> None:
        self.module, self.device, self.precision = module, torch.device(device), precision
        self._known = threading.local()

    def __call__(self, batch: np.ndarray) -> Outputs:
        """uint8 [b, h, w, 3] -> one float32 [b, d] a tap."""
        if self.device.type == "cpu" and not hasattr(self._known, "single"):
            torch.set_num_threads(1)
            self._known.single = True
        return self.launch(batch)()

    def launch(self, batch: np.ndarray) -> Callable[[], Outputs]:
        """Start a forward pass; the returned function waits for it. Copies overlap where `batch` is pinned memory."""
        with computing(self.device.type, self.precision):
            outputs = self.module(torch.from_numpy(batch).to(self.device, non_blocking=True))
            here = [out.float().to("cpu", non_blocking=True) for out in outputs]
        ready: Any = torch.cuda.Event() if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if ready is not None:
            ready.record(torch.cuda.current_stream(self.device))

        def wait() -> Outputs:
            if ready is not None:
                ready.synchronize()
            return tuple(out.numpy() for out in here)

        return wait


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Put PyTorch's number of threads back afterwards: worker threads set theirs to one, and new threads inherit that."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact_cuda() -> Iterator[None]:
    """fp32 means fp32 (no TF32), and the same kernels every time, for as long as the block lasts; all flags are put back.

    Operations that CUDA has in no repeatable form run as they are: PyTorch would warn of them, and stop nothing.
    """
    # cuBLAS reads it when it is first used; without it two streams may add up in another order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    flags: Any = torch.utils.deterministic
    filled, tf32 = flags.fill_uninitialized_memory, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        flags.fill_uninitialized_memory = False  # a pass over all memory, for programs with errors
        torch.backends.cuda.matmul.allow_tf32 = False
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        flags.fill_uninitialized_memory = filled
        torch.backends.cuda.matmul.allow_tf32 = tf32


def torch_slots(module: torch.nn.Module, n: int, precision: str) -> list[Slot]:
    """n slots on the CPU that share weights; convolutions run channels_last."""
    module = module.to(memory_format=torch.channels_last)
    return [TorchSlot(replica(module), precision=precision) for _ in range(n)]


def cuda_slot(module: torch.nn.Module, device: str, precision: str) -> TorchSlot:
    """The module itself on a GPU; convolutions run channels_last."""
    return TorchSlot(module.to(device=device).to(memory_format=torch.channels_last), device=device, precision=precision)
