"""What training leaves behind: one record an epoch, one a learning rate tried, one a run; as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """One epoch. Losses in nats, accuracies in [0, 1]; the training ones are of the batches as they were trained on (augmented).

    number: from 1 on. lr: at the epoch's end. seconds: training and validation. parts: further means that the objective tells.
    """

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)


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
class Trial:
    """One learning rate tried: what it reached on validation (accuracy 0 and infinite loss where training broke down)."""

    lr: float
    val_accuracy: float
    val_loss: float
    epochs: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One training of one regime with one seed.

    best: index into `epochs` of the epoch that validation prefers, whose weights were kept. logits: float32 [n_test, k] of these
    weights, computed once. trials: the learning rates tried before. seconds: the trials, the run and the test. stopped: why it
    ended before its last epoch ('' when it did not). steps: optimizer steps.
    """

    seed: int
    lr: float
    epochs: tuple[Epoch, ...]
    best: int
    logits: np.ndarray
    trials: tuple[Trial, ...]
    seconds: float
    stopped: str = ""
    steps: int = 0

    @property
    def validation(self) -> float:
        """Validation accuracy of the weights that were kept."""
        return self.epochs[self.best].val_accuracy

    def to_json(self) -> dict[str, Any]:
        """Everything but the logits."""
        body = asdict(self)
        del body["logits"]
        return body

    @staticmethod
    def from_json(body: Mapping[str, Any], logits: np.ndarray) -> Run:
        """What `to_json` gave, with the logits."""
        parts = dict(body)
        parts["epochs"] = tuple(Epoch(**e) for e in parts["epochs"])
        parts["trials"] = tuple(Trial(**t) for t in parts["trials"])
        return Run(logits=logits, **parts)
