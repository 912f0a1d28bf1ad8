"""The linear probe (P3): how much of the labels a linear classifier reads from frozen features, lambda chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from visus.errors import DataError
from visus.measures._arrays import as_array
from visus.measures.calibration import ece, nll
from visus.measures.confusion import balanced_accuracy, confusion_matrix
from visus.measures.probe_blocks import Array, Blocks, Source, as_blocks, width
from visus.measures.probe_choice import Choice, Fold, best_lambda, choose
from visus.measures.probe_design import design
from visus.measures.probe_solver import SOLVER, ProbePath, check_labels, dtype_of, solve_path, solve_rows
from visus.memory import roomier
from visus.progress import log

__all__ = [
    "PROTOCOLS",
    "Blocks",
    "ProbePath",
    "ProbeResult",
    "Protocol",
    "best_lambda",
    "linear_probe",
    "solve_path",
]


@dataclass(frozen=True)
class Protocol:
    """A published way to fit a probe. values: the path, descending in strength of the penalty.

    summed: values are C of C * sum CE + ||w||^2 / 2 (lambda = 1 / (C n)); otherwise they are lambda itself.
    """

    values: tuple[float, ...]
    summed: bool
    standardise: bool

    def lambdas(self, n: int) -> NDArray[np.float64]:
        """lambda [L] for n fitted rows."""
        values = np.asarray(self.values)
        return 1 / (values * n) if self.summed else values


# visus: with standardised features the gradient at W = 0 has entries below 1, so lambda = 100 leaves W near 0 (the decision
# is that of the class means, the best there is for a few images a class); below 1e-6 the fit follows single images.
PROTOCOLS: dict[str, Protocol] = {
    "visus": Protocol(tuple(np.logspace(2, -6, 45).tolist()), summed=False, standardise=True),
    # Oquab et al. 2023 (dinov2/eval/log_regression.py): C from 1e-6 to 1e5, raw features.
    "dinov2": Protocol(tuple((10 ** np.linspace(-6, 5, 45)).tolist()), summed=True, standardise=False),
    # Radford et al. 2021, A.3: 97 values from 1e-6 to 1e6 (the paper finds the best by a parametric binary search).
    "clip": Protocol(tuple(np.logspace(-6, 6, 97).tolist()), summed=True, standardise=False),
}


@dataclass(frozen=True)
class ProbeResult:
    """A probe, tested once. Rows of test arrays are in the order of the `test` index.

    lambda_: the chosen one, for the refit; at_edge: it is the first or last of the path (a warning: a better one may lie
    beyond). lambdas, path_accuracy: float64 [L], means over folds (see `linear_probe`). validation_accuracy: at the chosen one.
    logits, probabilities: float32 [n_test, C]; predictions: int64 [n_test]; top1, balanced_accuracy, ece: 0..1; nll: nats.
    confusion: int64 [C, C], rows true. classifier: the refit (L = 1).
    converged: whether every fit reached its tolerance.
    """

    protocol: str
    lambda_: float
    at_edge: bool
    lambdas: NDArray[np.float64]
    path_accuracy: NDArray[np.float64]
    validation_accuracy: float
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    predictions: NDArray[np.int64]
    top1: float
    balanced_accuracy: float
    nll: float
    ece: float
    confusion: NDArray[np.int64]
    classifier: ProbePath
    converged: bool


def linear_probe(
    x: Source,
    y: Array,
    *,
    folds: Sequence[tuple[Array, Array]],
    train: Array,
    test: Array,
    n_classes: int,
    protocol: str = "visus",
    device: str = "cpu",
) -> ProbeResult:
    """Fit the path on every fold, choose lambda on its validation rows, refit on `train`, test once.

    x: features [n, d] (array, memory map, or blocks); y: int [n], read only at the rows named; folds: (fit rows, validation
    rows); train, test: rows. Chosen: the highest mean validation accuracy; ties go to the lower validation NLL, then to the
    larger lambda. Scaling is fitted on the rows fitted, never on validation or test. The control on
    shuffled labels: `probe_null.permutation_null`. What could be chosen is solved to 1e-5; path_accuracy of the other lambdas is
    that of classifiers solved to 1e-3 or interpolated between such, and NaN where the walk to small lambdas had ended (probe_choice.py).
    Raises DataError on unknown protocols, indices that are empty, out of range or shared by fit and test, and on unusable labels or features.
    """
    preset = protocol_of(protocol)
    labels = as_array(y, "y")
    train, test = checked_rows(train, len(labels), "train"), checked_rows(test, len(labels), "test")
    pairs = [(checked_rows(f, len(labels), "fit"), checked_rows(v, len(labels), "validation")) for f, v in folds]
    if not pairs:
        raise DataError("a probe needs at least one fold (fit rows, validation rows) to choose lambda on")
    _check_leaks(pairs, train, test)
    if len(np.unique(check_labels(labels[train], n_classes))) < 2:
        raise DataError("the training rows hold one class only; at least two are needed to tell classes apart")

    found = [Fold(np.sort(fit), np.sort(validation), preset.lambdas(len(fit))) for fit, validation in pairs]

    def choice(device: str) -> Choice:
        return choose(
            x,
            _labels_at(labels, found, n_classes),
            found,
            n_classes=n_classes,
            standardise=preset.standardise,
            device=device,
            solver=SOLVER,
        )

    validated = roomier(choice, device, what="probe")
    lambdas, chosen = preset.lambdas(len(train)), validated.chosen
    extremes = (int(np.argmin(lambdas)), int(np.argmax(lambdas)))
    at_edge = chosen in extremes
    if at_edge:
        log(
            f"probe: validation chose lambda {lambdas[chosen]:.1e} at the edge of its path; a better one may lie beyond"
        )

    final = roomier(
        partial(_refit, x, labels, train, lambdas[chosen], preset, n_classes, validated), device, what="probe"
    )
    converged = validated.converged and bool(final.converged.all())
    if not converged:
        log("probe: some lambdas stopped before their tolerance was reached")
    logits = _logits(final, x, test)
    probabilities = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    predictions = logits.argmax(axis=1).astype(np.int64)
    truth = check_labels(labels[test], n_classes)
    return ProbeResult(
        protocol=protocol,
        lambda_=float(lambdas[chosen]),
        at_edge=at_edge,
        lambdas=lambdas,
        path_accuracy=validated.accuracy,
        validation_accuracy=float(validated.accuracy[chosen]),
        logits=logits,
        probabilities=probabilities.astype(np.float32),
        predictions=predictions,
        top1=float((predictions == truth).mean()),
        balanced_accuracy=balanced_accuracy(truth, predictions, n_classes=n_classes),
        nll=nll(probabilities, truth),
        ece=ece(probabilities, truth),
        confusion=confusion_matrix(truth, predictions, n_classes=n_classes),
        classifier=final,
        converged=converged,
    )


def protocol_of(name: str) -> Protocol:
    """A protocol by its name. Raises DataError for an unknown one."""
    if name not in PROTOCOLS:
        raise DataError(f"unknown probe protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _refit(
    x: Source,
    y: Array,
    train: NDArray[np.int64],
    lambda_: float,
    preset: Protocol,
    n_classes: int,
    choice: Choice,
    device: str,
) -> ProbePath:
    """The classifier on all rows of train, from the mean of the folds', which is near."""
    rows = np.sort(train)
    source = as_blocks(x, rows)
    prepared = design(
        source,
        standardise=preset.standardise,
        dtype=dtype_of(SOLVER, len(rows) * width(source) * n_classes),
        device=device,
        like=choice.axes,
    )
    labels = check_labels(y[rows], n_classes)
    return solve_rows(prepared, labels, np.array([lambda_]), n_classes=n_classes, init=(choice.W, choice.b))


def _labels_at(labels: Array, folds: Sequence[Fold], n_classes: int) -> NDArray[np.int64]:
    """Labels of the rows that the folds name, int64 [n]; 0 elsewhere, where they may be anything. Raises DataError."""
    found = np.zeros(len(labels), np.int64)
    for fold in folds:
        for rows in (fold.fit, fold.validation):
            found[rows] = check_labels(labels[rows], n_classes)
    return found


def _logits(path: ProbePath, x: Source, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits float32 [n, C] of the only classifier, in the order of `rows`."""
    order = np.argsort(rows, kind="stable")
    parts = [path.logits(block, 0) for block in as_blocks(x, rows[order]).blocks(4096)]
    out = np.empty((len(rows), path.W.shape[2]), np.float32)
    out[order] = np.concatenate(parts)
    return out


def checked_rows(rows: Array, n: int, name: str) -> NDArray[np.int64]:
    """The rows as int64, or DataError: none, not whole numbers, outside 0..n-1, or one named twice."""
    index = as_array(rows, f"the {name} rows")
    if index.ndim != 1 or len(index) == 0 or index.dtype.kind not in "iu":
        raise DataError(f"the {name} rows must be a non-empty vector of whole numbers")
    if index.min() < 0 or index.max() >= n:
        raise DataError(f"the {name} rows must lie in 0..{n - 1}, found {index.min()}..{index.max()}")
    if len(np.unique(index)) != len(index):
        raise DataError(f"the {name} rows name a row twice")
    return index.astype(np.int64)


def _check_leaks(
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], train: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    if np.intersect1d(train, test).size:
        raise DataError("train and test share rows; a probe must be tested on images it never saw")
    for fit, validation in pairs:
        if np.intersect1d(fit, validation).size:
            raise DataError("a fold's fit and validation rows overlap; lambda must be chosen on images it never saw")
        if np.intersect1d(np.concatenate([fit, validation]), test).size:
            raise DataError("a fold holds test rows; lambda must not be chosen on test")
