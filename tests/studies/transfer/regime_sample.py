"""Regimes made by hand: which test images each gets right is planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visus.studies.transfer.regimes.scores import Epoch, Regimes, RegimeScore, Run, Trial

CLASSES = ("ant", "bee", "cat", "dog")
N = 400
Y = np.random.default_rng(7).integers(0, len(CLASSES), N)
# What regimes of a small ViT cost and reach, roughly.
COST = {"probe": 2e12, "head": 3e12, "last-block": 4e13, "lora": 6e14, "full": 9e14, "scratch": 9e14}
REACH = {"probe": 0.84, "head": 0.83, "last-block": 0.87, "lora": 0.91, "full": 0.92, "scratch": 0.41}


def logits(right: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """float32 [n, 4] whose largest entry is the label exactly where `right` says so."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(len(right), len(CLASSES)))
    top = np.where(right, Y[: len(right)], (Y[: len(right)] + rng.integers(1, len(CLASSES), len(right))) % len(CLASSES))
    z[np.arange(len(right)), top] = z.max(axis=1) + rng.uniform(0.1, 3, len(right))
    return z.astype(np.float32)


def first(share: float, n: int = N) -> np.ndarray:
    """bool [n]: right on the first share of the images, so that of two the better one is right wherever the other is."""
    return np.arange(n) < round(share * n)


def mixed(share: float, *, seed: int, n: int = N) -> np.ndarray:
    """bool [n]: right on a random share of the images."""
    return np.random.default_rng(seed).permutation(first(share, n))


def epochs(
    val: Sequence[float], *, val_loss: Sequence[float] | None = None, train_loss: Sequence[float] | None = None
) -> tuple[Epoch, ...]:
    k = len(val)
    lv = list(val_loss) if val_loss is not None else list(np.linspace(1.0, 0.5, k))
    lt = list(train_loss) if train_loss is not None else list(np.linspace(1.2, 0.6, k))
    return tuple(Epoch(i + 1, lt[i], min(val[i] + 0.02, 1.0), lv[i], val[i], 1e-3, 2.0) for i in range(k))


def run(right: np.ndarray, *, val: float, seed: int = 0, **more: Any) -> Run:
    """A run that is best in its third of four epochs, with a learning rate inside its grid."""
    fields: dict[str, Any] = {
        "seed": seed,
        "lr": 1e-3,
        "epochs": epochs([val - 0.2, val - 0.1, val, val - 0.01]),
        "best": 2,
        "logits": logits(right, seed=seed),
        "trials": tuple(Trial(lr, val - abs(np.log10(lr) + 3) / 20, 0.5, 1.0, 3.0) for lr in (3e-4, 1e-3, 3e-3)),
        "seconds": 20.0,
        "stopped": "",
    }
    return Run(**(fields | more))


def score(regime: str, runs: Sequence[Run], *, model: str = "tiny", **more: Any) -> RegimeScore:
    fields: dict[str, Any] = {
        "trainable": 1_000,
        "parameters": 50_000,
        "flops": COST.get(regime, 1e12),
        "seconds": COST.get(regime, 1e12) / 5e10,
        "peak_memory": 512_000_000,
        "batch": 32,
        "accumulate": 1,
        "size": (64, 64),
        "augmented": "",
    }
    return RegimeScore(model=model, regime=regime, runs=tuple(runs), **(fields | more))


def regimes(scores: Sequence[RegimeScore], **more: Any) -> Regimes:
    n = len(scores[0].runs[0].logits)
    return Regimes("planted", CLASSES, Y[:n], tuple(scores), **more)


def study(models: Sequence[str] = ("tiny",), seeds: int = 1) -> Regimes:
    """Every regime but the convex probe's own row, for each model."""
    scores = []
    for m, model in enumerate(models):
        for i, (regime, reach) in enumerate(REACH.items()):
            right = [mixed(reach + 0.02 * m + 0.01 * k, seed=100 * m + 10 * i + k) for k in range(seeds)]
            runs = [run(r, val=reach + 0.02 * m, seed=k) for k, r in enumerate(right)]
            scores.append(score(regime, runs, model=model, flops=COST[regime] * 3**m))
    return regimes(scores, fitted=600)
