"""The linear probe (P3) of labelled images, and its control of shuffled labels (P15)."""

from __future__ import annotations

import numpy as np

from visus.measures.probe import ProbeResult, linear_probe
from visus.measures.probe_null import PermutationNull, ProbeSetting, permutation_null
from visus.studies.common.labelled_images import LabelledImages


def fit_probe(x: np.ndarray, images: LabelledImages, *, device: str, protocol: str = "visus") -> ProbeResult:
    """Lambda chosen on the validation folds of the images, tested once. x: float32 [n, d] of the valid images."""
    splits = images.splits
    return linear_probe(
        x,
        images.y,
        folds=splits.folds,
        train=splits.train,
        test=splits.test,
        n_classes=len(images.classes),
        protocol=protocol,
        device=device,
    )


def fit_shuffled(
    x: np.ndarray, images: LabelledImages, probe: ProbeResult, *, device: str, seed: int, protocol: str = "visus"
) -> PermutationNull:
    """The same probe, at the penalty that it chose, on permuted training labels. x: float32 [n, d] of the valid images."""
    return permutation_null(
        x,
        images.y,
        train=images.splits.train,
        test=images.splits.test,
        setting=ProbeSetting(len(images.classes), probe.lambda_, protocol),
        device=device,
        seed=seed,
    )
