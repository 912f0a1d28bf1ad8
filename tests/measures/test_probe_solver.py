"""The path solver against scikit-learn's converged optimum, along the whole path and where it is hard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from visus.errors import DataError
from visus.measures.probe_solver import ProbePath, Solver, solve_path

LAMBDAS = np.logspace(2, -6, 9)


def objective(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, lam: float) -> float:
    z = x.astype(np.float64) @ w.astype(np.float64) + b
    u = np.exp(z - z[np.arange(len(y)), y][:, None])
    u[np.arange(len(y)), y] = 0  # log1p of the others keeps the digits of losses near zero
    return float(np.log1p(u.sum(axis=1)).mean() + lam / 2 * (w.astype(np.float64) ** 2).sum())


def optimum(x: np.ndarray, y: np.ndarray, lam: float) -> float:
    """The best of scikit-learn's two solvers, run to convergence in float64 (one of them where the Hessian is large)."""
    best = np.inf
    x = x.astype(np.float64)
    solvers = [{"solver": "lbfgs", "max_iter": 50_000}, {"solver": "newton-cholesky", "max_iter": 1_000}]
    for settings in solvers if y.max() < 50 else solvers[:1]:
        model = LogisticRegression(C=1 / (lam * len(x)), tol=1e-10, **settings).fit(x, y)
        w, b = model.coef_.T, model.intercept_
        if w.shape[1] == 1:  # a sigmoid's w is a softmax's +-w/2, whose penalty is half: fit two classes as a softmax
            model = LogisticRegression(C=2 / (lam * len(x)), tol=1e-10, **settings).fit(x, y)
            w, b = model.coef_.T, model.intercept_
            w, b = np.hstack([-w, w]) / 2, np.hstack([-b, b]) / 2
        best = min(best, objective(x, y, w, b, lam))
    return best


def clouds(n: int, d: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    scale = np.arange(1, d + 1) ** -0.5
    centres = rng.standard_normal((classes, d)) * spread
    mix = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (((centres[y] + rng.standard_normal((n, d))) * scale) @ mix).astype(np.float32), y


def hard_case(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    if name == "overlapping":
        return *clouds(600, 12, 4, 0.5), 4
    if name == "separable":
        return *clouds(200, 10, 3, 8.0), 3
    if name == "wide":
        return *clouds(40, 90, 4, 0.3), 4
    if name == "two classes":
        return *clouds(300, 8, 2, 0.6), 2
    if name == "many classes":
        return *clouds(400, 8, 100, 0.8), 100
    if name == "tens":
        return *clouds(20, 6, 3, 0.7), 3
    if name == "offset":
        x, y = clouds(400, 8, 3, 0.5)
        return x * 3 + 200, y, 3
    x, y = clouds(300, 8, 3, 0.5)
    x = np.hstack([x, x[:, :4], 2 * x[:, :2] - x[:, 2:4], np.full((300, 2), 7.0, np.float32)])
    return x.astype(np.float32), y, 3


CASES = ("overlapping", "separable", "wide", "two classes", "many classes", "tens", "offset", "collinear and constant")


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow if c == "many classes" else ()) for c in CASES]
)
def test_every_lambda_reaches_scikit_learns_optimum(case: str, precision: str) -> None:
    x, y, classes = hard_case(case)
    lambdas = LAMBDAS if classes < 100 else LAMBDAS[::4]
    path = solve_path(x, y, lambdas=lambdas, n_classes=classes, solver=Solver(precision=precision))
    assert path.converged.all()
    centred = x.astype(np.float64) - path.mean
    for k, lam in enumerate(lambdas):
        mine = objective(centred, y, path.W[k], path.b[k], lam)
        assert mine <= optimum(centred, y, lam) * (1 + 1e-5)
        assert path.objective[k] == pytest.approx(mine, rel=3e-6)


def test_the_gap_is_a_bound() -> None:
    x, y, classes = hard_case("overlapping")
    rough = solve_path(x, y, lambdas=LAMBDAS, n_classes=classes, solver=Solver(tol=1e-2))
    fine = solve_path(x, y, lambdas=LAMBDAS, n_classes=classes, solver=Solver(tol=1e-12))
    excess = rough.objective - fine.objective
    assert (excess >= -1e-12).all()
    assert excess.max() > 1e-6  # otherwise the next line says nothing
    assert (excess <= rough.gap * 1.05 + 1e-12).all()


def test_order_of_lambdas_does_not_matter() -> None:
    x, y, classes = hard_case("overlapping")
    mixed = np.random.default_rng(1).permutation(LAMBDAS)
    path = solve_path(x, y, lambdas=mixed, n_classes=classes)
    straight = solve_path(x, y, lambdas=LAMBDAS, n_classes=classes)
    np.testing.assert_allclose(path.objective, straight.objective[np.argsort(-mixed).argsort()], rtol=1e-9)


def test_a_start_at_the_solution_is_kept() -> None:
    x, y, classes = hard_case("overlapping")
    first = solve_path(x, y, lambdas=LAMBDAS, n_classes=classes, solver=Solver(tol=1e-9))
    again = solve_path(x, y, lambdas=LAMBDAS, n_classes=classes, init=(first.W, first.b))
    assert again.iterations.max() <= 2
    np.testing.assert_allclose(again.objective, first.objective, rtol=1e-7)


def test_standardising_is_fitted_and_constant_features_are_silent() -> None:
    x, y, classes = hard_case("collinear and constant")
    path = solve_path(x, y, lambdas=[1e-3], n_classes=classes, standardise=True)
    np.testing.assert_allclose(path.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-6)
    assert np.abs(path.W[0, -2:]).max() < 1e-6
    scaled = (x - path.mean) / path.scale
    assert scaled[:, :-2].std(axis=0) == pytest.approx(1)
    assert path.objective[0] <= optimum(scaled, y, 1e-3) * (1 + 1e-5)


class Spy:
    """Blocks of a memory map that remember the largest one asked for."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.largest, self.passes = x, 0, 0

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        self.passes += 1
        for start in range(0, len(self.x), rows):
            block = self.x[start : start + rows]
            self.largest = max(self.largest, len(block))
            yield block


def same(a: ProbePath, b: ProbePath) -> None:
    np.testing.assert_allclose(a.objective, b.objective, rtol=1e-6)
    np.testing.assert_allclose(a.W, b.W, rtol=1e-4, atol=1e-6)


def test_streaming_gives_the_same_path_and_never_holds_all_rows(tmp_path: Path) -> None:
    x, y = clouds(9000, 6, 3, 0.5)
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, x.shape)
    stored[:] = x
    spy = Spy(np.load(tmp_path / "x.npy", mmap_mode="r"))
    lambdas = LAMBDAS[2:7]
    streamed = solve_path(spy, y, lambdas=lambdas, n_classes=3, solver=Solver(cache_bytes=10_000))
    same(streamed, solve_path(x, y, lambdas=lambdas, n_classes=3))
    assert spy.largest <= 4096 < len(x)
    assert spy.passes > 3  # read anew for every step
    same(streamed, solve_path(spy.x, y, lambdas=lambdas, n_classes=3, solver=Solver(cache_bytes=0)))
    halves = [x[:5000], x[5000:]]  # a factory whose blocks are larger than asked for
    same(streamed, solve_path(lambda: iter(halves), y, lambdas=lambdas, n_classes=3, solver=Solver(cache_bytes=0)))


def test_bad_input_is_named() -> None:
    x, y, classes = hard_case("overlapping")
    with pytest.raises(DataError, match="positive"):
        solve_path(x, y, lambdas=[1.0, 0.0], n_classes=classes)
    with pytest.raises(DataError, match="labels must lie"):
        solve_path(x, y, lambdas=[1.0], n_classes=2)
    with pytest.raises(DataError, match="600 rows"):
        solve_path(x, y[:-1], lambdas=[1.0], n_classes=classes)
    with pytest.raises(DataError, match="NaN"):
        solve_path(np.where(x == x[0, 0], np.nan, x), y, lambdas=[1.0], n_classes=classes)
    with pytest.raises(DataError, match="precision"):
        solve_path(x, y, lambdas=[1.0], n_classes=classes, solver=Solver(precision="half"))
    with pytest.raises(DataError, match="init must be"):
        solve_path(x, y, lambdas=[1.0], n_classes=classes, init=(np.zeros((1, 2, 2)), np.zeros((1, 2))))
