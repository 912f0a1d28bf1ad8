"""What runs the forward pass: OpenVINO on CPUs where it is installed, PyTorch everywhere; same features to 1e-4."""

from __future__ import annotations

import copy
import importlib.util
import logging
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

# Largest relative distance (per image, L2) between OpenVINO's features and PyTorch's. In bf16 the reference is PyTorch in fp32.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}
# What a conversion raises on networks that OpenVINO or torch.jit.trace does not know.
_UNCONVERTIBLE = (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError)


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


def tapped(backbone: Backbone, taps: Sequence[Tap], pool: str) -> torch.nn.Module:
    """The backbone as a module: uint8 [b, h, w, 3] -> one float32 [b, d] a tap, with weights of its own.

    A copy, so that neither a device, a memory layout nor a hook of ours ever reaches the user's model.
    """
    from visus.models.tapped_module import TappedModule

    return copy.deepcopy(TappedModule(backbone, taps, pool)).eval().requires_grad_(False)


def replica(module: torch.nn.Module) -> torch.nn.Module:
    """A copy that shares the weights: hooks set during a forward pass in one thread are not seen by another."""
    shared = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, shared)


@contextmanager
def _precision(kind: str, precision: str) -> Iterator[None]:
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
        with _precision(self.device.type, self.precision):
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


def openvino_slots(module: torch.nn.Module, n: int, precision: str, sample: np.ndarray) -> list[Slot]:
    """n slots of one compiled network, each computing on one core when it is called.

    sample: uint8 [b, h, w, 3], a real batch: the network is compiled for its shape, and its features must equal PyTorch's
    on it. Raises EngineError when the network cannot be converted or the features differ.
    """
    import openvino as ov

    compute = ov.Type.f32 if precision == "fp32" else ov.Type.bf16
    settings = {
        "NUM_STREAMS": n,
        "INFERENCE_NUM_THREADS": n,
        "INFERENCE_PRECISION_HINT": compute,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        model = _converted(module, sample)
        compiled = ov.Core().compile_model(model, "CPU", settings)
        slots: list[Slot] = [_openvino_slot(compiled.create_infer_request()) for _ in range(n)]
        found = slots[0](sample)
    except _UNCONVERTIBLE as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(f"OpenVINO cannot run this network ({reason[-1][:160]})") from error
    _compare(found, module, sample, precision)
    return slots


def _converted(module: torch.nn.Module, sample: np.ndarray) -> Any:
    """The network as an OpenVINO model for batches of `sample`'s shape.

    By the PyTorch frontend itself: openvino.convert_model does the same and reports its use to a server on the way, from
    processes that it forks.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), _unasked():
        warnings.simplefilter("ignore")  # the tracer's doubts: the features are compared with PyTorch's
        # Traced with one image: tracing runs the network a few times, and a batch would make that slow.
        decoder = TorchScriptPythonDecoder(module, example_input=torch.from_numpy(sample[:1].copy()))
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    entry = model.inputs[0].get_node()
    entry.set_element_type(ov.Type(sample.dtype))
    entry.set_partial_shape(ov.PartialShape(list(sample.shape)))
    model.validate_nodes_and_infer_types()
    return model


@contextmanager
def _unasked() -> Iterator[None]:
    """Keep transformers quiet: tracing reads every attribute of a module, its `loss_function` too, which warns of a loss that nobody asked for."""
    logger = logging.getLogger("transformers.modeling_utils")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _openvino_slot(request: Any) -> Slot:
    def infer(batch: np.ndarray) -> Outputs:
        request.infer([batch], share_inputs=True)
        return tuple(tensor.data.astype(np.float32, copy=True) for tensor in request.output_tensors)

    return infer


def _compare(found: Outputs, module: torch.nn.Module, sample: np.ndarray, precision: str) -> None:
    """Raise EngineError unless OpenVINO's features of the first images equal PyTorch's."""
    few = min(4, len(sample))
    with _precision("cpu", "fp32"):
        expected = [out.float().numpy() for out in module(torch.from_numpy(sample[:few]))]
    if [f.shape[1:] for f in found] != [e.shape[1:] for e in expected]:
        raise EngineError("OpenVINO gives features of another shape than PyTorch")
    for ours, theirs in zip(found, expected, strict=True):
        distance = np.linalg.norm(ours[:few] - theirs, axis=1)
        relative = float((distance / np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)).max())
        if not relative <= TOLERANCE[precision]:
            raise EngineError(f"OpenVINO's features differ from PyTorch's by {relative:.1e}")
