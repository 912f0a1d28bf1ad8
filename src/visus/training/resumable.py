"""A training whose outcome is kept in files, so that it is the same from every process, on one device or several."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from visus.errors import StoreError
from visus.paths import write_text
from visus.training import checkpoint
from visus.training.devices import Devices
from visus.training.loop import Fit, Learner, fit
from visus.training.objective import Objective
from visus.training.processes import with_fabric
from visus.training.recipe import Recipe
from visus.training.records import Epoch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class SavedFit:
    """Where a training is kept. checkpoints: folder of `fit`'s. file: its epochs, as JSON, once it is finished."""

    checkpoints: Path
    file: Path

    def write(self, done: Fit) -> None:
        """Record the epochs of a finished training."""
        write_text(self.file, json.dumps(asdict(done)))

    def read(self, network: torch.nn.Module) -> Fit:
        """What was written: `network` gets the best epoch's weights, frozen, in eval mode. Raises StoreError where they are gone."""
        best = checkpoint.load(self.checkpoints / checkpoint.BEST)
        if best is None:
            raise StoreError(
                f"{self.file.parent} holds a training without its weights; delete it and run the same command again"
            )
        checkpoint.put_back(network, best["tensors"])
        network.requires_grad_(requires_grad=False).eval()
        body = json.loads(self.file.read_text("utf-8"))
        return Fit(**{**body, "epochs": tuple(Epoch(**e) for e in body["epochs"])})


def fit_resumable(
    network: torch.nn.Module,
    objective: Objective,
    recipe: Recipe,
    devices: Devices,
    *,
    saved: SavedFit,
    allowed: float | None,
    what: str,
    save: Callable[[], object],
) -> Fit:
    """Train on the devices; `network` ends as `SavedFit.read` leaves it. What is finished is read; two commands at once compute it once.

    saved: where it is kept. save: keeps the model, called with the best epoch's weights in `network`; then the epochs are recorded; both
    by the first process. The caller holds the lock of the folder. Raises what `fit` raises.
    """
    if not saved.file.is_file():

        def work(fabric: Fabric) -> None:
            done = fit(
                Learner(network), objective, recipe, fabric=fabric, folder=saved.checkpoints, allowed=allowed, what=what
            )
            if fabric.global_rank == 0:
                save()
                saved.write(done)

        with_fabric(work, devices)
    return saved.read(network)
