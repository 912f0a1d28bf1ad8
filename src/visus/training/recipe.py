"""How a regime is trained: AdamW, linear warm-up and cosine decay (P6)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

EPOCHS = 10
MUON = 3.0  # its learning rate, in those of AdamW
INSIDE = re.compile(r"(^|\.)(blocks|layers)\.\d+\.")  # names of what stands inside a transformer's blocks


@dataclass(frozen=True)
class Recipe:
    """Settings of one training.

    epochs: at most. lr: the peak. batch: images an optimizer step, in `accumulate` forward passes. weight_decay: of matrices and
    kernels; biases and norms get none. warmup: share of the steps. clip: largest gradient norm. smoothing: of the labels.
    patience: epochs without a better validation accuracy before it stops (0: never). optimizer: see `optimizer_for`. schedule: of the
    learning rate, see `lr_factor`; 'constant' has neither warm-up nor decay.
    """

    lr: float
    epochs: int = EPOCHS
    batch: int = 32
    accumulate: int = 1
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0
    smoothing: float = 0.1
    patience: int = 5
    seed: int = 0
    optimizer: Literal["adamw", "muon", "adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"

    def lr_at(self, progress: float) -> float:
        """The learning rate at `progress` in [0, 1] of the training."""
        return self.lr * (lr_factor(progress, self.warmup) if self.schedule == "cosine" else 1.0)


def lr_factor(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at `progress` in [0, 1]: linear up to `warmup`, then half a cosine down to 0.

    Source: Loshchilov and Hutter 2017 (SGDR, one cycle), with the warm-up of Goyal et al. 2017.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1 - warmup, 1e-12)))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: what trains with weight decay, and what trains without (biases, norms, tokens: fewer than two dimensions).

    Frozen parameters are in neither: an optimizer that never sees them cannot decay them.
    """
    live = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    bare = {id(p) for name, p in live if p.squeeze().ndim < 2 or name.endswith("bias")}
    groups = [
        {"params": [p for _, p in live if id(p) not in bare], "weight_decay": weight_decay},
        {"params": [p for _, p in live if id(p) in bare], "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over what trains (Loshchilov and Hutter 2019); 'adam': Adam without weight decay (Kingma and Ba 2015); 'muon': Muon over
    the matrices of the blocks, AdamW over the rest.

    Muon (Jordan et al. 2024; torch.optim.Muon), at MUON times the learning rate, scaled to AdamW's step size (Liu et al. 2025).
    """
    if recipe.optimizer == "adam":
        # Fused: one pass over the weights a step instead of one an operation.
        return torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=recipe.lr, fused=True)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameter_groups(network, recipe.weight_decay), lr=recipe.lr)
    # Matrices between hidden features only: embeddings, positions and heads are not what Muon is for.
    hidden = [p for name, p in network.named_parameters() if p.requires_grad and p.ndim == 2 and INSIDE.search(name)]
    own = {id(p) for p in hidden}
    groups = [
        {**g, "params": [p for p in g["params"] if id(p) not in own]}  # type: ignore[attr-defined]
        for g in parameter_groups(network, recipe.weight_decay)
    ]
    muon = torch.optim.Muon(hidden, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    muon.param_groups[0]["lr_factor"] = MUON
    return Joined(muon, torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.lr))


class Joined(torch.optim.Optimizer):
    """Several optimizers, each over its own parameters, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([g for part in parts for g in part.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of each."""
        for part in self.parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        """The state of each."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading makes new groups; whoever sets the learning rate must reach these.
        self.param_groups = [g for part in self.parts for g in part.param_groups]
