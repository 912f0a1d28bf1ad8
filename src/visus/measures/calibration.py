"""What predicted probabilities are worth: likelihood and calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visus.errors import DataError
from visus.measures._arrays import as_array

Array = NDArray[Any]


def nll(probabilities: Array, y: Array) -> float:
    """Mean negative log-likelihood of the true class, in nats.

    probabilities: [n, C], rows sum to 1; y: int [n] in 0..C-1. A true class of probability 0 counts as the smallest
    positive float32. Raises DataError on bad shapes or labels. Source: scikit-learn's log_loss, up to that floor.
    """
    p, labels = _checked(probabilities, y)
    chosen = p[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def ece(probabilities: Array, y: Array, *, bins: int = 15) -> float:
    """Expected calibration error of the top class, in 0..1.

    probabilities: [n, C]; y: int [n]; `bins` equal-width bins of confidence, each (low, high]. Returns the mean over
    images of |accuracy - confidence| of their bin. Raises DataError on bad shapes, labels or bins. Source: Guo et al. 2017.
    """
    if bins < 1:
        raise DataError(f"the calibration error needs at least one bin, not {bins}")
    p, labels = _checked(probabilities, y)
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def _checked(probabilities: Array, y: Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p = as_array(probabilities, "probabilities", real=True)
    if p.ndim != 2:
        raise DataError(f"probabilities must be [n, classes], not of shape {p.shape}")
    labels = _labels(y, p.shape[1])
    if len(labels) != len(p):
        raise DataError(f"{len(p)} rows of probabilities for {len(labels)} labels; give one for each")
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise DataError("probabilities must be finite, not negative, and sum to 1 in each row; apply softmax first")
    return p, labels


def _labels(y: Array, n_classes: int) -> NDArray[np.int64]:
    raw = as_array(y, "y")
    if raw.ndim != 1 or len(raw) == 0 or raw.dtype.kind not in "iu":
        raise DataError(f"labels must be a non-empty vector of integers, not {raw.dtype} of shape {raw.shape}")
    if raw.min() < 0 or raw.max() >= n_classes:
        raise DataError(f"labels must lie in 0..{n_classes - 1}, found {raw.min()}..{raw.max()}")
    return raw.astype(np.int64)
