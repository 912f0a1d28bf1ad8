"""Checkpoints of a training: written whole or not at all, resumed by running the same command again."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from visus.errors import StoreError
from visus.paths import atomic_path, mend, write_text
from visus.training.records import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LAST, BEST, DONE, LOGITS = "last.ckpt", "best.ckpt", "run.json", "logits.npy"


def save(fabric: Fabric, path: Path, state: Mapping[str, Any]) -> None:
    """A checkpoint of `state` (tensors and plain values) at `path`, atomically, by the first process. Raises StoreError."""
    if fabric.global_rank == 0:
        try:
            with atomic_path(path) as temporary:
                torch.save(dict(state), temporary)
        except (OSError, RuntimeError) as error:
            raise _unwritten(path, str(error).splitlines()[0]) from error
        except StoreError as error:
            raise _unwritten(path, getattr(error.__cause__, "strerror", None) or str(error)) from error
    fabric.barrier()


def _unwritten(path: Path, reason: str) -> StoreError:
    return StoreError(f"cannot write the checkpoint {path}: {reason}; {mend(path)}, then run the same command again")


def clear_litter(folder: Path) -> None:
    """Remove what a killed run left half-written. Call it under the folder's lock."""
    for name in (LAST, BEST):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None where there is nothing. Tensors and plain values only: no pickle is executed."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise StoreError(f"the checkpoint {path} is damaged; delete it and run the same command again") from error
    return state


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies on the CPU of everything that training may change: parameters that train, and every buffer."""
    live = {name for name, p in module.named_parameters() if p.requires_grad}
    live |= {name for name, _ in module.named_buffers()}
    return {name: t.detach().to("cpu", copy=True) for name, t in module.state_dict().items() if name in live}


def put_back(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `tensors_of` took."""
    module.load_state_dict(dict(tensors), strict=False)


def finish(folder: Path, run: Run) -> None:
    """Record a finished run, and drop what only an unfinished one needs."""
    with atomic_path(folder / LOGITS) as temporary, temporary.open("wb") as file:
        np.save(file, run.logits, allow_pickle=False)
    write_text(folder / DONE, json.dumps(run.to_json(), indent=1) + "\n")
    (folder / LAST).unlink(missing_ok=True)
    shutil.rmtree(folder / "trials", ignore_errors=True)


def finished(folder: Path) -> Run | None:
    """The finished run in `folder`, or None."""
    try:
        body = json.loads((folder / DONE).read_text("utf-8"))
        logits = np.load(folder / LOGITS, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder} holds a damaged run ({error}); delete it and run the same command again") from error
    return Run.from_json(body, logits) if (folder / BEST).is_file() else None
