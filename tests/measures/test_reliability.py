"""The reliability diagram against the calibration error that the probe reports, and against bins filled by hand."""

from __future__ import annotations

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures.calibration import ece
from visus.measures.intervals import wilson
from visus.measures.reliability import reliability


def test_its_error_is_the_calibration_error() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 400)
    y = np.random.default_rng(1).integers(0, 5, 400)
    found = reliability(p.max(axis=1), p.argmax(axis=1) == y)
    assert found.ece == pytest.approx(ece(p, y), abs=1e-12)
    assert found.n.sum() == 400
    assert np.abs((found.accuracy - found.confidence) * found.n).sum() / 400 == pytest.approx(found.ece, abs=1e-12)


def test_bins_are_what_one_fills_by_hand() -> None:
    found = reliability(np.array([0.05, 0.1, 0.1000001, 0.95, 1.0]), np.array([0, 1, 1, 1, 0]), bins=10)
    assert found.n.tolist() == [2, 1, 2]
    assert found.accuracy.tolist() == [0.5, 1.0, 0.5]
    assert found.confidence == pytest.approx([0.075, 0.1000001, 0.975])
    assert (found.low[0], found.high[0]) == pytest.approx(wilson(1, 2))


def test_confidences_outside_0_to_1_are_refused() -> None:
    with pytest.raises(DataError, match="from 0 to 1"):
        reliability(np.array([1.2]), np.array([True]))
