"""Changed mistakes against a slow loop with the library's own McNemar, and planted changes."""

from __future__ import annotations

import numpy as np
import pytest

from visus.errors import DataError
from visus.measures import confusion_changes, holm, mcnemar


def test_counts_and_p_values_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 300)
    before = np.where(rng.random(300) < 0.5, y, rng.integers(0, 5, 300))
    after = np.where(rng.random(300) < 0.8, before, rng.integers(0, 5, 300))
    found = confusion_changes(y, before, after, n_classes=6)
    slow = {}
    for true in range(6):
        for predicted in range(6):
            a, b = before[y == true] == predicted, after[y == true] == predicted
            if true != predicted and (a.any() or b.any()):
                slow[true, predicted] = int(a.sum()), int(b.sum()), len(a), mcnemar(a, b).p_value
    corrected = dict(zip(slow, holm(np.array([v[3] for v in slow.values()])), strict=True))
    assert {(x.true, x.predicted) for x in found} == set(slow)
    for x in found:
        counts = slow[x.true, x.predicted]
        assert (x.before, x.after, x.images) == counts[:3]
        assert x.change == x.after - x.before
        assert x.p == pytest.approx(counts[3], rel=1e-9)
        assert x.holm == pytest.approx(corrected[x.true, x.predicted], rel=1e-9)
    assert [x.change for x in found] == sorted(x.change for x in found)


def test_a_mistake_that_went_comes_first_and_one_that_came_last() -> None:
    y = np.repeat([0, 1, 2], 20)
    before, after = y.copy(), y.copy()
    before[:12] = 1  # twelve of class 0 were taken for 1, none after
    after[40:43] = 0  # three of class 2 are taken for 0, none before
    before[20:22] = after[20:22] = 2  # two of class 1 are taken for 2 all along
    first, kept, last = confusion_changes(y, before, after, n_classes=3)
    assert (first.true, first.predicted, first.before, first.after, first.images) == (0, 1, 12, 0, 20)
    assert first.p == pytest.approx(2 * 0.5**12)
    assert first.holm == pytest.approx(3 * 2 * 0.5**12)
    assert (kept.change, kept.p) == (0, 1.0)
    assert (last.true, last.predicted, last.change, last.p) == (2, 0, 3, pytest.approx(0.25))


def test_nothing_wrong_is_nothing_changed() -> None:
    y = np.arange(4)
    assert confusion_changes(y, y, y, n_classes=4) == []


def test_predictions_for_other_images_are_refused() -> None:
    with pytest.raises(DataError):
        confusion_changes(np.zeros(4, int), np.zeros(4, int), np.zeros(3, int), n_classes=2)
    with pytest.raises(DataError):
        confusion_changes(np.zeros(4, int), np.zeros(4, int), np.full(4, 2), n_classes=2)
