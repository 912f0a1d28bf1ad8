"""Preconditioned L-BFGS over a batch of softmax regressions that differ in their lambda, their labels, or their rows (folds).

The inverse Hessian in its compact form (Byrd, Nocedal and Schnabel 1994, theorem 2.2): two passes over the memory a step, for the whole
batch at once. Its first term is a Kronecker approximation, E[diag(p) - p p'] (x) cov(x) + lambda, refreshed ever more rarely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.measures.probe_loss import Batch, Evaluation, evaluate

MEMORY = 10  # pairs kept
MEMORY_BYTES = 1 << 30  # of all pairs together; fewer problems at a time, and fewer pairs, when they would need more
FEWEST_PAIRS = 6
WINDOW = 8  # steps over which the speed of convergence is judged
REFRESH = 32  # steps after which the first term is made anew, and at the first few
LEAVING = 4  # what has ended leaves the batch when it is a quarter of it: leaving copies the memory


@dataclass(frozen=True)
class Found:
    """Solutions theta [A, C, r + 1] with, per problem: objective, bound on what is left, iterations, converged."""

    theta: Tensor
    objective: NDArray[np.float64]
    gap: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


def minimise(
    batch: Batch, lambdas: NDArray[np.float64], parts: NDArray[np.int64], start: Tensor, *, tol: float, limit: int
) -> Found:
    """Minimise every problem's objective from start [A, C, r + 1]. parts: ascending [A], whose rows each is fitted to; limit: steps.

    In groups, so that memory stays bounded.
    """
    pair = 2 * start[0].numel() * start.element_size()
    pairs = int(np.clip(MEMORY_BYTES // (8 * pair), FEWEST_PAIRS, MEMORY))
    size = max(1, MEMORY_BYTES // (pairs * pair))
    found = []
    for i in range(0, len(lambdas), size):
        at = slice(i, i + size)
        found.append(_Descent(batch, lambdas[at], parts[at], start[at], i, pairs).run(tol, limit))
    return Found(
        theta=torch.cat([f.theta for f in found]),
        objective=np.concatenate([f.objective for f in found]),
        gap=np.concatenate([f.gap for f in found]),
        iterations=np.concatenate([f.iterations for f in found]),
        converged=np.concatenate([f.converged for f in found]),
    )


class _Descent:
    """Problems on their way down; every tensor of those at work has one row for each."""

    def __init__(
        self,
        batch: Batch,
        lambdas: NDArray[np.float64],
        parts: NDArray[np.int64],
        start: Tensor,
        first: int,
        pairs: int,
    ) -> None:
        self.batch, self.first, self.shape = batch, first, start.shape
        count = len(lambdas)
        self.index = np.arange(count)  # of those at work, in this group
        self.parts = parts
        self.lam = torch.as_tensor(lambdas, device=start.device)
        self.theta = start.reshape(count, -1).clone()
        self.now = self._at(self.theta, np.arange(count), curvature=True)
        self.calm = torch.zeros(count, dtype=torch.int64, device=start.device)
        self.fails = torch.zeros_like(self.calm)
        self.past = [self.now.value]
        self.classes = self.now.classes  # of the last refresh
        self.metric = _Metric.of(batch, self.parts, self.lam, self.classes)
        self.memory = _Memory(pairs)
        self.scaled = self.metric(self.now.grad)

    def _at(self, theta: Tensor, rows: NDArray[np.int64], *, curvature: bool) -> Evaluation:
        lam = self.lam if len(rows) == len(self.lam) else self.lam[torch.as_tensor(rows, device=self.lam.device)]
        return evaluate(self.batch, theta, lam, self.parts[rows], self.index[rows] + self.first, curvature=curvature)

    def run(self, tol: float, limit: int) -> Found:
        count = self.shape[0]
        out = self.theta.clone()
        objective, gap = np.zeros(count), np.zeros(count)
        iterations, converged = np.full(count, -1), np.zeros(count, bool)
        for step in range(limit + 1):
            direction = -self.memory.direction(self.now.grad, self.scaled)
            slope = _dot(self.now.grad, direction)
            uphill = slope >= 0
            if bool(uphill.any()):  # rounding spoiled the memory: these start again from the preconditioned gradient
                self.memory.forget(uphill)
                direction = torch.where(uphill[:, None], -self.scaled, direction)
                slope = _dot(self.now.grad, direction)
            # What is left to gain: an estimate (half the squared Newton decrement), and a bound that holds by convexity.
            value, bound = self.now.value, self._bound()
            # While steps are few, more accuracy costs little and the estimate is the only witness: ask for more.
            strict = 400 if step <= WINDOW else 40
            self.calm = torch.where(-slope / 2 <= tol / strict * value, self.calm + 1, 0)
            to_come = self._to_come()
            proven = bound <= tol / 100 * value
            settled = (self.calm >= 2) & (to_come <= tol / 8 * value)
            finished = (proven | settled | (self.fails >= 2)).cpu().numpy()
            if step == limit:
                finished[:] = True
            new = finished & (iterations[self.index] < 0)
            if new.any():
                sure = (proven | settled | (self.calm >= 1) & (to_come <= tol * value)).cpu().numpy()
                at, mine = self.index[new], torch.as_tensor(new, device=value.device)
                out[torch.as_tensor(at, device=out.device)] = self.theta[mine]
                objective[at], gap[at] = value[mine].cpu().numpy(), bound[mine].cpu().numpy()
                iterations[at], converged[at] = step, sure[new]
            left = iterations[self.index] < 0
            if not left.any():
                break
            if LEAVING * (~left).sum() >= len(left):
                rows = torch.as_tensor(left, device=value.device)
                self._keep(left)
                direction, slope = direction[rows], slope[rows]
            self._step(direction, slope, refresh=(step + 1) & step == 0 or step % REFRESH == 0)
        return Found(out.reshape(self.shape), objective, gap, iterations, converged)

    def _keep(self, left: NDArray[np.bool_]) -> None:
        rows = torch.as_tensor(left, device=self.theta.device)
        self.index, self.parts = self.index[left], self.parts[left]
        self.lam, self.theta, self.scaled = self.lam[rows], self.theta[rows], self.scaled[rows]
        self.calm, self.fails, self.classes = self.calm[rows], self.fails[rows], self.classes[rows]
        self.past = [v[rows] for v in self.past]
        self.now = self.now.rows(rows)
        self.metric = self.metric.rows(rows)
        self.memory.keep(rows)

    def _to_come(self) -> Tensor:
        """What is left to gain if the decreases go on shrinking as they did over the last steps; 0 while steps are few.

        Where convergence is slow, the estimate from one direction is too hopeful and this is not.
        """
        if len(self.past) < 2 * WINDOW + 1:
            return torch.zeros_like(self.now.value)
        before = self.past[-1 - 2 * WINDOW] - self.past[-1 - WINDOW]
        last = (self.past[-1 - WINDOW] - self.past[-1]).clamp_min(0)
        going_on = last * last / (before - last).clamp_min(1e-300)
        return torch.where(before > last, going_on, last * torch.inf).nan_to_num(0.0)

    def _bound(self) -> Tensor:
        """Duality gap |gradient of the weights|^2 / (2 lambda), plus the first-order gain of the bias under its curvature."""
        g = self.now.grad.view(len(self.theta), self.shape[1], -1)
        weights = (g[..., :-1] ** 2).sum((1, 2), dtype=torch.float64) / (2 * self.lam)
        classes = self.classes
        curve = classes if classes.ndim == 2 else classes.diagonal(dim1=1, dim2=2)
        bias = (g[..., -1].double() ** 2 / (2 * curve.double().clamp_min(1e-30))).sum(1)
        total: Tensor = weights + bias
        return total

    def _step(self, direction: Tensor, slope: Tensor, *, refresh: bool) -> None:
        """Backtrack each problem to sufficient decrease (those that have it wait), then remember the pair."""
        before, value = self.now, self.now.value
        slack = value * (2e-7 if direction.dtype == torch.float32 else 1e-14)  # rounding of the loss itself
        every = np.arange(len(self.theta))
        length = torch.ones(len(every), device=value.device, dtype=direction.dtype)
        theta = self.theta + direction
        now = self._at(theta, every, curvature=refresh)
        good = now.value <= value + 1e-4 * slope + slack
        todo = np.flatnonzero(~good.cpu().numpy())
        if len(todo):
            wrong = torch.as_tensor(todo, device=value.device)
            trial_value = now.value[wrong]
            theta[wrong] = self.theta[wrong]
            now.put(wrong, before.rows(wrong))
        for _ in range(24):
            if not len(todo):
                break
            # Safeguarded minimum of the parabola through value, slope and trial value.
            rows = torch.as_tensor(todo, device=value.device)
            t = length[rows].double()
            curve = 2 * (trial_value - value[rows] - t * slope[rows])
            best = torch.nan_to_num(-slope[rows] * t * t / curve, nan=0.0)
            length[rows] = torch.clamp(best, 0.1 * t, 0.5 * t).to(length.dtype)
            trial = self.theta[rows] + length[rows, None] * direction[rows]
            found = self._at(trial, todo, curvature=refresh)
            good = found.value <= value[rows] + 1e-4 * length[rows] * slope[rows] + slack[rows]
            hit = rows[good]
            theta[hit] = trial[good]
            now.put(hit, found.rows(good))
            bad = ~good.cpu().numpy()
            todo, trial_value = todo[bad], found.value[~good]
        failed = torch.zeros_like(self.calm, dtype=torch.bool)
        failed[torch.as_tensor(todo, device=failed.device)] = True
        self.fails = torch.where(failed, self.fails + 1, 0)
        scaled = self.metric(now.grad)
        self.memory.add(theta - self.theta, now.grad - before.grad, scaled - self.scaled, now.grad)
        if len(todo):
            self.memory.forget(failed)
        self.theta, self.now, self.scaled = theta, now, scaled
        self.past = [*self.past, now.value][-2 * WINDOW - 1 :]
        if refresh:
            self.classes = now.classes
            metric = _Metric.of(self.batch, self.parts, self.lam, self.classes)
            self.memory.change(self.metric, metric, now.grad)
            self.metric, self.scaled = metric, metric(now.grad)


@dataclass(frozen=True)
class _Metric:
    """Solve with (class factor (x) spectrum + lambda); the bias has spectrum 1 and no lambda. inverse: [A, C, r + 1], in the class factor's own
    axes, vectors [A, C, C]; None where it is diagonal."""

    inverse: Tensor
    vectors: Tensor | None

    @classmethod
    def of(cls, batch: Batch, parts: NDArray[np.int64], lam: Tensor, classes: Tensor) -> _Metric:
        values, vectors = torch.linalg.eigh(classes) if classes.ndim == 3 else (classes, None)
        values = values.clamp_min(0)
        spectrum = batch.spectrum[torch.as_tensor(parts, device=lam.device)][:, None]
        weights = 1 / (values[:, :, None] * spectrum + lam.to(values.dtype)[:, None, None])
        # A class factor near zero means that nothing is known of that direction: a step by it alone would overshoot.
        floor = (1e-4 * values.mean(1, keepdim=True)).clamp_min(1e-30)
        bias = 1 / torch.maximum(values, floor)
        if vectors is not None:  # the same shift of all biases changes nothing: there the gradient is rounding
            bias = torch.where(vectors.sum(1) ** 2 > 0.5 * values.shape[1], 0.0, bias)
        return cls(torch.cat([weights, bias[:, :, None]], dim=2), vectors)

    def rows(self, rows: Tensor) -> _Metric:
        return _Metric(self.inverse[rows], None if self.vectors is None else self.vectors[rows])

    def __call__(self, q: Tensor) -> Tensor:
        """q [A, P] -> [A, P]."""
        return self._apply(self.inverse, q)

    def undone(self, q: Tensor) -> Tensor:
        """What this makes q of; 0 in directions that it drops."""
        return self._apply(torch.where(self.inverse > 0, 1 / self.inverse, 0.0), q)

    def _apply(self, factor: Tensor, q: Tensor) -> Tensor:
        t = q.view(factor.shape)
        if self.vectors is None:
            return (factor * t).view(q.shape)
        turned = torch.bmm(self.vectors.mT, t).mul_(factor)
        return torch.bmm(self.vectors, turned).view(q.shape)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    total: Tensor = (a * b).sum(1, dtype=torch.float64)
    return total


class _Memory:
    """The last pairs (s, y) of every problem, as s and z = H0 y, with the small matrices of the compact form.

    s, z: [A, m, P]. upper: float64 [A, m, m], s_i'y_j where pair i is not younger than pair j, else 0; a forgotten pair has 1 on the diagonal
    and zeros elsewhere. gram: float64 [A, m, m], y_i'H0 y_j. Every problem adds at the same steps, so a slot has one age for all.
    """

    def __init__(self, size: int) -> None:
        self.size, self.added = size, 0
        self.s = self.z = self.upper = self.gram = torch.empty(0)
        self.gain = torch.empty(0)  # s'y / y'H0 y of the youngest pair
        self.against = torch.empty(0)  # [A, m, 2]: s'g and z'g

    def add(self, s: Tensor, y: Tensor, z: Tensor, grad: Tensor) -> None:
        """Remember a pair; grad: [A, P], the gradient now, for which `direction` will be asked."""
        count = len(s)
        if not self.added:
            self.s = s.new_zeros(count, self.size, s.shape[1])
            self.z = torch.zeros_like(self.s)
            self.upper = torch.eye(self.size, dtype=torch.float64, device=s.device).repeat(count, 1, 1)
            self.gram = torch.zeros_like(self.upper)
            self.gain = torch.ones(count, dtype=torch.float64, device=s.device)
        at = self.added % self.size
        self.added += 1
        curvature = _dot(s, y)
        usable = curvature > 1e-12 * torch.sqrt(_dot(s, s) * _dot(y, y))
        keep = usable[:, None].to(s.dtype)
        self.s[:, at], self.z[:, at] = s * keep, z * keep
        used = min(self.added, self.size)
        pair = torch.stack([y * keep, grad], dim=2)
        by_s = torch.bmm(self.s[:, :used], pair).double()
        by_z = torch.bmm(self.z[:, :used], pair).double()
        self.upper[:, at, :], self.upper[:, :used, at] = 0, by_s[..., 0]
        self.upper[:, at, at] = torch.where(usable, curvature, 1.0)
        self.gram[:, at, :used] = self.gram[:, :used, at] = by_z[..., 0]
        self.against = torch.stack([by_s[..., 1], by_z[..., 1]], dim=2)
        self._measure(at)

    def _measure(self, at: int) -> None:
        own = self.gram[:, at, at]
        gain = self.upper[:, at, at] / own
        self.gain = torch.where((own > 0) & torch.isfinite(gain) & (gain > 0), gain, 1.0)

    def direction(self, grad: Tensor, scaled: Tensor) -> Tensor:
        """The inverse Hessian on the gradient that was last given to `add`; scaled: H0 on it."""
        if not self.added:
            return scaled
        used = min(self.added, self.size)
        order = [i % self.size for i in range(self.added - used, self.added)]  # the oldest first
        upper, gram = self.upper[:, order][:, :, order], self.gram[:, order][:, :, order]
        p, q = self.against[:, order, 0, None], self.against[:, order, 1, None]
        w = torch.linalg.solve_triangular(upper, p, upper=True)
        gain = self.gain[:, None, None]
        inner = upper.diagonal(dim1=1, dim2=2)[..., None] * w + gain * (gram @ w - q)
        a = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
        slots = torch.as_tensor(order, device=grad.device)
        ahead = torch.zeros(len(grad), 1, used, dtype=grad.dtype, device=grad.device)
        back = torch.zeros_like(ahead)
        ahead[:, 0, slots], back[:, 0, slots] = a[..., 0].to(grad.dtype), (gain * w)[..., 0].to(grad.dtype)
        found = self.gain.to(grad.dtype)[:, None] * scaled
        found += torch.bmm(ahead, self.s[:, :used])[:, 0]
        found -= torch.bmm(back, self.z[:, :used])[:, 0]
        return found

    def forget(self, rows: Tensor) -> None:
        """Empty the memory of some problems. rows: bool [A]."""
        if not self.added:
            return
        self.s[rows], self.z[rows], self.gram[rows] = 0, 0, 0
        self.upper[rows] = torch.eye(self.size, dtype=torch.float64, device=rows.device)
        self.gain[rows], self.against[rows] = 1, 0

    def keep(self, rows: Tensor) -> None:
        if self.added:
            for name in ("s", "z", "upper", "gram", "gain", "against"):
                setattr(self, name, getattr(self, name)[rows])

    def change(self, old: _Metric, new: _Metric, grad: Tensor) -> None:
        """Go over to another first term H0. grad: as in `add`."""
        for k in range(min(self.added, self.size)):
            y = old.undone(self.z[:, k].contiguous())
            self.z[:, k] = new(y)
            products = torch.bmm(self.z[:, : k + 1], y[..., None]).double()[..., 0]
            self.gram[:, k, : k + 1] = self.gram[:, : k + 1, k] = products
        used = self.against.shape[1]
        self.against[..., 1] = torch.bmm(self.z[:, :used], grad[..., None]).double()[..., 0]
        self._measure((self.added - 1) % self.size)
