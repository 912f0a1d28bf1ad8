"""What a training minimises and what validation says: cross-entropy over classes here; others bring their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from visus.memory import halving
from visus.training.batches import Feed
from visus.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EVALUATED = 64  # held-out images a forward pass


class Objective(Protocol):
    """What `fit` asks for. cuts: whether a batch may be cut into parts, for passes and processes (contrastive ones may not)."""

    @property
    def cuts(self) -> bool: ...
    @property
    def n(self) -> int:
        """Training images."""
        ...

    def batches(self, recipe: Recipe, epoch: int) -> list[np.ndarray]:
        """int64 rows of every batch of an epoch, the same for the same (recipe.seed, epoch)."""
        ...

    def loss(
        self, model: torch.nn.Module, rows: np.ndarray, *, epoch: int, fabric: Fabric, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(what rows add to the step's mean loss, number right, both on the device, out of how many).

        whole: the rows of the step (None: these). rows: where it cuts, a part of them, this process's share of a pass; else all, of which
        it takes its own share. The parts of all passes and processes sum to the step's loss.
        """
        ...

    def validate(self, model: torch.nn.Module, fabric: Fabric) -> tuple[float, float]:
        """(loss, accuracy) of the validation part, in eval mode."""
        ...

    def parts(self) -> Mapping[str, float]:
        """Further means of the epoch that was just validated, by name."""
        return {}


class Classification(Objective):
    """Cross-entropy of a feed's labels, with the recipe's label smoothing; validation without it."""

    cuts = True

    def __init__(self, feed: Feed, smoothing: float) -> None:
        self.feed = feed
        self.smoothing = smoothing

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.feed.y)

    def batches(self, recipe: Recipe, epoch: int) -> list[np.ndarray]:
        """A permutation, cut; the last short batch is left out."""
        return shuffled(self.n, recipe, epoch)

    def loss(
        self, model: torch.nn.Module, rows: np.ndarray, *, epoch: int, fabric: Fabric, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Their part of the mean cross-entropy in nats, the number right, the number of rows."""
        x = self.feed.batch(rows, epoch=epoch, device=fabric.device)
        y = torch.from_numpy(self.feed.y[rows]).to(fabric.device, non_blocking=True)
        logits = model(x).float()
        loss = functional.cross_entropy(logits, y, label_smoothing=self.smoothing) * weight(rows, whole)
        return loss, (logits.detach().argmax(1) == y).sum(), len(rows)

    def validate(self, model: torch.nn.Module, fabric: Fabric) -> tuple[float, float]:
        """(mean cross-entropy in nats, accuracy)."""
        logits = torch.from_numpy(held_logits(model, self.feed, "validation", fabric))
        y = torch.from_numpy(self.feed.held["validation"])
        return float(functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())


def shuffled(n: int, recipe: Recipe, epoch: int) -> list[np.ndarray]:
    """A permutation of n rows in whole batches; all rows at once where there are fewer than a batch."""
    order = np.random.default_rng([recipe.seed, epoch]).permutation(n)
    size = min(recipe.batch, n)
    return [order[start : start + size] for start in range(0, n - size + 1, size)]


def balanced(balance: np.ndarray | None, n: int, recipe: Recipe, epoch: int) -> list[np.ndarray]:
    """n // batch batches of rows, drawn from (recipe.seed, epoch), with equal shares (to one) of every value of `balance`."""
    generator = np.random.default_rng([recipe.seed, epoch])
    size = min(recipe.batch, n)
    count = n // size
    if balance is None:
        order = generator.permutation(n)
        return [order[i * size : (i + 1) * size] for i in range(count)]
    sides = [np.flatnonzero(balance == value) for value in np.unique(balance)]
    each = -(-count * size // len(sides))
    # Whole permutations one after the other: a small side comes round again, a large one is not finished in this epoch.
    long = [np.concatenate([generator.permutation(s) for _ in range(-(-each // len(s)))])[:each] for s in sides]
    order = np.stack(long, axis=1)
    for row in order:
        generator.shuffle(row)
    flat = order.reshape(-1)
    return [flat[i * size : (i + 1) * size] for i in range(count)]


def weight(rows: np.ndarray, whole: np.ndarray | None) -> float:
    """The share of a step's rows that these are: what their mean counts for."""
    return 1.0 if whole is None else len(rows) / len(whole)


def held_logits(model: torch.nn.Module, feed: Feed, part: str, fabric: Fabric) -> np.ndarray:
    """float32 [n, k]: the logits of a held-out part, in eval mode, in its order; a share of the batches by each process."""
    model.eval()
    n = len(feed.held[part])
    turns = list(range(fabric.global_rank, -(-n // EVALUATED), fabric.world_size))
    out: torch.Tensor | None = None
    with torch.inference_mode():
        for turn in turns:
            start = turn * EVALUATED

            def run(at: slice, start: int = start) -> tuple[np.ndarray, torch.Tensor]:
                rows = np.arange(start + at.start, start + at.stop)
                return rows, model(feed.held_batch(part, rows, device=fabric.device)).float()

            for _, (rows, logits) in halving(
                min(EVALUATED, n - start), EVALUATED, run, what=f"evaluating {part} pictures"
            ):
                if out is None:
                    out = torch.zeros(n, logits.shape[1], device=fabric.device)
                out[rows] = logits
    if fabric.world_size > 1:
        width = int(fabric.all_reduce(torch.tensor(0 if out is None else out.shape[1]), reduce_op="max"))
        out = torch.zeros(n, width, device=fabric.device) if out is None else out.clone()
        out = fabric.all_reduce(out, reduce_op="sum")
    found: np.ndarray = (torch.zeros(0, 0) if out is None else out).cpu().numpy()
    return found
