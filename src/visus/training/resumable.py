"""A training whose outcome is kept in files, so that it is the same from every process, on one device or several."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from visus.errors import StoreError
from visus.paths import write_text
from visus.training import checkpoint
from visus.training.devices import Devices
from visus.training.loop import Fit, fit
from visus.training.objective import Objective
from visus.training.processes import with_fabric
from visus.training.recipe import Recipe
from visus.training.records import Epoch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit_resumable(
    network: torch.nn.Module,
    objective: Objective,
    recipe: Recipe,
    devices: Devices,
    *,
    checkpoints: Path,
    file: Path,
    allowed: float | None,
    what: str,
    save: Callable[[], object],
) -> Fit:
    """Train on the devices; `network` ends as `kept` leaves it. What is finished is read; two commands at once compute it once.

    checkpoints: folder of `fit`'s. save: keeps the model, called with the best epoch's weights in `network`; then the epochs are written
    to `file` as JSON; both by the first process. The caller holds the lock of the folder. Raises what `fit` raises.
    """
    if file.is_file():
        return kept(network, checkpoints=checkpoints, file=file)

    def work(fabric: Fabric) -> None:
        done = fit(
            network,
            objective,
            recipe,
            fabric=fabric,
            train_mode=network.train,
            folder=checkpoints,
            allowed=allowed,
            what=what,
        )
        if fabric.global_rank == 0:
            save()
            write_text(file, json.dumps(asdict(done)))

    with_fabric(work, devices)
    return kept(network, checkpoints=checkpoints, file=file)


def kept(network: torch.nn.Module, *, checkpoints: Path, file: Path) -> Fit:
    """Read what `fit_resumable` wrote: `network` gets the best epoch's weights, frozen, in eval mode. Raises StoreError where they are gone."""
    best = checkpoint.load(checkpoints / checkpoint.BEST)
    if best is None:
        raise StoreError(
            f"{file.parent} holds a training without its weights; delete it and run the same command again"
        )
    checkpoint.put_back(network, best["tensors"])
    network.requires_grad_(requires_grad=False).eval()
    body = json.loads(file.read_text("utf-8"))
    return Fit(**{**body, "epochs": tuple(Epoch(**e) for e in body["epochs"])})
