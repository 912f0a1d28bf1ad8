"""OpenVINO as an engine: converts a network, compiles it for one shape of batch, and holds its features against PyTorch's.

Imported only where OpenVINO is chosen: it is an optional extra.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from visus.features.engines import EngineError, computing
from visus.features.pipeline import Outputs, Slot

# Largest relative distance (per image, L2) between OpenVINO's features and PyTorch's. In bf16 the reference is PyTorch in fp32.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}
# What a conversion raises on networks that OpenVINO or torch.jit.trace does not know.
_UNCONVERTIBLE = (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError)


def openvino_slots(module: torch.nn.Module, n: int, precision: str, sample: np.ndarray) -> list[Slot]:
    """n slots of one compiled network, each computing on one core when it is called.

    sample: uint8 [b, h, w, 3], a real batch: the network is compiled for its shape, and its features must equal PyTorch's
    on it. Raises EngineError when the network cannot be converted or the features differ.
    """
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
        slots: list[Slot] = [openvino_slot(compiled.create_infer_request()) for _ in range(n)]
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


def openvino_slot(request: Any) -> Slot:
    def infer(batch: np.ndarray) -> Outputs:
        request.infer([batch], share_inputs=True)
        return tuple(tensor.data.astype(np.float32, copy=True) for tensor in request.output_tensors)

    return infer


def _compare(found: Outputs, module: torch.nn.Module, sample: np.ndarray, precision: str) -> None:
    """Raise EngineError unless OpenVINO's features of the first images equal PyTorch's."""
    few = min(4, len(sample))
    with computing("cpu", "fp32"):
        expected = [out.float().numpy() for out in module(torch.from_numpy(sample[:few]))]
    if [f.shape[1:] for f in found] != [e.shape[1:] for e in expected]:
        raise EngineError("OpenVINO gives features of another shape than PyTorch")
    for ours, theirs in zip(found, expected, strict=True):
        distance = np.linalg.norm(ours[:few] - theirs, axis=1)
        relative = float((distance / np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)).max())
        if not relative <= TOLERANCE[precision]:
            raise EngineError(f"OpenVINO's features differ from PyTorch's by {relative:.1e}")
