"""The choice of a learning rate: trials from the middle of a grid outwards, judged on validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visus.training.records import Trial


def search(grid: tuple[float, ...], tried: Callable[[float], Trial]) -> list[Trial]:
    """Try learning rates from the middle of the grid towards the better side, until they get worse or the grid ends.

    Validation accuracy over the logarithm of the learning rate rises and then falls: what lies beyond a fall need not be tried.
    grid: rising, two or more. Returns the trials, by learning rate.
    """
    at = min(len(grid) // 2, len(grid) - 2)
    trials = {k: tried(grid[k]) for k in (at, at + 1)}
    step = 1 if rank(trials[at + 1]) >= rank(trials[at]) else -1
    k = max(trials) if step > 0 else at
    while 0 <= k + step < len(grid):
        trials[k + step] = tried(grid[k + step])
        if rank(trials[k + step]) < rank(trials[k]):
            break
        k += step
    return [trials[k] for k in sorted(trials)]


def rank(trial: Trial) -> tuple[float, float]:
    """What the better of two trials has more of: validation accuracy, then less loss."""
    return trial.val_accuracy, -trial.val_loss


def best(trials: Sequence[Trial]) -> Trial:
    """By validation accuracy, then loss: test images have no say, they are not even in a Trial."""
    return max(trials, key=rank)
