"""The choice of lambda is that of the whole path at full accuracy, though most of it is solved roughly or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from visus.measures.probe import PROTOCOLS, best_lambda, linear_probe
from visus.measures.probe_solver import Solver, solve_path

SIZES = (
    (60, 8, 2),
    (80, 150, 3),
    (120, 20, 5),
    (150, 300, 4),
    (200, 12, 10),
    (240, 90, 6),
    (300, 40, 3),
    (400, 24, 12),
)
KINDS = ("overlapping", "noise", "separable", "rectified", "heavy tails")


def data(case: int) -> tuple[np.ndarray, np.ndarray, int]:
    """x float32 [n, d], y int64 [n], classes; the case says of which size and kind."""
    rng = np.random.default_rng(case)
    (n, d, classes), kind = SIZES[case % len(SIZES)], KINDS[case % len(KINDS)]
    y = np.concatenate([np.arange(classes)] * 8 + [rng.integers(0, classes, n - 8 * classes)])[:n]
    y = y[rng.permutation(n)]
    spread = {"noise": 0.0, "separable": 3.0, "overlapping": 0.35, "rectified": 0.6, "heavy tails": 0.8}[kind]
    noise = rng.standard_t(2.5, (n, d)) if kind == "heavy tails" else rng.standard_normal((n, d))
    x = (spread * rng.standard_normal((classes, d))[y] + noise) * np.arange(1, d + 1) ** -0.4
    if kind == "rectified":
        x = np.maximum(x, 0)
    return x.astype(np.float32), y, classes


def split(n: int, case: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Folds (one, three or five), train and test."""
    order = np.random.default_rng(1000 + case).permutation(n)
    test, train = order[: n // 4], order[n // 4 :]
    parts = np.array_split(train, (5, 3, 5)[case % 3])
    folds = [(np.setdiff1d(train, part), part) for part in parts]
    return folds[:1] if case % 3 == 2 else folds, train, test


def by_the_whole_path(
    x: np.ndarray, y: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], classes: int, protocol: str
) -> tuple[int, np.ndarray]:
    """The position that the whole path chooses, each fold solved alone at every lambda, and accuracies float64 [L]."""
    preset = PROTOCOLS[protocol]
    accuracy, loss = [], []
    for fit, held in folds:
        path = solve_path(
            x[fit],
            y[fit],
            lambdas=preset.lambdas(len(fit)),
            n_classes=classes,
            standardise=preset.standardise,
            solver=Solver(tol=1e-9, precision="float64"),
        )
        z = np.stack([path.logits(x[held], k) for k in range(len(path.lambdas))]).astype(np.float64)
        accuracy.append((z.argmax(2) == y[held]).mean(1))
        top = z.max(2, keepdims=True)
        log_sum = np.log(np.exp(z - top).sum(2)) + top[..., 0]
        loss.append((log_sum - z[:, np.arange(len(held)), y[held]]).mean(1))
    means = np.mean(accuracy, axis=0)
    return best_lambda(means, np.mean(loss, axis=0), preset.lambdas(100)), means


@pytest.mark.parametrize("case", range(20))
def test_the_chosen_lambda_is_that_of_the_whole_path(case: int) -> None:
    x, y, classes = data(case)
    folds, train, test = split(len(y), case)
    protocol = "dinov2" if case % 7 == 6 else "visus"
    found = linear_probe(x, y, folds=folds, train=train, test=test, n_classes=classes, protocol=protocol)
    chosen, accuracy = by_the_whole_path(x, y, folds, classes, protocol)
    assert found.lambda_ == found.lambdas[chosen]
    assert found.validation_accuracy == pytest.approx(accuracy[chosen], abs=1e-12)
    assert found.converged
