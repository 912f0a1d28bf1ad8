"""A network's graph for OpenVINO, kept without its weights: traced and converted once, filled with the weights of whichever network has it.

Tracing and converting take a second or more, and depend on what a network is built of, not on what it has learned: the control with random
weights has the graph of the network beside it, and so has the same network tomorrow. A kept graph has a named hole where each weight
stood. Of weights that left none, as those behind the last tap, it is seen that the features do not change with them: else a number that
was worked out of them stands in the graph, and it is not kept. Whoever fills one compares its features with PyTorch's besides.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from visus import paths
from visus.errors import StoreError
from visus.features.key import minor
from visus.features.silent_openvino import ov
from visus.models.code import attributes, own_code, packages
from visus.progress import log
from visus.version import __version__

FORMAT = b"visus graph 1\n"
HOLE = "weight:"
_DIGEST, _LENGTH = 16, 8  # bytes
_REPLACEABLE = (ov.Type.f32, ov.Type.f16)


def graph_key(module: torch.nn.Module, about: str, *samples: np.ndarray) -> str:
    """Content hash, 32 hex digits, of all that a graph depends on: everything about a network but the values of its floating-point
    weights, `about` (what it stands in: preprocessing, taps, pooling), the size of an image, and versions.

    samples: a batch of each input, images first, uint8 or float32 [b, h, w, 3]; b counts where there is more than one.
    """
    sizes = [samples[0].shape[1:], *(len(s) for s in samples[1:])]
    h = xxhash.xxh3_128(f"{about}|{sizes}|{[str(s.dtype) for s in samples]}|visus {__version__}".encode())
    h.update(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode("utf-8", "replace"))
    for name in ("openvino", "torch", "numpy"):
        h.update(f"|{name} {importlib.metadata.version(name)}".encode())
    h.update("".join(f"|{name} {minor(name)}" for name in packages(module)).encode())
    h.update(attributes(module).encode("utf-8", "replace"))
    h.update(own_code({type(m): None for m in module.modules()}).encode())
    for name, tensor in weights_of(module).items():
        h.update(f"|{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not replaceable(tensor):
            h.update(_digest(tensor))
    for path, part in module.named_modules():
        for name, value in sorted(vars(part).items()):
            if isinstance(value, torch.Tensor):  # no buffer: it stands in the graph
                h.update(f"|{path}.{name} {value.dtype} {tuple(value.shape)}".encode() + _digest(value))
    return str(h.hexdigest())


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def replaceable(tensor: torch.Tensor) -> bool:
    """Whether a weight may leave a hole in the graph; all others, as indices and switches, are part of it."""
    return tensor.dtype in (torch.float32, torch.float16) and tensor.numel() > 0


def keep(model: Any, module: torch.nn.Module, key: str, samples: Sequence[np.ndarray]) -> None:
    """Write the graph of a converted network into the lab's cache; the model is of no use afterwards. Where that fails it is logged:
    it only saves time. samples: a batch of each input. The module's weights are as they were afterwards."""
    weights = weights_of(module)
    holes = _hollow(model, weights)
    rest = [t for name, t in weights.items() if replaceable(t) and name not in holes]
    if rest and _matter(rest, module, samples):
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder) / "graph.xml"
            ov.serialize(model, at, at.with_suffix(".bin"))
            structure, constants = at.read_bytes(), at.with_suffix(".bin").read_bytes()
        body = len(structure).to_bytes(_LENGTH, "little") + structure + constants
        paths.write_bytes(_place(key), FORMAT + xxhash.xxh3_128_digest(body) + body)
    except (StoreError, OSError, RuntimeError) as error:
        log(f"the network's graph is not kept: {str(error).splitlines()[0]}")


def _matter(weights: Sequence[torch.Tensor], module: torch.nn.Module, samples: Sequence[np.ndarray]) -> bool:
    """Whether the outputs of `module` depend on some of its weights: whether they change when these do."""
    inputs = [torch.from_numpy(s[:2]) for s in samples]
    before = [w.detach().clone() for w in weights]
    with torch.no_grad():
        plain = module(*inputs)
        try:
            for w in weights:
                w.add_(1)
            changed = module(*inputs)
        finally:
            for w, was in zip(weights, before, strict=True):
                w.copy_(was)
    return not all(torch.equal(a, b) for a, b in zip(plain, changed, strict=True))


def kept(module: torch.nn.Module, key: str) -> Any | None:
    """The kept graph with the weights of `module`, which share its memory, as an OpenVINO model; None where there is none that fits."""
    body = _read(_place(key))
    if body is None:
        return None
    size = int.from_bytes(body[:_LENGTH], "little")
    structure, constants = body[_LENGTH : _LENGTH + size], body[_LENGTH + size :]
    try:
        model = ov.Core().read_model(structure, constants)
        return model if _fill(model, weights_of(module)) else None
    except (RuntimeError, TypeError, ValueError):
        return None


def _place(key: str) -> Path:
    return paths.home() / "graphs" / f"{key}.graph"


def _read(path: Path) -> bytes | None:
    """A file's content behind its digest; None where there is none, it is not whole, or another user could have written it."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
                return None
            data = file.read()
    except (OSError, StoreError):
        return None
    head, body = data[: len(FORMAT) + _DIGEST], data[len(FORMAT) + _DIGEST :]
    return body if head == FORMAT + xxhash.xxh3_128_digest(body) else None


def _hollow(model: Any, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Put an input, named after its tensor, in the place of every constant that is a floating-point weight, byte for byte. Their names."""
    by_bytes: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, tensor in weights.items():
        if replaceable(tensor):
            by_bytes.setdefault((tuple(tensor.shape), _digest(tensor)), []).append(name)
    holes: dict[str, Any] = {}
    for node in model.get_ops():
        if node.get_type_name() != "Constant":
            continue
        found = torch.from_numpy(np.array(node.data)) if node.get_element_type() in _REPLACEABLE else None
        names = [] if found is None else by_bytes.get((tuple(found.shape), _digest(found)), [])
        # By its name too: others may be equal now, as the shifts of untrained norms are.
        called = max((n for n in names if node.get_friendly_name().endswith(f".{n}")), key=len, default=None)
        if called is None:
            continue
        if called not in holes:
            holes[called] = ov.op.Parameter(node.get_element_type(), node.get_output_partial_shape(0))
            holes[called].set_friendly_name(HOLE + called)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(holes[called].output(0))
    model.add_parameters(list(holes.values()))
    return set(holes)


def _digest(tensor: torch.Tensor) -> bytes:
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return bytes(xxhash.xxh3_128_digest(raw.data))


def _fill(model: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    """Put the weights into the holes named after them; False where one has no hole's name, shape or type."""
    for hole in [p for p in model.get_parameters() if p.get_friendly_name().startswith(HOLE)]:
        tensor = weights.get(hole.get_friendly_name().removeprefix(HOLE))
        if tensor is None or list(tensor.shape) != list(hole.get_output_shape(0)):
            return False
        constant = ov.op.Constant(tensor.detach().cpu().contiguous().numpy(), shared_memory=True)
        if constant.get_element_type() != hole.get_element_type():
            return False
        for target in hole.output(0).get_target_inputs():
            target.replace_source_output(constant.output(0))
        model.remove_parameter(hole)
    return True
