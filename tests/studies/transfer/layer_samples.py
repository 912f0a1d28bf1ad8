"""Labelled images and layer scores made by hand: what each layer gets right is planted."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from visus.images import Quarantined, Splits
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.transfer.evaluation import LayerScore
from visus.studies.transfer.inputs import ModelFeatures

CLASSES = ("ant", "bee", "cat")
N_TEST = 60


def images(n_test: int = N_TEST, *, classes: Sequence[str] = CLASSES, missing: int | None = None) -> LabelledImages:
    """60 images to train and validate on, n_test to test on; no test image of class `missing`."""
    n = 60 + n_test
    y = np.arange(n) % len(classes)
    if missing is not None:
        y[60:][y[60:] == missing] = (missing + 1) % len(classes)
    rows = np.arange(n)
    imageset: Any = SimpleNamespace(
        name="planted", ids=[f"{i:03}.png" for i in rows], classes=classes, labels=y, quarantine=(), fingerprint="f"
    )
    splits = Splits(rows[:60], ((rows[:48], rows[48:60]),), rows[60:])
    return LabelledImages(imageset, splits, rows, y)


def answers(data: LabelledImages, right: float, *, seed: int = 0) -> np.ndarray:
    """int64 [n_test]: right on the first share of the test images, the next class on the others."""
    y = data.test_y
    wrong = np.arange(len(y)) >= round(right * len(y))
    return np.where(wrong, (y + 1) % len(data.classes), y)


def score(
    data: LabelledImages,
    tap: str,
    right: float,
    *,
    model: str = "timm:net",
    validation: float | None = None,
    knn: float = 0.5,
    random: float | None = 0.4,
    shuffled: Sequence[float] | None = (0.2, 0.3, 0.4),
    at_edge: bool = False,
) -> LayerScore:
    """A layer whose probe is right on the first share of the test images."""
    predicted, near = answers(data, right), answers(data, knn)
    n, k = len(predicted), len(data.classes)
    probabilities = np.full((n, k), 0.1, np.float32)
    probabilities[np.arange(n), predicted] = np.linspace(0.5, 0.9, n)
    truth = float(np.mean(predicted == data.test_y))
    probe: Any = SimpleNamespace(
        top1=truth, balanced_accuracy=truth, nll=0.7, ece=0.05, validation_accuracy=right if validation is None else validation,
        lambda_=1e-2, at_edge=at_edge, lambdas=np.array([1e-3, 1e-2]), path_accuracy=np.array([0.4, 0.6]), predictions=predicted,
        probabilities=probabilities,
    )  # fmt: skip
    null: Any = None
    if shuffled is not None:
        values = np.array(shuffled)
        null = SimpleNamespace(
            accuracy=values, mean=float(values.mean()), point=float(values.max()), p_value=lambda a: float(np.mean(values >= a)),
            exceeded_by=lambda a: bool(a > values.max()),
        )  # fmt: skip
    accuracy = float(np.mean(near == data.test_y))
    return LayerScore(
        model, tap, f"{tap} (blocks.{tap})", 64, probe, null, random, {1: 0.3, 5: accuracy}, 5, near, 0.1, 1.2, 2.0, 0.55
    )  # fmt: skip


def model(
    spec: str = "timm:net", *, control: bool = True, pixels: Sequence[str] | None = None, n: int = 120
) -> ModelFeatures:
    """A model's features without vectors: only what is told of them."""
    hashes = np.array(pixels if pixels is not None else [f"p{i}" for i in range(n)])
    cost = {"engine": "torch", "batch": 8, "seconds": 3.0, "images_per_second": 40.0, "cached": False}
    aside = (Quarantined("torn.png", "no picture"),)
    features: Any = SimpleNamespace(pixels=hashes, rows=np.arange(n), quarantine=aside, cost=cost)
    backbone: Any = SimpleNamespace(spec=spec, parameters=1_000_000, random=False, fingerprint="f")
    return ModelFeatures(backbone, features, features if control else None, ("early", "late"))
