"""Calibration measures against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss, recall_score

from visus.errors import DataError
from visus.measures.calibration import ece, nll
from visus.measures.confusion import balanced_accuracy, class_recall
from visus.measures.confusion import confusion_matrix as confusion


@pytest.fixture
def guesses() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(4), size=300), rng.integers(0, 4, 300)


def test_nll_and_recalls_are_scikit_learns(guesses: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = guesses
    said = p.argmax(axis=1)
    assert nll(p, y) == pytest.approx(log_loss(y, p), rel=1e-9)
    assert balanced_accuracy(y, said, n_classes=4) == pytest.approx(balanced_accuracy_score(y, said))
    np.testing.assert_allclose(class_recall(y, said, n_classes=4).recall, recall_score(y, said, average=None))
    np.testing.assert_array_equal(confusion(y, said, n_classes=4), confusion_matrix(y, said))


def test_ece_is_the_slow_loop(guesses: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = guesses
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for low in range(15):
        mine = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if mine.any():
            total += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
    assert ece(p, y) == pytest.approx(total, rel=1e-9)


def test_ece_by_hand() -> None:
    # Three at confidence 0.8 of which two are right, one at 0.6 that is wrong: 3/4 * |2/3 - 0.8| + 1/4 * 0.6.
    p = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    assert ece(p, np.array([0, 0, 0, 1])) == pytest.approx(0.75 * (0.8 - 2 / 3) + 0.25 * 0.6)
    assert ece(np.eye(3), np.arange(3)) == 0.0


def test_a_class_without_images_is_left_out_of_the_mean() -> None:
    recall = class_recall(np.array([0, 0, 1]), np.array([0, 1, 1]), n_classes=3).recall
    assert recall[:2].tolist() == [0.5, 1.0]
    assert np.isnan(recall[2])
    assert balanced_accuracy(np.array([0, 0, 1]), np.array([0, 1, 1]), n_classes=3) == 0.75


def test_bad_input_is_named() -> None:
    p = np.full((3, 2), 0.5)
    with pytest.raises(DataError, match="softmax"):
        nll(p * 3, np.zeros(3, int))
    with pytest.raises(DataError, match="labels must lie"):
        nll(p, np.array([0, 1, 2]))
    with pytest.raises(DataError, match="for 2 labels"):
        ece(p, np.zeros(2, int))
    with pytest.raises(DataError, match="at least one bin"):
        ece(p, np.zeros(3, int), bins=0)
