"""The Pareto front against a slow loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures import pareto


def _slow(cost: np.ndarray, value: np.ndarray) -> list[bool]:
    n = len(cost)
    return [
        not (np.isnan(cost[i]) or np.isnan(value[i]))
        and not any(
            cost[j] <= cost[i] and value[j] >= value[i] and (cost[j] < cost[i] or value[j] > value[i]) for j in range(n)
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_equals_a_loop_over_all_pairs_with_ties_and_gaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    cost = rng.integers(0, 1 + 12 * (seed % 3), n).astype(float)
    value = rng.integers(-3, 8, n).astype(float)
    cost[rng.random(n) < 0.1], value[rng.random(n) < 0.1] = np.nan, -np.inf
    value[rng.random(n) < 0.1] = np.nan
    assert pareto(cost, value).tolist() == _slow(cost, value)


def test_by_hand() -> None:
    assert pareto(np.array([1, 2, 3, 3, 4]), np.array([0.5, 0.4, 0.9, 0.9, 0.9])).tolist() == [1, 0, 1, 1, 0]
    assert pareto(np.array([]), np.array([])).tolist() == []


def test_lengths_that_differ_are_named() -> None:
    with pytest.raises(DataError, match="one of each"):
        pareto(np.zeros(3), np.zeros(2))
