"""Multinomial logistic regression along a path of lambdas, all of them solved in the same matrix products.

The method, and why it is fast:
- One wide product [n, d] x [d, lambdas * classes] runs near the processor's peak; 45 narrow ones do not.
- L-BFGS is preconditioned by a Kronecker approximation of the Hessian, E[diag(p) - p p'] (x) cov(x) + lambda, whose two
  factors are diagonalised: the second once, the first at every step. (The Hessian is exactly this when p and x are independent.)
- Coarse to fine: every 8th lambda is solved first, the others start from a cubic in log lambda through their solved
  neighbours, and a solved lambda leaves the batch.
- Losses are summed from margins with log1p, so that they keep their digits when classes are separated and losses vanish.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.errors import DataError
from visus.measures._arrays import as_array
from visus.measures.probe_blocks import Array, Blocks, Moments, Source, as_blocks, moments
from visus.measures.probe_lbfgs import Found, Problem, minimise
from visus.progress import task

STRIDES = (8, 2, 1)
CACHE_BYTES = 1 << 30
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


class _Data:
    """Centred and scaled blocks on the device; kept there when they fit the budget, read anew each pass when not."""

    def __init__(self, source: Blocks, y: Tensor, stats: Moments, scale: Array, dtype: torch.dtype, cache: int) -> None:
        self.source, self.y, self.dtype = source, y, dtype
        # Statistics stay float64 until the difference is taken: a mean rounded to float32 would shift large features.
        self.mean = torch.as_tensor(stats.mean, device=y.device)
        self.inverse = torch.as_tensor(1 / scale, device=y.device).to(dtype)
        self.kept: Tensor | None = None
        if stats.n * len(stats.mean) * dtype.itemsize <= cache:
            kept = torch.empty(stats.n, len(stats.mean), dtype=dtype, device=y.device)
            offset = 0
            for x, _ in self._read(4096):
                kept[offset : offset + len(x)] = x
                offset += len(x)
            self.kept = kept

    def __call__(self, width: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = _block_rows(width, self.y.device)
        if self.kept is None:
            return self._read(min(rows, 4096))
        kept = self.kept
        return ((kept[i : i + rows], self.y[..., i : i + rows]) for i in range(0, len(kept), rows))

    def _read(self, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        offset = 0
        for raw in self.source.blocks(rows):
            block = torch.as_tensor(np.array(raw, dtype=np.float64 if raw.dtype == np.float64 else np.float32))
            x = (block.to(self.y.device).double() - self.mean).to(self.dtype) * self.inverse
            yield x, self.y[..., offset : offset + len(x)]
            offset += len(x)


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
    stats = moments(source)
    if stats.n != labels.shape[-1]:
        raise DataError(f"{stats.n} rows of features for {labels.shape[-1]} labels; give one label for each row")
    d = len(stats.mean)
    constant = stats.std == 0
    scale = np.where(constant, 1.0, stats.std) if standardise else np.ones(d)
    cov = stats.cov / np.outer(scale, scale)
    dtype = _dtype(solver.precision, stats.n * d * len(lam) * n_classes)
    where = torch.device(device)
    target = torch.as_tensor(labels, device=where)
    data = _Data(source, target, stats, scale, dtype, solver.cache_bytes)
    values, basis = np.linalg.eigh(cov)
    problem = Problem(
        data=data,
        n=stats.n,
        n_classes=n_classes,
        spectrum=torch.as_tensor(np.clip(values, 0, None), device=where, dtype=dtype),
        basis=torch.as_tensor(basis, device=where, dtype=dtype),
    )
    start = torch.zeros(len(lam), n_classes, d + 1, device=where, dtype=dtype)
    if init is not None:
        start = _from_init(init, basis, start)
    if own:
        found = minimise(problem, lam, start, tol=solver.tol, max_iterations=solver.max_iterations)
    else:
        found = _coarse_to_fine(problem, lam, start, init is None, solver)
    theta = found.theta
    weights = (theta[..., :d] @ problem.basis.T).transpose(1, 2)
    return ProbePath(
        lambdas=lam,
        W=weights.cpu().numpy().astype(np.float32),
        b=theta[..., d].cpu().numpy().astype(np.float32),
        mean=stats.mean,
        scale=scale,
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


def _coarse_to_fine(
    problem: Problem, lam: NDArray[np.float64], start: Tensor, interpolate: bool, solver: Solver
) -> Found:
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
                weights = _cubic_weights(np.log(lam[order[wanted]]), np.log(lam[order[solved]]))
                known = theta[torch.as_tensor(order[solved].copy(), device=theta.device)]
                theta[at] = torch.einsum("wk,kcd->wcd", torch.as_tensor(weights).to(known), known)
            found = minimise(
                problem, lam[order[wanted]], theta[at], tol=solver.tol, max_iterations=solver.max_iterations
            )
            theta[at] = found.theta
            positions = order[wanted]
            objective[positions], gap[positions] = found.objective, found.gap
            iterations[positions], done[positions] = found.iterations, found.converged
            solved = sorted([*solved, *wanted])
            progress.advance(len(wanted))
    return Found(theta, objective, gap, iterations, done)


def _cubic_weights(at: NDArray[np.float64], nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lagrange weights [at, nodes] of the polynomial through the (up to) four nearest nodes; at equal nodes, a copy."""
    weights = np.zeros((len(at), len(nodes)))
    for row, value in enumerate(at):
        near = np.argsort(np.abs(nodes - value), kind="stable")[:4]
        near = near[np.unique(nodes[near], return_index=True)[1]]
        for k in near:
            others = nodes[near[near != k]]
            weights[row, k] = np.prod((value - others) / (nodes[k] - others))
    return weights


def _from_init(init: tuple[Array, Array], basis: Array, like: Tensor) -> Tensor:
    w, b = np.asarray(init[0], np.float64), np.asarray(init[1], np.float64)
    count, classes, width = like.shape
    if w.shape != (count, width - 1, classes) or b.shape != (count, classes):
        raise DataError(
            f"init must be W {(count, width - 1, classes)} and b {(count, classes)}, not {w.shape}, {b.shape}"
        )
    rotated = np.swapaxes(w, 1, 2) @ basis
    return torch.as_tensor(np.concatenate([rotated, b[..., None]], axis=2)).to(like)


def _dtype(precision: str, work: int) -> torch.dtype:
    choices = {"float32": torch.float32, "float64": torch.float64}
    if precision == "auto":
        return torch.float64 if work <= FLOAT64_WORK else torch.float32
    if precision not in choices:
        raise DataError(f"precision must be auto, float32 or float64, not {precision!r}")
    return choices[precision]


def _block_rows(width: int, device: torch.device) -> int:
    """Rows a block, so that the block of logits stays in the processor's cache (or fills an accelerator)."""
    if device.type == "cpu":
        return int(np.clip((1 << 18) // width, 128, 4096))
    return int(np.clip((1 << 26) // width, 1024, 65536))
