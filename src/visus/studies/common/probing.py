"""The linear probe (P3) of labelled images, and its control of shuffled labels (P15)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from visus.measures.probe import ProbeResult, linear_probe
from visus.measures.probe_null import PermutationNull, ProbeSetting, permutation_null
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.remembered import remembered


def fit_probe(x: np.ndarray, images: LabelledImages, *, device: str, protocol: str = "visus") -> ProbeResult:
    """Lambda chosen on the validation folds of the images, tested once. x: float32 [n, d] of the valid images."""
    return fit_probe_timed(x, images, device=device, protocol=protocol)[0]


def fit_probe_timed(
    x: np.ndarray, images: LabelledImages, *, device: str, protocol: str = "visus"
) -> tuple[ProbeResult, float]:
    """As `fit_probe`, with the seconds that it took when it was fitted."""
    splits = images.splits
    return remembered(
        _timed,
        x,
        images.y,
        folds=splits.folds,
        train=splits.train,
        test=splits.test,
        n_classes=len(images.classes),
        protocol=protocol,
        device=device,
    )


def _timed(x: np.ndarray, y: np.ndarray, **options: Any) -> tuple[ProbeResult, float]:
    start = time.perf_counter()
    probe = linear_probe(x, y, **options)
    return probe, time.perf_counter() - start


def fit_shuffled(
    x: np.ndarray, images: LabelledImages, probe: ProbeResult, *, device: str, seed: int, protocol: str = "visus"
) -> PermutationNull:
    """The same probe, at the penalty that it chose, on permuted training labels. x: float32 [n, d] of the valid images."""
    return remembered(
        permutation_null,
        x,
        images.y,
        train=images.splits.train,
        test=images.splits.test,
        setting=ProbeSetting(len(images.classes), probe.lambda_, protocol),
        device=device,
        seed=seed,
    )
