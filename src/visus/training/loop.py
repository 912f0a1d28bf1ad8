"""The loop: epochs over a feed through Lightning Fabric, with checkpoints, validation after every epoch, and the best epoch kept.

Validation decides which epoch is kept; test images are seen once, by `train.train`, with the weights that were kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from visus.progress import log, task
from visus.training import checkpoint
from visus.training.epoch import Training
from visus.training.objective import Objective
from visus.training.recipe import Recipe, optimizer_for
from visus.training.records import Epoch, Progress
from visus.training.together import check_share, same_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_fabric import Fabric


LEARNT = 31 * 2**20  # bytes; glibc learns nothing from more than 32 MiB


@dataclass(frozen=True)
class Learner:
    """What is trained. network: what the objective's loss is of. train_mode: sets train() and eval() as the regime wants; called before
    every epoch (None: all of it trains). holder: the module whose tensors are kept and put back, where `network` uses parts of another.
    """

    network: torch.nn.Module
    train_mode: Callable[[], object] | None = None
    holder: torch.nn.Module | None = None


@dataclass(frozen=True)
class Fit:
    """A finished training: its epochs, the index of the best by validation (its weights are in the network), steps, seconds."""

    epochs: tuple[Epoch, ...]
    best: int
    steps: int
    accumulate: int
    seconds: float
    stopped: str


def fit(
    learner: Learner,
    objective: Objective,
    recipe: Recipe,
    *,
    fabric: Fabric,
    folder: Path | None = None,
    allowed: float | None = None,
    what: str = "training",
) -> Fit:
    """Train what requires gradients in the learner's network; afterwards it holds the weights of the epoch with the best validation accuracy,
    and is on the CPU again, whatever the device.

    folder: where checkpoints are kept, and found by a later call with the same arguments, which goes on after the last whole epoch
    and ends with the same bytes (None: none are kept). allowed: seconds; where they run out first the learning rate decays with the
    time instead of the steps (Li et al. 2020, budgeted training), so that a run that is cut short still ends annealed.
    Raises DivergedError when the loss is not finite (the checkpoint of the last whole epoch stays), StoreError.
    """
    start = time.perf_counter()
    _keep_memory()
    network, holder = learner.network, learner.holder or learner.network
    check_share(min(recipe.batch, objective.n), fabric)
    # To the device first: an optimizer keeps its state beside the parameters that it was given, and loads it to where they are.
    network.to(fabric.device).to(memory_format=torch.channels_last)
    same_start(holder)
    optimizer = optimizer_for(network, recipe)
    if folder and fabric.global_rank == 0:
        checkpoint.clear_litter(folder)
    saved = checkpoint.load(folder / checkpoint.LAST) if folder else None
    at = Progress(accumulate=recipe.accumulate)
    if saved is not None:
        at = Progress.of(saved["progress"])
        checkpoint.put_back(holder, saved["tensors"])
        optimizer.load_state_dict(saved["optimizer"])
        log(f"{what}: goes on after epoch {at.epoch}")
    kept = None if folder else checkpoint.tensors_of(holder)
    model, wrapped = fabric.setup(network, optimizer)
    before = at.spent

    def spent() -> float:
        return before + time.perf_counter() - start

    steps = recipe.epochs * max(objective.n // recipe.batch, 1)
    training = Training(
        model,
        wrapped,
        objective,
        recipe,
        fabric,
        at,
        steps=steps,
        late=(lambda: spent() / allowed) if allowed else None,
        what=what,
    )
    with task(what, steps) as progress:
        progress.advance(at.step)
        while at.epoch < recipe.epochs and not at.stopped:
            begun = time.perf_counter()
            (learner.train_mode or network.train)()
            with _local_randomness(recipe.seed, at.epoch, fabric):
                loss, accuracy, lr = training.epoch(progress.advance)
            model.eval()
            with torch.inference_mode():
                # The first process decides for all: a last bit that differs must not let one stop where another goes on.
                val_loss, val_accuracy = fabric.broadcast(objective.validate(model, fabric))
            at.epoch += 1
            seconds = time.perf_counter() - begun
            parts = dict(objective.parts())
            at.history.append(Epoch(at.epoch, loss, accuracy, val_loss, val_accuracy, lr, seconds, parts))
            better = at.best < 0 or _rank(at.history[-1]) > _rank(at.history[at.best])
            if better:
                at.best = len(at.history) - 1
            elif recipe.patience and recipe.patience <= at.epoch - 1 - at.best and at.epoch < recipe.epochs:
                at.stopped = at.stopped or "early stopping"
            at.spent = spent()
            tensors = checkpoint.tensors_of(holder) if better or folder else {}
            if better:
                kept = tensors
            if folder:
                if better:
                    checkpoint.save(fabric, folder / checkpoint.BEST, {"tensors": tensors})
                state = {"tensors": tensors, "optimizer": optimizer.state_dict(), "progress": at.plain()}
                checkpoint.save(fabric, folder / checkpoint.LAST, state)
    if kept is None and folder:
        kept = (checkpoint.load(folder / checkpoint.BEST) or {}).get("tensors")
    checkpoint.put_back(holder, kept or {})
    network.to("cpu").eval()
    holder.to("cpu")
    return Fit(tuple(at.history), at.best, at.step, at.accumulate, at.spent, at.stopped)


def _keep_memory() -> None:
    """Give a large block back, from which glibc learns to keep up to twice as much of what is freed; elsewhere it changes nothing.

    Else it returns a few megabytes to the system at the end of every step, and gets them back page by page: a tenth of a small training.
    """
    torch.empty(LEARNT, dtype=torch.uint8)


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.val_accuracy, -epoch.val_loss


@contextmanager
def _local_randomness(seed: int, epoch: int, fabric: Fabric) -> Iterator[None]:
    """Dropout and stochastic depth draw from PyTorch's global generator: it is seeded for the epoch, and put back as it was."""
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.default_rng([seed, epoch, fabric.global_rank]).integers(2**31)))
        yield


def shorter(recipe: Recipe, *, epochs: int, lr: float) -> Recipe:
    """The same recipe for a trial of one learning rate: no early stopping."""
    return replace(recipe, epochs=epochs, lr=lr, patience=0)
