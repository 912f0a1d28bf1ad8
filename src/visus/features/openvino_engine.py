"""OpenVINO as an engine: converts a network, compiles it for one shape of batch, and holds its features against PyTorch's.

Imported only where OpenVINO is chosen: it is an optional extra.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from visus.features import graphs
from visus.features.engines import EngineError, computing
from visus.features.pipeline import Outputs, Slot
from visus.features.silent_openvino import FrontEndManager, TorchScriptPythonDecoder, ov
from visus.progress import log

# Largest relative distance (per image, L2) between OpenVINO's features and PyTorch's. In bf16 the reference is PyTorch in fp32.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}
# What a conversion raises on networks that OpenVINO or torch.jit.trace does not know.
_UNCONVERTIBLE = (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError)


def openvino_slots(
    module: torch.nn.Module, n: int, precision: str, *samples: np.ndarray, about: str | None = None
) -> list[Slot]:
    """n slots of one compiled network, each computing on one core when it is called.

    samples: a real batch of each input, of which the first is uint8 [b, h, w, 3]: the network is compiled for its shape, and its
    features must equal PyTorch's on it; what comes beside the images, [b, m], may have any m. about: all that the module's features depend
    on besides the modules in it, so that its graph is kept for the next network of the same structure; None: it is not kept.
    Raises EngineError when the network cannot be converted or the features differ.
    """
    key = None if about is None else graphs.graph_key(module, about, *samples)
    known = None if key is None else graphs.kept(module, key)
    if known is not None:
        try:
            return _compared(known, module, n, precision, samples)
        except EngineError as error:
            log(f"the kept graph is made anew: {error}")
    try:
        model = converted(module, samples)
    except _UNCONVERTIBLE as error:
        raise _unfit(error) from error
    slots = _compared(model, module, n, precision, samples)
    if key is not None:
        graphs.keep(model, module, key, samples)
    return slots


def _compared(model: Any, module: torch.nn.Module, n: int, precision: str, samples: Sequence[np.ndarray]) -> list[Slot]:
    """n slots of the model compiled for batches of the samples' shapes. Raises EngineError unless it gives PyTorch's features."""
    settings = {
        "NUM_STREAMS": n,
        "INFERENCE_NUM_THREADS": n,
        "INFERENCE_PRECISION_HINT": ov.Type.f32 if precision == "fp32" else ov.Type.bf16,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        for k, (entry, sample) in enumerate(zip(model.inputs, samples, strict=True)):
            shape = list(sample.shape) if k == 0 else [len(sample), *(-1 for _ in sample.shape[1:])]
            entry.get_node().set_element_type(ov.Type(sample.dtype))
            entry.get_node().set_partial_shape(ov.PartialShape(shape))
        model.validate_nodes_and_infer_types()
        compiled = ov.Core().compile_model(model, "CPU", settings)
        slots: list[Slot] = [openvino_slot(compiled.create_infer_request()) for _ in range(n)]
        found = slots[0](*samples)
    except _UNCONVERTIBLE as error:
        raise _unfit(error) from error
    _compare(found, module, samples, precision)
    return slots


def _unfit(error: Exception) -> EngineError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return EngineError(f"OpenVINO cannot run this network ({reason[-1][:160]})")


def converted(module: torch.nn.Module, samples: Sequence[np.ndarray]) -> Any:
    """The network as an OpenVINO model for images of the first sample's size; of more than one input for batches of the samples' length.

    By the PyTorch frontend itself: openvino.convert_model does the same and reports its use to a server on the way, from
    processes that it forks.
    """
    with warnings.catch_warnings(), _unasked():
        warnings.simplefilter("ignore")  # the tracer's doubts: the features are compared with PyTorch's
        # Traced with one image, and once: tracing runs the network, and its own check would trace it a second time.
        inputs = tuple(torch.from_numpy(s.copy() if len(samples) > 1 else s[:1].copy()) for s in samples)
        example = inputs if len(samples) > 1 else inputs[0]
        decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


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


def openvino_slot(request: Any) -> Slot:
    def infer(*batch: np.ndarray) -> Outputs:
        request.infer(list(batch), share_inputs=True)
        return tuple(tensor.data.astype(np.float32, copy=True) for tensor in request.output_tensors)

    return infer


def _compare(found: Outputs, module: torch.nn.Module, samples: Sequence[np.ndarray], precision: str) -> None:
    """Raise EngineError unless OpenVINO's features of the first images equal PyTorch's."""
    few = min(4, len(samples[0]))
    with computing("cpu", "fp32"):
        expected = [out.float().numpy() for out in module(*(torch.from_numpy(s[:few]) for s in samples))]
    if [f.shape[1:] for f in found] != [e.shape[1:] for e in expected]:
        raise EngineError("OpenVINO gives features of another shape than PyTorch")
    for ours, theirs in zip(found, expected, strict=True):
        distance = np.linalg.norm(ours[:few] - theirs, axis=1)
        relative = float((distance / np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)).max())
        if not relative <= TOLERANCE[precision]:
            raise EngineError(f"OpenVINO's features differ from PyTorch's by {relative:.1e}")
