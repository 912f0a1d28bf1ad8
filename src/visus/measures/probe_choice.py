"""The choice of lambda on validation: as the whole path at full accuracy would make it, of which only what can still be chosen is solved so.

- The folds are solved side by side.
- Every 4th lambda is solved roughly, the others are interpolated between them: classifiers too, whose validation accuracy is measured.
- Those whose rough accuracy could still be the best are solved to full accuracy. How far a rough accuracy may be off is learnt
  from those that were; what comes within reach by it is solved as well, until nothing does.
- Where a lambda is dear, the walk towards small ones (which cost most) ends when validation has turned for the worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.measures.probe_blocks import Array, Source, as_blocks, width
from visus.measures.probe_design import ROWS, Design, design
from visus.measures.probe_lbfgs import minimise
from visus.measures.probe_loss import Batch
from visus.measures.probe_solver import Solver, cubic_weights, dtype_of
from visus.progress import task

STRIDE = 4
ROUGH = 1e-3  # relative accuracy of the objective on the way
FENCE = 0.1  # of the tolerance of the objective: which side an image on the fence falls hangs on more digits
DEAR = 1e8  # multiply-adds of one lambda's pass over all folds, above which the walk ends early
WORSE = 2  # solved lambdas running that must be worse than the best, in accuracy and ever more in likelihood, to end the walk
SLACK = 2  # validation images by which a rough accuracy is taken to be off, until more is known


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to judge by, ascending. lambdas: float64 [L], descending."""

    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    lambdas: NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """accuracy: float64 [L], mean over folds; NaN where the walk had ended. chosen: position on the path. W: float64 [1, d, C], b [1, C]: mean of
    the folds' classifiers there. axes: float64 [d, r], for a design of nearly the same rows."""

    accuracy: NDArray[np.float64]
    chosen: int
    W: NDArray[np.float64]
    b: NDArray[np.float64]
    axes: NDArray[np.float64]
    converged: bool


def choose(
    x: Source,
    y: NDArray[np.int64],
    folds: Sequence[Fold],
    *,
    n_classes: int,
    standardise: bool,
    device: str,
    solver: Solver,
) -> Choice:
    """Choose by the highest mean accuracy, then the lower mean NLL, then the larger lambda. x: features; y: int64 labels of the rows named.

    Raises DataError on features that cannot be used.
    """
    count = len(folds[0].lambdas)
    largest = max(len(f.fit) for f in folds)
    # Products are narrow where features are few; then what is done to every logit costs more than they do.
    dtype = dtype_of(solver, largest * max(width(as_blocks(x)), 256) * n_classes * count)
    designs: list[Design] = []
    for fold in folds:
        designs.append(
            design(
                as_blocks(x, fold.fit),
                standardise=standardise,
                dtype=dtype,
                device=device,
                cache_bytes=solver.cache_bytes // len(folds),
                like=designs[0].axes if designs else None,
            )
        )
    batch = Batch(designs, [y[f.fit] for f in folds], n_classes)
    judged = [_Judge(d, x, f.validation, y, n_classes) for d, f in zip(designs, folds, strict=True)]
    walk = _Walk(batch, np.stack([f.lambdas for f in folds]), judged, solver)
    with task("linear probe", count) as progress:
        walk.roughly(progress.advance)
        walk.exactly()
    chosen = walk.best()
    theta = walk.theta[chosen]
    each = np.stack([d.weights(theta[None, k, :, : d.rank])[0] for k, d in enumerate(designs)])
    W = each.mean(axis=0, dtype=np.float64)
    b = theta[:, :, -1].double().mean(dim=0).cpu().numpy()
    return Choice(
        accuracy=walk.accuracy,
        chosen=chosen,
        W=W[None],
        b=b[None],
        axes=designs[0].axes,
        converged=walk.converged,
    )


def best_lambda(accuracy: Array, likelihood: Array, lambdas: Array) -> int:
    """The highest accuracy; among equals (to rounding of the mean) the lower NLL; then the larger lambda."""
    best = np.flatnonzero(accuracy >= np.nanmax(accuracy) - 1e-12)
    return int(min(best, key=lambda i: (likelihood[i], -lambdas[i])))


class _Judge:
    """Validation rows of one fold in the axes of its design; read anew each time where what is fitted on is."""

    def __init__(self, rows: Design, x: Source, index: NDArray[np.int64], y: NDArray[np.int64], n_classes: int) -> None:
        self.rows, self.source = rows, as_blocks(x, index)
        self.y = torch.as_tensor(y[index], device=rows.device)
        self.block = min(ROWS, max(64, (1 << 22) // n_classes))  # rows whose logits stand in memory
        self.kept = None if rows.kept is None else list(self._read())

    def _read(self) -> Iterator[Tensor]:
        return (self.rows.turned(block) for block in self.source.blocks(self.block))

    def __call__(self, theta: Tensor) -> tuple[float, float]:
        """Accuracy and NLL of the classifier theta [C, r + 1]."""
        weights = theta[:, : self.rows.rank].T
        hits, loss, offset = 0, 0.0, 0
        for x in self.kept or self._read():
            z = torch.addmm(theta[:, -1], x, weights)
            true = self.y[offset : offset + len(x)]
            hits += int((z.argmax(dim=1) == true).sum())
            at_true = z.gather(1, true[:, None])[:, 0]
            loss += float((z.logsumexp(dim=1) - at_true).sum(dtype=torch.float64))
            offset += len(x)
        return hits / offset, loss / offset


class _Walk:
    """A path of lambdas [folds, L] on its way from rough to exact. theta: coefficients [folds, C, r + 1] of the lambdas that were solved."""

    def __init__(self, batch: Batch, lambdas: NDArray[np.float64], judges: Sequence[_Judge], solver: Solver) -> None:
        self.batch, self.lambdas, self.judges, self.solver = batch, lambdas, judges, solver
        self.count = lambdas.shape[1]
        self.theta: dict[int, Tensor] = {}
        self.accuracy = np.full(self.count, np.nan)
        self.likelihood = np.full(self.count, np.nan)
        self.exact = np.zeros(self.count, bool)
        self.converged = True
        self.slack = SLACK / sum(len(j.y) for j in judges)
        work = sum(d.n * d.rank for d in batch.designs) * batch.n_classes
        self.dear = work > DEAR

    def roughly(self, advance: Callable[[int], object]) -> None:
        """Solve every STRIDE-th lambda, from the largest, and measure all up to the last that was solved."""
        # The first steps from zero change most, and cost least: twice as many there.
        coarse = sorted({*range(0, 2 * STRIDE, STRIDE // 2), *range(0, self.count, STRIDE), self.count - 1})
        coarse = [k for k in coarse if k < self.count]
        for before, k in zip([-1, *coarse], coarse, strict=False):
            # From a straight line in log lambda through the last two: a sixth of the passes that a start from zero takes.
            start = {k: self._through(k, sorted(self.theta)[-2:])} if self.theta else None
            self._solve([k], start, tol=ROUGH)
            self._judge(k, self.theta[k])
            advance(k - before)
            if self._turned():
                break
        for k in range(max(self.theta)):
            if k not in self.theta:
                self._judge(k, self._through(k, sorted(self.theta)))

    def exactly(self) -> None:
        """Solve all that could be the best to full accuracy."""
        while True:
            # Before anything is exact, the best rough one is what the others are measured by.
            known = self.accuracy[self.exact] if self.exact.any() else self.accuracy
            within = np.nan_to_num(self.accuracy, nan=-1.0) >= np.nanmax(known) - self.slack - 1e-12
            wanted = np.flatnonzero(within & ~self.exact).tolist()
            if not wanted:
                return
            # What was solved roughly first: what lies between then starts from exact neighbours.
            now = [k for k in wanted if k in self.theta] or [k for k in wanted if k % 2 == 0] or wanted
            start = {k: self.theta[k] if k in self.theta else self._through(k, sorted(self.theta)) for k in now}
            self.converged &= self._solve(now, start, tol=FENCE * self.solver.tol)
            for k in now:
                rough = self.accuracy[k]
                self._judge(k, self.theta[k])
                self.slack = max(self.slack, abs(self.accuracy[k] - rough))
                self.exact[k] = True

    def best(self) -> int:
        """The position that validation chooses among the exact."""
        accuracy = np.where(self.exact, self.accuracy, -np.inf)
        return best_lambda(accuracy, self.likelihood, self.lambdas[0])

    def _turned(self) -> bool:
        """Whether the last WORSE solved lambdas are worse than the best, and their likelihood falls ever more."""
        if not self.dear or len(self.theta) <= WORSE:
            return False
        nodes = sorted(self.theta)
        tail = nodes[-WORSE:]
        loss = self.likelihood[nodes[-WORSE - 1 :]]
        reach = np.nanmax(self.accuracy) - max(2 * self.slack, 0.005)
        return bool((self.accuracy[tail] < reach).all() and (np.diff(loss) > 0).all())

    def _through(self, k: int, nodes: list[int]) -> Tensor:
        """Coefficients at a lambda that was not solved, from a polynomial in log lambda (a cubic at most) through the solved ones nearest."""
        at = np.log(self.lambdas[0])
        weights = cubic_weights(at[[k]], at[nodes])[0]
        found: Tensor = sum(float(w) * self.theta[node] for node, w in zip(nodes, weights, strict=True) if w)  # type: ignore[assignment]
        return found

    def _judge(self, k: int, theta: Tensor) -> None:
        each = [judge(theta[f]) for f, judge in enumerate(self.judges)]
        self.accuracy[k] = np.mean([a for a, _ in each])
        self.likelihood[k] = np.mean([nll for _, nll in each])

    def _solve(self, wanted: Sequence[int], start: dict[int, Tensor] | None, *, tol: float) -> bool:
        """Solve some lambdas of every fold; whether all got there."""
        folds, b = len(self.lambdas), self.batch
        if start is None:
            theta = b.spectrum.new_zeros(folds * len(wanted), b.n_classes, b.rank + 1)
        else:
            theta = torch.stack([start[k][f] for f in range(folds) for k in wanted])
        lambdas = self.lambdas[:, wanted].ravel()
        parts = np.repeat(np.arange(folds), len(wanted))
        found = minimise(b, lambdas, parts, theta, tol=tol, limit=self.solver.max_iterations)
        for i, k in enumerate(wanted):
            self.theta[k] = found.theta[i :: len(wanted)].clone()
        return bool(found.converged.all())
