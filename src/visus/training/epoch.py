"""One epoch: optimizer steps in as many passes as memory needs, the same in every process, and an end where the loss is no number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from visus.errors import DataError
from visus.memory import free_cached, out_of_memory
from visus.progress import log
from visus.training.objective import Objective
from visus.training.recipe import Recipe
from visus.training.records import Progress
from visus.training.together import PeerOutOfMemoryError, add_gradients, agree, global_batchnorm, share

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECK_EVERY = 16  # steps between looks at the loss: a look waits for the GPU
SWEEP_EVERY = 64  # steps between sweeps of moments; one that gets no gradients falls to a thousandth meanwhile
NOUGHT = 1e-30  # of a moment: no weight feels it


class DivergedError(DataError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Training:
    """A training under way. model, optimizer: as Fabric set them up. at: where it stands, moved on by every step.

    steps: of all its epochs. late: the share of the time allowed that is spent, or None where time is no matter. what: for messages.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    recipe: Recipe
    fabric: Fabric
    at: Progress
    steps: int
    late: Callable[[], float] | None
    what: str

    def epoch(self, advance: Callable[[int], None]) -> tuple[float, float, float]:
        """One epoch: mean loss, accuracy, and the last learning rate. Ends early, and says so in `at`, when the time is up."""
        at, fabric, recipe = self.at, self.fabric, self.recipe
        batches = self.objective.batches(recipe, at.epoch)
        losses: list[torch.Tensor] = []
        buffers = _Buffers(self.model)
        right = torch.zeros((), dtype=torch.long, device=fabric.device)
        seen, lr, looked = 0, 0.0, 0
        for k, rows in enumerate(batches):
            spent = fabric.broadcast(self.late()) if self.late else 0.0
            if spent >= 1 and at.step:
                at.stopped = "budget"
                break
            # At the middle of the step: the first one moves, the last one still does.
            lr = recipe.lr_at(max((at.step + 0.5) / self.steps, spent))
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("lr_factor", 1.0)
            loss, hits, asked = self._step(rows, buffers)
            losses.append(loss)
            right += hits
            seen += asked
            at.step += 1
            if at.step % SWEEP_EVERY == 0 and fabric.device.type == "cpu":
                sweep_moments(self.optimizer)
            advance(1)
            if len(losses) - looked >= CHECK_EVERY or k == len(batches) - 1:
                self._check(losses[looked:], lr)
                looked = len(losses)
        self._check(losses[looked:], lr)
        total = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="sum") if losses else torch.tensor(np.nan)
        hits = fabric.all_reduce(right, reduce_op="sum")
        among = fabric.all_reduce(torch.tensor(seen, device=fabric.device), reduce_op="sum")
        return float(total), float(hits) / max(float(among), 1.0), lr

    def _step(self, rows: np.ndarray, buffers: _Buffers) -> tuple[torch.Tensor, torch.Tensor, int]:
        """One optimizer step over `rows`, in `at.accumulate` forward passes; out of memory, in twice as many, and so on.

        Returns (this process's part of the mean loss, number right, out of how many), the first two on the device. Where one process
        runs out of memory all take smaller passes: their statistics and gradients are of the same images.
        """
        at, cuts, processes = self.at, self.objective.cuts, self.fabric.world_size
        most = max(len(rows) // processes, 1)  # passes that leave every process an image
        buffers.keep()
        while True:
            passes = min(at.accumulate, most) if cuts else 1
            found, failed = self._tried(np.array_split(rows, passes), rows)
            if found is not None:
                break
            # Outside the except block: a traceback holds the tensors of the pass that failed.
            self.optimizer.zero_grad(set_to_none=True)
            buffers.put_back()
            free_cached()
            if not cuts:
                raise DataError(f"{self.what}: out of memory with {len(rows)} pictures a batch; give a lower --batch")
            if passes >= most:
                raise DataError(
                    f"{self.what}: out of memory with {-(-len(rows) // passes // processes)} pictures at a time ({failed}); give a smaller "
                    "--size or model"
                )
            at.accumulate = passes * 2
            size = -(-len(rows) // at.accumulate)
            log(
                f"{self.what}: out of memory; {at.accumulate} passes of {size} pictures a step from here on, {len(rows)} a step as before"
            )
        add_gradients(self.model.parameters())
        if self.recipe.clip:
            clip_gradients(self.model, self.optimizer, self.recipe.clip, self.fabric)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def _tried(
        self, parts: Sequence[np.ndarray], rows: np.ndarray
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, int] | None, str]:
        """What `_step` returns, the gradients being those of this process; (None, why) where a process runs out of memory."""
        fabric, objective = self.fabric, self.objective
        total = torch.zeros((), device=fabric.device)
        right, asked = torch.zeros((), dtype=torch.long, device=fabric.device), 0
        try:
            for part in parts:
                with global_batchnorm():
                    mine = share(part, fabric) if objective.cuts else part
                    loss, hits, n = objective.loss(self.model, mine, whole=rows, epoch=self.at.epoch, fabric=fabric)
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

    def _check(self, losses: list[torch.Tensor], lr: float) -> None:
        """Raise DivergedError, naming the step, when one of the last losses is not finite."""
        if not losses:
            return
        # Over all processes: what is no number in one of them ends all.
        finite = torch.isfinite(self.fabric.all_reduce(torch.stack(losses), reduce_op="sum")).cpu().numpy()
        if not finite.all():
            step = self.at.step - len(losses) + 1 + int(np.flatnonzero(~finite)[0])
            raise DivergedError(
                f"{self.what}: the loss is not a number at step {step} (epoch {self.at.epoch + 1}, learning rate {lr:.1e}); the weights of "
                "the last whole epoch are kept; give a lower --lr"
            )


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


@torch.no_grad()
def sweep_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set the moments that are next to nothing to 0: those of a unit that gets no gradient any more.

    Left alone they shrink until they are no normal numbers, with which a CPU computes ten times as slowly: after some 700 steps a training
    of a network with dead units takes half as long again. (torch.set_flush_denormal reaches the main thread alone.)
    """
    for state in getattr(optimizer, "optimizer", optimizer).state.values():
        for moment in state.values():
            if isinstance(moment, torch.Tensor) and moment.ndim:
                moment.copy_(torch.nn.functional.hardshrink(moment, NOUGHT))


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
