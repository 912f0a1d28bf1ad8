"""A regime from its input to a finished run: the learning rate chosen on validation, the training, one look at the test images (P6)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from visus.errors import DataError
from visus.locks import locked
from visus.paths import write_text
from visus.training import checkpoint
from visus.training.batches import Feed
from visus.training.devices import Devices
from visus.training.epoch import DivergedError
from visus.training.learning_rates import best, search
from visus.training.loop import fit, shorter
from visus.training.networks import restore
from visus.training.objective import Classification, held_logits
from visus.training.prepared import Prepared
from visus.training.processes import with_fabric
from visus.training.recipe import Recipe
from visus.training.records import Run, Trial

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    prepared: Prepared,
    recipe: Recipe,
    *,
    grid: tuple[float, ...],
    trial_epochs: int,
    trial_pictures: int | None = None,
    allowed: float | None = None,
    devices: Devices,
    folder: Path,
) -> Run:
    """Choose the learning rate on validation, train with it, and look at the test images once. The classifier holds the best epoch.

    folder: checkpoints, trials and the finished run; a second call with the same arguments goes on, or returns what is finished.
    Raises DivergedError where every learning rate, or the run itself, breaks down.
    """
    waiting = (
        f"another process is training {prepared.built.regime} in {folder}; waiting for it, its result will be used"
    )
    with locked(folder, waiting=waiting):
        found = checkpoint.finished(folder)
        if found is None:
            work = _Work(prepared, recipe, grid, trial_epochs, trial_pictures, allowed, folder)
            with_fabric(work, devices)
            found = checkpoint.finished(folder)
    if found is None:
        raise DataError(f"{folder} was changed while it was written; run the same command again")
    restore(prepared.built, folder)
    return found


@dataclass(frozen=True)
class _Work:
    """The work of one process: the same in each, but the share of every batch."""

    prepared: Prepared
    recipe: Recipe
    grid: tuple[float, ...]
    trial_epochs: int
    trial_pictures: int | None
    allowed: float | None
    folder: Path

    def __call__(self, fabric: Fabric) -> None:
        start = time.perf_counter()
        trials = self._trials(fabric)
        lr = best(trials).lr if trials else self.grid[0]
        recipe = replace(self.recipe, lr=lr)
        network, feed = self.prepared.network, self.prepared.feed
        done = fit(
            self.prepared.learner,
            Classification(feed, recipe.smoothing),
            recipe,
            fabric=fabric,
            folder=self.folder,
            allowed=self.allowed,
            what=f"{self.prepared.built.regime}, learning rate {lr:g}",
        )
        network.to(fabric.device)
        try:
            logits = held_logits(network, feed, "test", fabric)
        finally:
            network.to("cpu")
        seconds = done.seconds + sum(t.seconds for t in trials)
        if fabric.global_rank == 0:
            taken = max(seconds, time.perf_counter() - start)
            run = Run(recipe.seed, lr, done.epochs, done.best, logits, trials, taken, done.stopped, done.steps)
            checkpoint.finish(self.folder, run)
        fabric.barrier()

    def _trials(self, fabric: Fabric) -> tuple[Trial, ...]:
        """Learning rates of the grid, tried from the same start; what was tried before a kill is not tried again."""
        if len(self.grid) == 1:
            return ()
        p, file = self.prepared, self.folder / "trials.json"
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else []
        tried_before: list[Trial] = fabric.broadcast([Trial(**t) for t in kept])  # as the first process found them
        whole, begin = p.built.classifier, checkpoint.tensors_of(p.built.classifier)
        feed = p.feed if self.trial_pictures is None else _Subset(p.feed, self._few())
        known: dict[float, Trial] = {t.lr: t for t in tried_before}

        def tried(lr: float) -> Trial:
            if lr in known:
                return known[lr]
            checkpoint.put_back(whole, begin)
            recipe, started = shorter(self.recipe, epochs=self.trial_epochs, lr=lr), time.perf_counter()
            what = f"{p.built.regime}, trying learning rate {lr:g}"
            try:
                task = Classification(feed, recipe.smoothing)
                done = fit(p.learner, task, recipe, fabric=fabric, what=what)
                reached = done.epochs[done.best]
                last = reached.val_accuracy, reached.val_loss
            except DivergedError:
                last = (0.0, float("inf"))
            share = len(feed.y) / len(p.feed.y)
            known[lr] = Trial(lr, *last, self.trial_epochs * share, time.perf_counter() - started)
            if fabric.global_rank == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps([asdict(t) for t in known.values()]))
            return known[lr]

        trials = search(self.grid, tried)
        checkpoint.put_back(whole, begin)
        if all(t.val_loss == float("inf") for t in trials):
            raise DivergedError(
                f"{p.built.regime}: the loss is not a number at any learning rate of the grid; give a lower --lr"
            )
        return tuple(trials)

    def _few(self) -> np.ndarray:
        n = len(self.prepared.feed.y)
        return np.random.default_rng(self.recipe.seed).permutation(n)[: self.trial_pictures]


@dataclass(frozen=True)
class _Subset:
    """A feed with some of the training images of another."""

    feed: Feed
    rows: np.ndarray

    @property
    def y(self) -> np.ndarray:
        found: np.ndarray = self.feed.y[self.rows]
        return found

    @property
    def held(self) -> dict[str, np.ndarray]:
        return self.feed.held

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        return self.feed.batch(self.rows[rows], epoch=epoch, device=device)

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        return self.feed.held_batch(part, rows, device=device)
