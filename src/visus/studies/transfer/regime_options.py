"""What a user asked of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from visus.errors import SpecError
from visus.spec import unknown
from visus.studies.common.options import split_commas, split_numbers
from visus.training.regimes import REGIMES, STANDARD


@dataclass(frozen=True)
class RegimeOptions:
    """What a user asked of training. regimes: names, without 'probe'. budget: seconds for the study, or None. size: pixels, or None.

    lr: learning rates instead of the regime's grid. seeds: trainings of every regime. scratch_epochs: of 'scratch' alone.
    """

    regimes: tuple[str, ...]
    epochs: int = 10
    scratch_epochs: int | None = None
    batch: int = 32
    accumulate: int = 1
    lr: tuple[float, ...] = ()
    seeds: int = 1
    size: int | None = None
    views: int = 0
    augment: bool = True
    engine: str = "auto"
    seed: int = 0
    budget: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("seeds", self.seeds),
            ("accumulate", self.accumulate),
        ):
            if value < 1:
                raise SpecError(f"--{name} must be at least 1, not {value}")
        if self.batch < 2:
            raise SpecError("--batch must be at least 2: BatchNorm learns nothing from one picture")
        if self.accumulate > self.batch // 2:
            raise SpecError(
                f"--accumulate {self.accumulate} leaves fewer than two pictures a pass of a batch of {self.batch}"
            )
        if self.views < 0 or (self.size is not None and self.size < 32):
            raise SpecError("--views must be 0 or more and --size at least 32 pixels")
        if any(not 0 < lr < 100 for lr in self.lr):
            raise SpecError("--lr must lie between 0 and 100")


def chosen_regimes(names: Sequence[str] | None) -> tuple[str, ...]:
    """Regimes by name, several may be separated by commas; None gives the standard ones. In the order of REGIMES, always with the probe."""
    asked = split_commas(names or STANDARD)
    for name in asked:
        if name not in REGIMES:
            raise unknown("--regime", name, REGIMES)
    return tuple(r for r in REGIMES if r in asked or r == "probe")


def chosen_rates(text: str | None) -> tuple[float, ...]:
    """'1e-4,3e-4' -> (1e-4, 3e-4), rising; None -> (). Raises SpecError."""
    line = f"--lr {text!r} is no list of numbers; write for example 1e-4,3e-4"
    rates = tuple(sorted(set(split_numbers(text, float, wrong=line))))
    if wrong := [rate for rate in rates if not 0 < rate < math.inf]:
        raise SpecError(f"--lr {text!r} holds {wrong[0]:g}; a learning rate is a number above 0, as 1e-4")
    return rates
