"""Weights from files: safetensors, or torch files read without executing anything."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visus.errors import DataError
from visus.models.hub import first_line

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "teacher",
    "student",
    "ema",
    "module",
    "net",
    "backbone",
)
PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.", "backbone.", "encoder.", "net.")


def read(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a .safetensors file or a torch file (weights_only: code in it is refused, never run).

    Raises DataError: unreadable, damaged, holding code, or holding no tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "Weights only" in str(error):
            reason = (
                "it holds more than tensors (code), which is refused; save the state_dict alone, best as .safetensors"
            )
        else:
            reason = f"it is damaged: {first_line(error)}"
        raise DataError(f"{file} is not loaded: {reason}") from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as a checkpoint: {first_line(error)}") from error
    tensors = unwrapped(content)
    if not tensors:
        raise DataError(f"{file} holds no tensors by name; save a model's state_dict")
    return tensors


def unwrapped(content: Any) -> dict[str, torch.Tensor]:
    """The tensors by name inside a training checkpoint's wrappers ('state_dict', 'model', 'teacher', ...); {} if there are none."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping) and content[w]), None)
        if inner is None:
            break
        content = inner
    return (
        {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    )


def matched(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the model's names: as they are, or without a wrapper's prefix ('module.', 'model.'), whichever fits best."""
    best = dict(tensors)
    current = best
    for _ in range(3):
        if sum(k in wanted for k in best) == len(wanted):
            return best
        current = {_stripped(k): v for k, v in current.items()}
        if sum(k in wanted for k in current) > sum(k in wanted for k in best):
            best = current
    return best


def _stripped(name: str) -> str:
    return next((name[len(p) :] for p in PREFIXES if name.startswith(p)), name)


def take_in(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Load the tensors into the model, every one of its own; raises DataError with the counts and the first names that do not fit.

    what: 'FILE into MODEL', for the message.
    """
    wanted = model.state_dict()
    given = matched(tensors, wanted)
    # Counters of batches that older files lack change nothing in eval mode.
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    extra = [k for k in given if k not in wanted]
    shapes = [k for k, v in given.items() if k in wanted and v.shape != wanted[k].shape]
    if missing or extra or shapes:
        parts = [
            f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for names, word in ((missing, "missing"), (extra, "unexpected"), (shapes, "of another shape"))
            if names
        ]
        raise DataError(f"cannot load {what}: of {len(wanted)} tensors {'; '.join(parts)}; check the architecture")
    # The tensors fit, so they are of the version that the model's modules are (MNASNet asks).
    for name, tensor in given.items():
        wanted[name] = tensor
    model.load_state_dict(wanted)
