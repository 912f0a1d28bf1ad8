"""Wilson's interval against scipy's, for scalars and arrays; the normal interval of a mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from visus.errors import DataError
from visus.measures import wilson
from visus.measures.intervals import MeanInterval, mean_interval


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_it_is_scipy_s(level: float) -> None:
    for n in (1, 2, 10, 997):
        for hits in {0, 1, n // 2, n - 1, n}:
            low, high = wilson(hits, n, level=level)
            peer = binomtest(hits, n).proportion_ci(confidence_level=level, method="wilson")
            assert (low, high) == pytest.approx((peer.low, peer.high), rel=1e-9, abs=1e-12)
            assert isinstance(low, float)


def test_arrays_broadcast_and_nothing_known_is_everything() -> None:
    low, high = wilson(np.array([0, 5, 0]), np.array([10, 10, 0]))
    assert low.tolist() == [0.0, wilson(5, 10)[0], 0.0]
    assert high.tolist() == [wilson(0, 10)[1], wilson(5, 10)[1], 1.0]
    assert wilson(np.arange(11), 10)[1][-1] == 1.0


def test_it_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(200, 0.83, size=20_000)
    low, high = wilson(hits, 200)
    assert ((low <= 0.83) & (high >= 0.83)).mean() == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(5, 4, 0.95), (-1, 4, 0.95), (1, 4, 1.0), (1, 4, 0), (np.nan, 4, 0.9)]
)
def test_bad_input_is_one_line(hits: float, n: int, level: float) -> None:
    with pytest.raises(DataError) as error:
        wilson(hits, n, level=level)
    assert "\n" not in str(error.value)


def test_a_mean_lies_within_its_standard_errors() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = mean_interval(values)
    low, high = norm.interval(0.95, values.mean(), values.std(ddof=1) / 20)
    assert (found.value, found.n) == (values.mean(), 400)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_mean_of_little_has_no_interval() -> None:
    assert mean_interval(np.array([2.5])) == MeanInterval(2.5, None, None, 1)
    assert mean_interval(np.array([])) == MeanInterval(None, None, None, 0)
