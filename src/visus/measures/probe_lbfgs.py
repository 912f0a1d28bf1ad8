"""Preconditioned L-BFGS over a batch of softmax regressions that share their data and differ in lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEMORY = 20  # pairs kept: at the smallest lambdas a quarter fewer steps than with 10, and 60 gain little more
MEMORY_BYTES = 2 << 30  # of all pairs together; fewer lambdas at a time when they would need more
WINDOW = 8  # steps over which the speed of convergence is judged
FULL_CLASS_FACTOR = 128  # up to this many classes, the class factor of the preconditioner is a full matrix
CURVATURE_ROWS = 4096  # rows from which the class factor is estimated


@dataclass(frozen=True)
class Problem:
    """Data and the coordinates they are solved in: theta [L, C, d + 1] holds weights in the eigenbasis, then the bias.

    data: called with the number of logits a row has, yields (x [r, d] centred, y int64 [r]) over all rows; y is [L, r] where every entry
    of the batch has labels of its own.
    spectrum [d], basis [d, d]: of cov(x).
    """

    data: Callable[[int], Iterable[tuple[Tensor, Tensor]]]
    n: int
    n_classes: int
    spectrum: Tensor
    basis: Tensor


@dataclass(frozen=True)
class Found:
    """Solutions theta [L, C, d + 1] with, per lambda: objective, bound on what is left, iterations, converged."""

    theta: Tensor
    objective: NDArray[np.float64]
    gap: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


@dataclass
class _State:
    """The lambdas still at work; every tensor has one row for each."""

    index: Tensor
    lam: Tensor  # float64
    theta: Tensor  # [A, C * (d + 1)]
    value: Tensor  # float64
    grad: Tensor
    classes: Tensor  # class factor [A, C, C] or [A, C]
    calm: Tensor  # steps running for which the estimate was below the tolerance
    fails: Tensor  # line searches that failed running
    pairs: list[tuple[Tensor, Tensor, Tensor]]
    past: list[Tensor]  # values after the last steps, oldest first

    def keep(self, rows: Tensor) -> None:
        for name in ("index", "lam", "theta", "value", "grad", "classes", "calm", "fails"):
            setattr(self, name, getattr(self, name)[rows])
        self.pairs = [(s[rows], y[rows], r[rows]) for s, y, r in self.pairs]
        self.past = [v[rows] for v in self.past]

    def to_come(self) -> Tensor:
        """What is left to gain if the decreases go on shrinking as they did over the last steps; 0 while steps are few.

        Where convergence is slow, the estimate from one direction is too hopeful and this is not.
        """
        if len(self.past) < 2 * WINDOW + 1:
            return torch.zeros_like(self.value)
        before = self.past[-1 - 2 * WINDOW] - self.past[-1 - WINDOW]
        last = (self.past[-1 - WINDOW] - self.past[-1]).clamp_min(0)
        return torch.where(before > last, last * last / (before - last).clamp_min(1e-300), last * torch.inf).nan_to_num(
            0.0
        )


def minimise(
    problem: Problem, lambdas: NDArray[np.float64], start: Tensor, *, tol: float, max_iterations: int
) -> Found:
    """Minimise every lambda's objective from start [L, C, d + 1]; groups of lambdas so that memory stays bounded."""
    per_lambda = 2 * MEMORY * start[0].numel() * start.element_size()
    size = max(1, MEMORY_BYTES // per_lambda)
    parts = [
        _minimise(problem, lambdas[i : i + size], start[i : i + size], i, tol, max_iterations)
        for i in range(0, len(lambdas), size)
    ]
    return Found(
        theta=torch.cat([p.theta for p in parts]),
        objective=np.concatenate([p.objective for p in parts]),
        gap=np.concatenate([p.gap for p in parts]),
        iterations=np.concatenate([p.iterations for p in parts]),
        converged=np.concatenate([p.converged for p in parts]),
    )


def _minimise(
    problem: Problem, lambdas: NDArray[np.float64], start: Tensor, first: int, tol: float, max_iterations: int
) -> Found:
    """first: where this group begins in the batch."""
    count = len(lambdas)
    shape = start.shape
    out = start.reshape(count, -1).clone()
    objective, gap = np.zeros(count), np.zeros(count)
    iterations, converged = np.zeros(count, np.int64), np.zeros(count, bool)
    lam = torch.as_tensor(lambdas, device=start.device)
    theta = out.clone()
    index = torch.arange(count, device=start.device)
    value, grad, classes = _evaluate(problem, theta, lam, index + first)
    zero = torch.zeros_like(index)
    state = _State(index, lam, theta, value, grad, classes, zero, zero.clone(), [], [value])
    best_value, best_grad = value.clone(), grad.clone()
    for iteration in range(max_iterations + 1):
        direction = _direction(problem, state)
        slope = _dot(state.grad, direction)
        uphill = slope >= 0
        if bool(uphill.any()):  # rounding spoiled the memory: these rows start again from the preconditioned gradient
            _forget(state, uphill)
            direction = _direction(problem, state)
            slope = _dot(state.grad, direction)
        # What is left to gain: an estimate (half the squared Newton decrement), and a bound that holds by convexity.
        estimate = -slope / 2
        bound = _bound(problem, state)
        # While steps are few, more accuracy costs little and the estimate is the only witness: ask for more.
        strict = 400 if iteration <= WINDOW else 40
        state.calm = torch.where(estimate <= tol / strict * state.value, state.calm + 1, 0)
        proven = bound <= tol / 100 * state.value
        settled = (state.calm >= 2) & (state.to_come() <= tol / 8 * state.value)
        finished = proven | settled | (state.fails >= 2)
        if iteration == max_iterations:
            finished = torch.ones_like(finished)
        if bool(finished.any()):
            rows = state.index[finished]
            out[rows] = state.theta[finished]
            best_value[rows], best_grad[rows] = state.value[finished], state.grad[finished]
            at = rows.cpu().numpy()
            objective[at], gap[at] = state.value[finished].cpu().numpy(), bound[finished].cpu().numpy()
            iterations[at] = iteration
            sure = proven | settled | (state.calm >= 1) & (state.to_come() <= tol * state.value)
            converged[at] = sure[finished].cpu().numpy()
            left = ~finished
            state.keep(left)
            direction, slope = direction[left], slope[left]
        if len(state.index) == 0:
            break
        _step(problem, state, direction, slope, first)
    return Found(out.reshape(shape), objective, gap, iterations, converged)


def _step(problem: Problem, state: _State, direction: Tensor, slope: Tensor, first: int) -> None:
    """Backtrack each lambda to sufficient decrease (rows that already have it wait), then remember the pair."""
    slack = state.value * (2e-7 if direction.dtype == torch.float32 else 1e-14)  # rounding of the loss itself
    theta, grad, classes = state.theta.clone(), state.grad.clone(), state.classes.clone()
    value = state.value.clone()
    todo = torch.arange(len(theta), device=theta.device)
    length = torch.ones(len(theta), device=theta.device, dtype=theta.dtype)
    for _ in range(25):
        trial = state.theta[todo] + length[todo, None] * direction[todo]
        f, g, c = _evaluate(problem, trial, state.lam[todo], state.index[todo] + first)
        good = f <= state.value[todo] + 1e-4 * length[todo] * slope[todo] + slack[todo]
        hit = todo[good]
        theta[hit], value[hit], grad[hit], classes[hit] = trial[good], f[good], g[good], c[good]
        # Safeguarded minimum of the parabola through value, slope and trial value.
        bad = ~good
        todo, f = todo[bad], f[bad]
        if len(todo) == 0:
            break
        t = length[todo].double()
        curve = 2 * (f - state.value[todo] - t * slope[todo])
        best = torch.nan_to_num(-slope[todo] * t * t / curve, nan=0.0)
        length[todo] = torch.clamp(best, 0.1 * t, 0.5 * t).to(length.dtype)
    s, y = theta - state.theta, grad - state.grad
    sy = _dot(s, y)
    usable = sy > 1e-12 * torch.sqrt(_dot(s, s) * _dot(y, y))
    rho = torch.where(usable, 1 / torch.where(usable, sy, 1.0), 0.0).to(s.dtype)
    state.pairs = [*state.pairs, (s, y, rho[:, None])][-MEMORY:]
    state.theta, state.value, state.grad, state.classes = theta, value, grad, classes
    state.past = [*state.past, value][-2 * WINDOW - 1 :]
    failed = torch.zeros_like(state.fails, dtype=torch.bool)
    failed[todo] = True
    state.fails = torch.where(failed, state.fails + 1, 0)
    if len(todo):
        _forget(state, failed)


def _forget(state: _State, rows: Tensor) -> None:
    state.pairs = [(s, y, torch.where(rows[:, None], 0.0, r)) for s, y, r in state.pairs]


def _direction(problem: Problem, state: _State) -> Tensor:
    """L-BFGS two-loop recursion with the preconditioner as its first inverse Hessian; a pair with rho 0 is skipped."""
    precondition = _preconditioner(problem, state)
    q = state.grad.clone()
    alphas: list[Tensor] = []
    for s, y, rho in reversed(state.pairs):
        alpha = rho * (s * q).sum(1, keepdim=True)
        alphas.append(alpha)
        q = q - alpha * y
    q = precondition(q)
    if state.pairs:
        s, y, rho = state.pairs[-1]
        curvature = (y * precondition(y)).sum(1, keepdim=True)
        scale = (s * y).sum(1, keepdim=True) / curvature
        q = torch.where((rho > 0) & torch.isfinite(scale) & (scale > 0), scale, 1.0) * q
    for (s, y, rho), alpha in zip(state.pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - rho * (y * q).sum(1, keepdim=True))
    return -q


class _preconditioner:  # noqa: N801 - used as a function that remembers its factors
    """Solve with (class factor (x) spectrum + lambda); the bias has spectrum 1 and no lambda."""

    def __init__(self, problem: Problem, state: _State) -> None:
        self.classes = problem.n_classes
        lam = state.lam.to(state.theta.dtype)[:, None, None]
        if state.classes.ndim == 3:
            values, self.vectors = torch.linalg.eigh(state.classes)
        else:
            values, self.vectors = state.classes, None
        # A class factor near zero means that nothing is known of that direction: lambda alone would overshoot it.
        values = values.clamp_min(0)
        top = values.amax(1, keepdim=True).clamp_min(1e-12)
        floor = (1e-4 * values.mean(1, keepdim=True)).clamp_min(1e-30)
        weights = 1 / (values[:, :, None] * problem.spectrum + lam)
        bias = torch.where(values > 1e-5 * top, 1 / torch.maximum(values, floor), 0.0)
        self.inverse = torch.cat([weights, bias[:, :, None]], dim=2)

    def __call__(self, q: Tensor) -> Tensor:
        t = q.view(len(q), self.classes, -1)
        if self.vectors is None:
            scaled: Tensor = self.inverse * t
        else:
            scaled = self.vectors @ (self.inverse * (self.vectors.mT @ t))
        return scaled.reshape(q.shape)


def _bound(problem: Problem, state: _State) -> Tensor:
    """Duality gap |gradient of the weights|^2 / (2 lambda), plus the first-order gain of the bias under its curvature."""
    g = state.grad.view(len(state.grad), problem.n_classes, -1)
    weights = (g[..., :-1].double() ** 2).sum((1, 2)) / (2 * state.lam)
    curve = state.classes if state.classes.ndim == 2 else state.classes.diagonal(dim1=1, dim2=2)
    bias = (g[..., -1].double() ** 2 / (2 * curve.double().clamp_min(1e-30))).sum(1)
    total: Tensor = weights + bias
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    total: Tensor = (a * b).sum(1, dtype=torch.float64)
    return total


def _evaluate(problem: Problem, theta: Tensor, lam: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Objective float64 [A], gradient like theta [A, C * (d + 1)], class factor, in one pass over the data. which: int64 [A], in the batch."""
    count, classes = len(theta), problem.n_classes
    parameters = theta.view(count, classes, -1)
    d = parameters.shape[2] - 1
    weights = (parameters[..., :d] @ problem.basis.T).reshape(count * classes, d)
    bias = parameters[..., d].reshape(-1, 1).contiguous()
    loss = torch.zeros(count, device=theta.device, dtype=torch.float64)
    grad = torch.zeros_like(weights)
    grad_bias = torch.zeros(count, classes, device=theta.device, dtype=torch.float64)
    full = classes <= FULL_CLASS_FACTOR
    curve = theta.new_zeros((count, classes, classes) if full else (count, classes))
    every, seen, offset = max(1, problem.n // CURVATURE_ROWS), 0, 0
    for x, y in problem.data(count * classes):
        r = len(x)
        z = torch.addmm(bias, weights, x.T).view(count, classes, r)
        at = y.view(1, 1, r).expand(count, 1, r) if y.ndim == 1 else y[which].view(count, 1, r)
        loss += _residuals(z, at)
        grad.addmm_(z.view(count * classes, r), x)
        grad_bias += z.sum(2, dtype=torch.float64)
        first = -offset % every
        if first < r:
            p = z[..., first::every].clone()
            p.scatter_add_(1, at[..., first::every], torch.ones_like(p[:, :1]))
            seen += p.shape[2]
            if full:
                curve += torch.diag_embed(p.sum(2)) - p @ p.mT
            else:
                curve += (p * (1 - p)).sum(2)
        offset += r
    n = problem.n
    gradient = (grad.view(count, classes, d) / n) @ problem.basis
    gradient += lam.to(theta.dtype)[:, None, None] * parameters[..., :d]
    objective = loss / n + lam / 2 * (parameters[..., :d].double() ** 2).sum((1, 2))
    joined = torch.cat([gradient, (grad_bias / n).to(theta.dtype)[..., None]], dim=2)
    return objective, joined.reshape(count, -1), curve / seen


def _residuals(z: Tensor, at: Tensor) -> Tensor:
    """Turn logits z [A, C, r] into p - onehot in place; return the summed cross-entropy, float64 [A].

    at: int64 [A, 1, r], the true class. Everything is measured from the true logit: with u = z - z_true and m = max u >= 0,
    CE = m + log1p(sum over others exp(u - m) + exp(-m) - 1), which keeps its relative accuracy when it is tiny.
    """
    z -= z.gather(1, at)
    top = z.amax(1, keepdim=True)
    z -= top
    z.exp_()
    true = torch.exp(-top)
    z.scatter_(1, at, 0.0)
    others = z.sum(1, keepdim=True)
    loss = (top + torch.log1p(others + (true - 1))).sum((1, 2), dtype=torch.float64)
    scale = 1 / (true + others)
    z *= scale
    z.scatter_(1, at, -others * scale)
    return loss
