"""A proportion with its interval and n, as every accuracy is stated (protocol P1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from visus.formats import interval_text, percent
from visus.measures.intervals import wilson
from visus.result import Column, Metric

ACCURACY = (
    Column("accuracy", "accuracy", "share"),
    Column("low", "low", "share"),
    Column("high", "high", "share"),
    Column("n", "n"),
)  # over the cells of a Proportion


@dataclass(frozen=True)
class Proportion:
    """value: a fraction of n, with its 95 % Wilson interval low to high."""

    value: float
    low: float
    high: float
    n: int

    @property
    def cells(self) -> tuple[float, float, float, int]:
        """Of a table, under ACCURACY."""
        return self.value, self.low, self.high, self.n

    def text(self, what: str = "test images") -> str:
        """'83.1 % of 600 test images (95 % interval 80.0 to 86.0 %)'."""
        return f"{percent(self.value)} of {self.n:,} {what} ({interval_text(self.low, self.high)})"

    def metric(
        self, key: str, *, label: str, better: Literal["higher", "lower"] | None = "higher", split: str = "test"
    ) -> Metric:
        """It under a key, for the result's metrics."""
        return Metric(key, self.value, self.low, self.high, self.n, "share", better, split, label)


def proportion(right: np.ndarray) -> Proportion:
    """Of bool (or share, as of several runs) [n]. Of nothing nothing is known: NaN, 0 to 1."""
    n = len(right)
    return of_value(float(np.mean(right)) if n else float("nan"), n)


def of_counts(hits: int, n: int) -> Proportion:
    """hits of n; n > 0."""
    return Proportion(hits / n, *wilson(hits, n), n)


def of_value(value: float, n: int) -> Proportion:
    """Of a share that was measured over n."""
    low, high = wilson(round(value * n) if n else 0, n)
    return Proportion(value, low, high, n)
