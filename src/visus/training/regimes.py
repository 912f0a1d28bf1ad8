"""What can be trained of a backbone, from nothing to everything, and how each way is trained as a rule: the one place that says so (P6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Regime:
    """One way to train a backbone for other classes.

    name: as a user writes it. label: as people read it. trains: 'nothing' (a convex fit on frozen features), a part of the classifier
    (see models.parts.trainable), or 'adapters' (LoRA) and the head. random: whether it starts from random weights. standard: whether
    it runs where nothing else was asked for. grid: learning rates that it may choose from, on validation, in factors of about three, as
    one epoch cannot tell nearer ones apart. share: of the time among those over the whole network.
    """

    name: str
    label: str
    trains: Literal["nothing", "head", "last-block", "adapters", "network"]
    grid: tuple[float, ...] = ()
    standard: bool = True
    random: bool = False
    share: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every image passes through the whole network in every epoch."""
        return self.trains in ("adapters", "network")


# What fine-tuning brings is the question, the others are its context: it gets most of the time. Whole pretrained networks end at 1e-3, as
# short trials flatter high rates.
REGIMES: Mapping[str, Regime] = {
    r.name: r
    for r in (
        Regime("probe", "linear probe", "nothing"),
        Regime("head", "head", "head", (1e-3, 3e-3, 1e-2, 3e-2)),
        Regime("last-block", "last block", "last-block", (1e-4, 3e-4, 1e-3, 3e-3)),
        Regime("lora", "LoRA", "adapters", (3e-4, 1e-3, 3e-3), standard=False, share=1.0),
        Regime("full", "full fine-tuning", "network", (3e-5, 1e-4, 3e-4, 1e-3), share=4.0),
        Regime("scratch", "training from scratch", "network", (3e-4, 1e-3, 3e-3), random=True, share=1.0),
    )
}
TRAINED = tuple(name for name, r in REGIMES.items() if r.trains != "nothing")
STANDARD = tuple(name for name, r in REGIMES.items() if r.standard)
WHOLE = tuple(name for name, r in REGIMES.items() if r.whole)
