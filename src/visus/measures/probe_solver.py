"""Multinomial logistic regression along a path of lambdas, all of them solved in the same matrix products.

The method, and why it is fast:
- One wide product [n, d] x [d, problems * classes] runs near the processor's peak; many narrow ones do not.
- Rows are turned into their principal axes once (probe_design.py), of which there are no more than rows: there the ridge is unchanged and the
  Hessian nearly diagonal. L-BFGS (probe_lbfgs.py) starts from that diagonal: a Kronecker approximation, E[diag(p) - p p'] (x) cov(x) + lambda,
  exact when p and x are independent.
- Coarse to fine: every 8th lambda is solved first, the others start from a cubic in log lambda through their solved
  neighbours, and a solved lambda leaves the batch.
- Losses are summed from margins with log1p, so that they keep their digits when classes are separated and losses vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.errors import DataError
from visus.measures._arrays import as_array
from visus.measures.probe_blocks import Array, Source, as_blocks, width
from visus.measures.probe_design import CACHE_BYTES, Design, design
from visus.measures.probe_lbfgs import Found, minimise
from visus.measures.probe_loss import Batch
from visus.progress import task

STRIDES = (8, 2, 1)
FLOAT64_WORK = 1 << 27  # multiply-adds a pass below which float64 costs next to nothing


@dataclass(frozen=True)
class ProbePath:
    """One linear classifier per lambda, in the order the lambdas were given.

    W: float32 [L, d, C] and b: float32 [L, C] act on (x - mean) / scale; mean, scale: float64 [d]. objective: float64 [L].
    gap: float64 [L], a proven bound on objective minus optimum (the duality gap |gradient|^2 / (2 lambda), rigorous up to
    rounding and to the unpenalised bias, whose gradient is near zero). iterations: int [L]; converged: bool [L].
    """

    lambdas: NDArray[np.float64]
    W: NDArray[np.float32]
    b: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    objective: NDArray[np.float64]
    gap: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]

    def logits(self, x: Array, which: int) -> NDArray[np.float32]:
        """Logits float32 [n, C] of the classifier number `which` for raw features x [n, d]."""
        z = (np.asarray(x, np.float64) - self.mean) / self.scale
        logits: NDArray[np.float32] = (z @ self.W[which].astype(np.float64) + self.b[which]).astype(np.float32)
        return logits


@dataclass(frozen=True)
class Solver:
    """How `solve_path` computes. tol: relative accuracy of the objective. precision: "float32", "float64", or "auto" (float64 for small
    problems). Data up to cache_bytes are kept on the device; larger ones are read again at every step."""

    tol: float = 1e-5
    max_iterations: int = 2000
    precision: str = "auto"
    cache_bytes: int = CACHE_BYTES


SOLVER = Solver()


def solve_path(
    x: Source,
    y: Array,
    *,
    lambdas: Sequence[float] | Array,
    n_classes: int,
    init: tuple[Array, Array] | None = None,
    standardise: bool = False,
    device: str = "cpu",
    solver: Solver = SOLVER,
) -> ProbePath:
    """Minimise (1/n) sum CE + (lambda/2) ||W||^2 at every lambda to a relative accuracy of `solver.tol`; bias not penalised.

    x: [n, d] array or memory map, or blocks of rows (see `Blocks`, or a callable that starts a pass); y: int [n] in
    0..n_classes-1, or [L, n], labels of its own for every lambda (all of them are then solved side by side). init: W [L, d,
    C] and b [L, C] as in ProbePath, to start from. standardise: scale every feature to variance 1 (constant ones are left at
    0).

    A lambda is finished when the duality gap proves tol / 100, or when the quasi-Newton estimate of what is left to gain is
    below tol / 40 (tol / 400 in the first steps) at two steps running and the decreases of the last steps, going on as they
    do, leave less than tol / 8. Raises DataError on labels, lambdas or features that cannot be used.
    """
    lam = as_array(lambdas, "lambdas", real=True)
    if lam.ndim != 1 or len(lam) == 0 or not np.isfinite(lam).all() or lam.min() <= 0:
        raise DataError("lambdas must be a non-empty list of positive numbers")
    y = as_array(y, "labels")
    own = y.ndim == 2
    labels = check_labels(np.ravel(y), n_classes).reshape(np.shape(y)) if own else check_labels(y, n_classes)
    if own and len(labels) != len(lam):
        raise DataError(f"{len(labels)} rows of labels for {len(lam)} lambdas; give one row for each lambda")
    source = as_blocks(x)
    dtype = dtype_of(solver, labels.shape[-1] * width(source) * len(lam) * n_classes)
    rows = design(source, standardise=standardise, dtype=dtype, device=device, cache_bytes=solver.cache_bytes)
    if rows.n != labels.shape[-1]:
        raise DataError(f"{rows.n} rows of features for {labels.shape[-1]} labels; give one label for each row")
    return solve_rows(rows, labels, lam, n_classes=n_classes, init=init, solver=solver)


def solve_rows(
    rows: Design,
    labels: NDArray[np.int64],
    lambdas: NDArray[np.float64],
    *,
    n_classes: int,
    init: tuple[Array, Array] | None = None,
    solver: Solver = SOLVER,
) -> ProbePath:
    """As `solve_path` for rows that are ready. labels: int64 [n], or [L, n]."""
    batch = Batch([rows], [labels], n_classes)
    start = torch.zeros(len(lambdas), n_classes, rows.rank + 1, device=rows.device, dtype=rows.dtype)
    if init is not None:
        start = _from_weights(rows, init, start)
    if labels.ndim == 2:
        parts = np.zeros(len(lambdas), np.int64)
        found = minimise(batch, lambdas, parts, start, tol=solver.tol, limit=solver.max_iterations)
    else:
        found = _coarse_to_fine(batch, lambdas, start, init is None, solver)
    return ProbePath(
        lambdas=lambdas,
        W=rows.weights(found.theta[..., : rows.rank]),
        b=found.theta[..., -1].cpu().numpy().astype(np.float32),
        mean=rows.mean,
        scale=rows.scale,
        objective=found.objective,
        gap=found.gap,
        iterations=found.iterations,
        converged=found.converged,
    )


def check_labels(y: Array, n_classes: int) -> NDArray[np.int64]:
    """Labels as int64 [n] in 0..n_classes-1, or DataError."""
    raw = as_array(y, "labels")
    if raw.ndim != 1 or len(raw) == 0 or raw.dtype.kind not in "iu":
        raise DataError(f"labels must be a non-empty vector of integers, not {raw.dtype} of shape {raw.shape}")
    if n_classes < 2:
        raise DataError("a probe needs at least two classes; give images of another class")
    if raw.min() < 0 or raw.max() >= n_classes:
        raise DataError(f"labels must lie in 0..{n_classes - 1}, found {raw.min()}..{raw.max()}")
    return raw.astype(np.int64)


def _coarse_to_fine(batch: Batch, lam: NDArray[np.float64], start: Tensor, interpolate: bool, solver: Solver) -> Found:
    count = len(lam)
    order = np.argsort(-lam, kind="stable")
    theta = start.clone()
    objective, gap = np.zeros(count), np.zeros(count)
    iterations, done = np.zeros(count, np.int64), np.zeros(count, bool)
    solved: list[int] = []  # positions along the sorted path
    with task("linear probe", count) as progress:
        for stride in STRIDES if interpolate else (1,):
            wanted = sorted({*range(0, count, stride), count - 1} - set(solved))
            if not wanted:
                continue
            at = torch.as_tensor(order[wanted].copy(), device=theta.device)
            if solved:
                weights = cubic_weights(np.log(lam[order[wanted]]), np.log(lam[order[solved]]))
                known = theta[torch.as_tensor(order[solved].copy(), device=theta.device)]
                theta[at] = torch.einsum("wk,kcd->wcd", torch.as_tensor(weights).to(known), known)
            parts = np.zeros(len(wanted), np.int64)
            found = minimise(batch, lam[order[wanted]], parts, theta[at], tol=solver.tol, limit=solver.max_iterations)
            theta[at] = found.theta
            positions = order[wanted]
            objective[positions], gap[positions] = found.objective, found.gap
            iterations[positions], done[positions] = found.iterations, found.converged
            solved = sorted([*solved, *wanted])
            progress.advance(len(wanted))
    return Found(theta, objective, gap, iterations, done)


def cubic_weights(at: NDArray[np.float64], nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lagrange weights [at, nodes] of the polynomial through the (up to) four nearest nodes; at equal nodes, a copy."""
    weights = np.zeros((len(at), len(nodes)))
    for row, value in enumerate(at):
        near = np.argsort(np.abs(nodes - value), kind="stable")[:4]
        near = near[np.unique(nodes[near], return_index=True)[1]]
        for k in near:
            others = nodes[near[near != k]]
            weights[row, k] = np.prod((value - others) / (nodes[k] - others))
    return weights


def _from_weights(rows: Design, init: tuple[Array, Array], like: Tensor) -> Tensor:
    """W [L, d, C] and b [L, C] as theta like `like` [L, C, r + 1]. Raises DataError where their shapes do not fit."""
    w, b = np.asarray(init[0], np.float64), np.asarray(init[1], np.float64)
    count, classes, _ = like.shape
    d = len(rows.mean)
    if w.shape != (count, d, classes) or b.shape != (count, classes):
        raise DataError(f"init must be W {(count, d, classes)} and b {(count, classes)}, not {w.shape}, {b.shape}")
    return torch.as_tensor(np.concatenate([rows.coefficients(w), b[..., None]], axis=2)).to(like)


def dtype_of(solver: Solver, work: int) -> torch.dtype:
    """The precision of the products. work: multiply-adds of a pass over all rows. Raises DataError for an unknown one."""
    choices = {"float32": torch.float32, "float64": torch.float64}
    if solver.precision == "auto":
        return torch.float64 if work <= FLOAT64_WORK else torch.float32
    if solver.precision not in choices:
        raise DataError(f"precision must be auto, float32 or float64, not {solver.precision!r}")
    return choices[solver.precision]
