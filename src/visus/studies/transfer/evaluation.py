"""One layer's worth: probe, kNN, controls and separability of one tap of one model on one split (P3, P4, P5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visus.measures.knn import KS, knn_accuracy
from visus.measures.probe import ProbeResult
from visus.measures.probe_null import PermutationNull
from visus.measures.separability import scatter_ratio, silhouette_cosine
from visus.progress import task
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.probing import fit_probe, fit_probe_timed, fit_shuffled
from visus.studies.common.remembered import remembered
from visus.studies.common.taps import tap_label
from visus.studies.transfer.inputs import ModelFeatures, vectors
from visus.studies.transfer.options import ProbeOptions

LayerVectors = dict[tuple[str, str], np.ndarray]  # (model, tap) -> float32 [n, d] of the valid images


@dataclass(frozen=True)
class Layer:
    """Which layer: the model's spec (or a network's name), the tap, and the tap as people read it."""

    model: str
    tap: str
    label: str


@dataclass(frozen=True)
class LayerScore:
    """What was measured at one tap of one model. Arrays over test images are in the order of the split's test rows.

    probe: the linear probe (P3). shuffled: test accuracies of the same probe, at the same penalty, fitted on permuted labels. random:
    accuracy of the same probe on the random-init network, None where there is none. knn: test accuracy by k; knn_k: the k that validation chose;
    knn_validation: mean accuracy over the folds at that k; knn_predictions: int64 [n_test] at it. silhouette: cosine, over test
    images. scatter: between over within class scatter. seconds: what fitting the probe took.
    """

    model: str
    tap: str
    label: str
    width: int
    probe: ProbeResult
    shuffled: PermutationNull | None
    random: float | None
    knn: Mapping[int, float]
    knn_k: int
    knn_predictions: np.ndarray
    silhouette: float
    scatter: float
    seconds: float = 0.0
    knn_validation: float = float("nan")

    @property
    def knn_top1(self) -> float:
        """Test accuracy of kNN at the chosen k."""
        return float(self.knn[self.knn_k])

    @property
    def validation(self) -> float:
        """Validation accuracy of the probe at the chosen lambda: what layers and models are chosen by, never test."""
        return float(self.probe.validation_accuracy)


def evaluate_layers(
    models: Sequence[ModelFeatures], images: LabelledImages, options: ProbeOptions, *, pool: str
) -> tuple[tuple[LayerScore, ...], LayerVectors]:
    """Score every layer of every model, and the vectors that were scored."""
    scores: list[LayerScore] = []
    seen: LayerVectors = {}
    with task("probing layers", sum(len(m.taps) for m in models)) as progress:
        for m in models:
            for tap in m.taps:
                x = vectors(m.features, tap, images, pool=pool, seed=options.seed)
                random_x = None
                if m.random_control is not None:
                    random_x = vectors(m.random_control, tap, images, pool=pool, seed=options.seed)
                seen[m.spec, tap] = x
                layer = Layer(m.spec, tap, tap_label(m.backbone, tap))
                scores.append(evaluate_layer(x, images, layer, options, random_x=random_x))
                progress.advance()
    return tuple(scores), seen


def evaluate_layer(
    x: np.ndarray, images: LabelledImages, layer: Layer, options: ProbeOptions, *, random_x: np.ndarray | None = None
) -> LayerScore:
    """Everything that is asked of one layer.

    x: float32 [n, d], features of the valid images; random_x: the same layer of the random-init network, or None.
    """
    o = options
    probe, seconds = fit_probe_timed(x, images, device=o.device, protocol=o.protocol)
    shuffled = None
    if o.controls:
        shuffled = fit_shuffled(x, images, probe, device=o.device, seed=o.seed, protocol=o.protocol)
    random = None if random_x is None else fit_probe(random_x, images, device=o.device, protocol=o.protocol).top1
    knn, k, knn_validation, predictions = score_knn(x, images, device=o.device)
    test_x, test_y = x[images.splits.test], images.test_y
    shown = len(np.unique(test_y))  # one class alone, or one image of each, lies neither near nor far
    return LayerScore(
        model=layer.model,
        tap=layer.tap,
        label=layer.label,
        width=x.shape[1],
        probe=probe,
        shuffled=shuffled,
        random=random,
        knn=knn,
        knn_k=k,
        knn_validation=knn_validation,
        knn_predictions=predictions,
        silhouette=silhouette_cosine(test_x, test_y).score if 1 < shown < len(test_y) else float("nan"),
        scatter=scatter_ratio(test_x, test_y).ratio if shown > 1 else float("nan"),
        seconds=seconds,
    )


def score_knn(x: np.ndarray, images: LabelledImages, *, device: str) -> tuple[dict[int, float], int, float, np.ndarray]:
    """kNN by P4: k chosen on the validation folds, then one search for the test images.

    x: [n, d]. Returns (test accuracy by k, the chosen k, validation accuracy at it, int64 [n_test] predicted at it).
    """
    splits, n_classes = images.splits, len(images.classes)
    return remembered(_knn, x, images.y, splits.folds, splits.train, splits.test, n_classes=n_classes, device=device)


def _knn(
    x: np.ndarray,
    y: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_classes: int,
    device: str,
) -> tuple[dict[int, float], int, float, np.ndarray]:
    votes: dict[int, list[float]] = {}
    for fit, held in folds:
        found = knn_accuracy(x[fit], y[fit], x[held], y[held], n_classes=n_classes, device=device)
        for k, accuracy in found.accuracy.items():
            votes.setdefault(k, []).append(accuracy)
    # A k larger than a small fold is cut to its size there: only those that every fold could serve compete.
    means = {k: float(np.mean(v)) for k, v in votes.items() if len(v) == len(folds)}
    best = max(means, key=lambda k: (means[k], -k))
    ks = sorted({*KS, best})
    tested = knn_accuracy(x[train], y[train], x[test], y[test], n_classes=n_classes, ks=ks, device=device)
    return tested.accuracy, best, means[best], tested.predictions[best]


def best_of(scores: Sequence[LayerScore], model: str | None = None) -> LayerScore:
    """The layer that validation prefers, of one model or of all (test has no say in it)."""
    return max((s for s in scores if model in (None, s.model)), key=lambda s: s.validation)
