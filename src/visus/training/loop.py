"""The loop: epochs over a feed through Lightning Fabric, with checkpoints, validation after every epoch, and the best epoch kept.

Validation decides which epoch is kept; test pictures are seen once, by `predict`, with the weights that were kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from visus.errors import DataError
from visus.memory import free_cached, out_of_memory
from visus.progress import log, task
from visus.training import checkpoint
from visus.training.objective import Objective
from visus.training.recipe import Recipe, optimizer_for
from visus.training.records import Epoch
from visus.training.together import (
    PeerOutOfMemoryError,
    add_gradients,
    agree,
    check_share,
    global_batchnorm,
    same_start,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_fabric import Fabric

CHECK_EVERY = 16  # steps between looks at the loss: a look waits for the GPU


class DivergedError(DataError):
    """The loss is no longer a number."""


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint. spent: seconds, over all sessions."""

    epoch: int = 0
    step: int = 0
    accumulate: int = 1
    spent: float = 0.0
    best: int = -1
    history: list[Epoch] = field(default_factory=list)
    stopped: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @staticmethod
    def of(body: dict[str, Any]) -> Progress:
        """What `plain` gave."""
        return Progress(**{**body, "history": [Epoch(**e) for e in body["history"]]})


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
    network: torch.nn.Module,
    objective: Objective,
    recipe: Recipe,
    *,
    fabric: Fabric,
    train_mode: Callable[[], object],
    holder: torch.nn.Module | None = None,
    folder: Path | None = None,
    allowed: float | None = None,
    what: str = "training",
) -> Fit:
    """Train what requires gradients in `network`; afterwards it holds the weights of the epoch with the best validation accuracy,
    and is on the CPU again, whatever the device.

    network: what the objective's loss is of. train_mode: sets train() and eval() as the regime wants; called before every epoch.
    holder: the module whose tensors are kept and put back (default: network), where `network` uses parts of another.
    folder: where checkpoints are kept, and found by a later call with the same arguments, which goes on after the last whole epoch
    and ends with the same bytes (None: none are kept). allowed: seconds; where they run out first the learning rate decays with the
    time instead of the steps (Li et al. 2020, budgeted training), so that a run that is cut short still ends annealed.
    Raises DivergedError when the loss is not finite (the checkpoint of the last whole epoch stays), StoreError.
    """
    start = time.perf_counter()
    holder = holder or network
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
    with task(what, steps) as progress:
        progress.advance(at.step)
        while at.epoch < recipe.epochs and not at.stopped:
            begun = time.perf_counter()
            train_mode()
            with _local_randomness(recipe.seed, at.epoch, fabric):
                loss, accuracy, lr = _epoch(
                    model,
                    wrapped,
                    objective,
                    recipe,
                    at,
                    fabric,
                    steps=steps,
                    late=lambda: spent() / allowed if allowed else 0.0,
                    timed=bool(allowed),
                    advance=progress.advance,
                    what=what,
                )
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


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.val_accuracy, -epoch.val_loss


def _epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    recipe: Recipe,
    at: Progress,
    fabric: Fabric,
    *,
    steps: int,
    late: Callable[[], float],
    timed: bool,
    advance: Callable[[int], None],
    what: str,
) -> tuple[float, float, float]:
    """One epoch: mean loss, accuracy, and the last learning rate. Ends early, and says so in `at`, when the time is up."""
    batches = objective.batches(recipe, at.epoch)
    losses: list[torch.Tensor] = []
    buffers = _Buffers(model)
    right = torch.zeros((), dtype=torch.long, device=fabric.device)
    seen, lr, looked = 0, 0.0, 0
    for k, rows in enumerate(batches):
        share = fabric.broadcast(late()) if timed else 0.0
        if share >= 1 and at.step:
            at.stopped = "budget"
            break
        # At the middle of the step: the first one moves, the last one still does.
        lr = recipe.lr_at(max((at.step + 0.5) / steps, share))
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        loss, hits, asked = _step(model, optimizer, objective, rows, recipe, at, fabric, buffers=buffers, what=what)
        losses.append(loss)
        right += hits
        seen += asked
        at.step += 1
        advance(1)
        if len(losses) - looked >= CHECK_EVERY or k == len(batches) - 1:
            _check(losses[looked:], at, fabric, first=at.step - (len(losses) - looked) + 1, lr=lr, what=what)
            looked = len(losses)
    _check(losses[looked:], at, fabric, first=at.step - (len(losses) - looked) + 1, lr=lr, what=what)
    total = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="sum") if losses else torch.tensor(np.nan)
    hits = fabric.all_reduce(right, reduce_op="sum")
    among = fabric.all_reduce(torch.tensor(seen, device=fabric.device), reduce_op="sum")
    return float(total), float(hits) / max(float(among), 1.0), lr


def _step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    rows: np.ndarray,
    recipe: Recipe,
    at: Progress,
    fabric: Fabric,
    *,
    buffers: _Buffers,
    what: str,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """One optimizer step over `rows`, in `at.accumulate` forward passes; out of memory, in twice as many, and so on.

    Returns (this process's part of the mean loss, number right, out of how many), the first two on the device. Where one process runs out
    of memory all take smaller passes: their statistics and gradients are of the same pictures.
    """
    most = max(len(rows) // fabric.world_size, 1)  # passes that leave every process a picture
    buffers.keep()
    while True:
        passes = min(at.accumulate, most) if objective.cuts else 1
        found, failed = _tried(model, objective, np.array_split(rows, passes), rows, at, fabric)
        if found is not None:
            break
        # Outside the except block: a traceback holds the tensors of the pass that failed.
        optimizer.zero_grad(set_to_none=True)
        buffers.put_back()
        free_cached()
        if not objective.cuts:
            raise DataError(f"{what}: out of memory with {len(rows)} pictures a batch; give a lower --batch")
        if passes >= most:
            raise DataError(
                f"{what}: out of memory with {-(-len(rows) // passes // fabric.world_size)} pictures at a time ({failed}); give a smaller "
                "--size or model"
            )
        at.accumulate = passes * 2
        size = -(-len(rows) // at.accumulate)
        log(
            f"{what}: out of memory; {at.accumulate} passes of {size} pictures a step from here on, {len(rows)} a step as before"
        )
    add_gradients(model.parameters())
    if recipe.clip:
        clip_gradients(model, optimizer, recipe.clip, fabric)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return found


class _Buffers:
    """A network's buffers as they were before a step: a pass that runs out of memory has moved some of BatchNorm's statistics."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.groups: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
        live = [b for b in model.buffers() if b.numel()]
        for dtype in dict.fromkeys(b.dtype for b in live):
            same = [b for b in live if b.dtype == dtype]
            self.groups.append((same, [b.clone() for b in same]))

    @torch.no_grad()
    def keep(self) -> None:
        for live, kept in self.groups:
            torch._foreach_copy_(kept, live)

    @torch.no_grad()
    def put_back(self) -> None:
        for live, kept in self.groups:
            torch._foreach_copy_(live, kept)


def _tried(
    model: torch.nn.Module,
    objective: Objective,
    parts: Sequence[np.ndarray],
    rows: np.ndarray,
    at: Progress,
    fabric: Fabric,
) -> tuple[tuple[torch.Tensor, torch.Tensor, int] | None, str]:
    """What `_step` returns, the gradients being those of this process; (None, why) where a process runs out of memory."""
    total = torch.zeros((), device=fabric.device)
    right, asked = torch.zeros((), dtype=torch.long, device=fabric.device), 0
    try:
        for part in parts:
            with global_batchnorm():
                mine = share(part, fabric) if objective.cuts else part
                loss, hits, n = objective.loss(model, mine, whole=rows, epoch=at.epoch, fabric=fabric)
                fabric.backward(loss)
            total += loss.detach()
            right += hits
            asked += n
        agree()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if not isinstance(error, PeerOutOfMemoryError):
            agree(trouble=True)
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return (total, right, asked), ""


def clip_gradients(model: torch.nn.Module, optimizer: torch.optim.Optimizer, most: float, fabric: Fabric) -> None:
    """Scale the gradients down to a joint norm of `most` where it is larger.

    Where reading the norm does not wait for a GPU, gradients below it are left alone instead of being multiplied by 1.
    """
    if fabric.device.type != "cpu":
        fabric.clip_gradients(model, optimizer, max_norm=most, error_if_nonfinite=False)
        return
    live = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in live if p.grad is not None])
    if not norm <= most:
        torch.nn.utils.clip_grads_with_norm_(live, most, norm)


def _check(losses: list[torch.Tensor], at: Progress, fabric: Fabric, *, first: int, lr: float, what: str) -> None:
    """Raise DivergedError, naming the step, when a loss is not finite."""
    if not losses:
        return
    # Over all processes: what is no number in one of them ends all.
    finite = torch.isfinite(fabric.all_reduce(torch.stack(losses), reduce_op="sum")).cpu().numpy()
    if not finite.all():
        step = first + int(np.flatnonzero(~finite)[0])
        raise DivergedError(
            f"{what}: the loss is not a number at step {step} (epoch {at.epoch + 1}, learning rate {lr:.1e}); the weights of the last "
            "whole epoch are kept; give a lower --lr"
        )


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
