"""A feed of points that a linear map separates, and a small network with everything that freezing can go wrong on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch


def points(n: int = 240, d: int = 8, k: int = 3, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, d] around k centres, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    centres = np.random.default_rng(7).normal(size=(k, d)) * 2
    return (centres[y] + rng.normal(size=(n, d))).astype(np.float32), y.astype(np.int64)


@dataclass
class Points:
    """A feed over arrays that records what was asked of it."""

    x: np.ndarray
    y: np.ndarray
    held_x: dict[str, np.ndarray]
    held: dict[str, np.ndarray]
    asked: list[str] = field(default_factory=list)

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        self.asked.append("train")
        return torch.from_numpy(self.x[rows]).to(device)

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        self.asked.append(part)
        return torch.from_numpy(self.held_x[part][rows]).to(device)


def feed(**kwargs: int) -> Points:
    """240 training points, 60 for validation, 60 for test."""
    x, y = points(**kwargs)
    (v, vy), (t, ty) = points(60, x.shape[1], seed=1), points(60, x.shape[1], seed=2)
    return Points(x, y, {"validation": v, "test": t}, {"validation": vy, "test": ty})


def network(d: int = 8, k: int = 3, *, seed: int = 0) -> torch.nn.Module:
    """Linear, BatchNorm, dropout, linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(d, 16),
            torch.nn.BatchNorm1d(16),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(16, k),
        )
