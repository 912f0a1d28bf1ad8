"""The objective of many softmax regressions and its gradient, in one pass over their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.measures.probe_design import Design

FULL_CLASS_FACTOR = 128  # up to this many classes, the class factor is a full matrix
CURVATURE_ROWS = 4096  # rows from which the class factor is estimated
LOWEST = -60.0  # of a logit below the largest: e^-60 is nothing, and far less is no normal number, which costs products a hundred cycles
# Logits up to which the rows of all parts are one block: on small data the number of calls is what costs.
TOGETHER = 1 << 20


class Batch:
    """The rows of every part (fold), and their labels.

    labels: an int64 array [n] a part; or one [K, n], labels of its own for each of K problems on one part. Designs of different rank are filled
    up with axes along which nothing varies, so that theta is [A, C, r + 1] for all: coefficients in the axes of the design, then the bias.
    """

    def __init__(self, designs: Sequence[Design], labels: Sequence[NDArray[np.int64]], n_classes: int) -> None:
        first = designs[0]
        self.designs, self.n_classes, self.own = designs, n_classes, labels[0].ndim == 2
        self.n = np.array([d.n for d in designs])
        self.rank = max(d.rank for d in designs)
        self.spectrum = torch.zeros(len(designs), self.rank, dtype=first.dtype, device=first.device)
        rows = labels[0] if self.own else [labels[k] for k in range(len(labels))]
        self.labels = torch.zeros(len(rows), int(self.n.max()), dtype=torch.int64, device=first.device)
        for k, row in enumerate(rows):
            self.labels[k, : len(row)] = torch.as_tensor(row, device=first.device)
        for k, d in enumerate(designs):
            self.spectrum[k, : d.rank] = d.spectrum
        self.real: Tensor | None = None  # [parts, 1, n]: 0 where a part has no such row
        if len(set(self.n.tolist())) > 1:
            here = torch.arange(int(self.n.max()), device=first.device)
            self.real = (here < torch.as_tensor(self.n, device=first.device)[:, None]).to(first.dtype)[:, None]

    @property
    def in_memory(self) -> bool:
        return all(d.kept is not None for d in self.designs)


@dataclass(frozen=True)
class Evaluation:
    """value: float64 [A]; grad [A, C * (r + 1)]; classes: the class factor E[diag(p) - p p'], [A, C, C] or its diagonal [A, C]."""

    value: Tensor
    grad: Tensor
    classes: Tensor

    def rows(self, rows: Tensor) -> Evaluation:
        return Evaluation(self.value[rows], self.grad[rows], self.classes[rows])

    def put(self, rows: Tensor, other: Evaluation) -> None:
        """Write `other` at these rows."""
        self.value[rows], self.grad[rows], self.classes[rows] = other.value, other.grad, other.classes


@dataclass(frozen=True)
class _Piece:
    """Some rows x [m, r] of one part, for problems lo to hi of the batch."""

    lo: int
    hi: int
    x: Tensor


def evaluate(
    batch: Batch,
    theta: Tensor,
    lam: Tensor,
    parts: NDArray[np.int64],
    index: NDArray[np.int64],
    *,
    curvature: bool,
) -> Evaluation:
    """Objective (1/n) sum CE + (lambda/2) ||W||^2 and gradient at theta [A, C * (r + 1)].

    lam: float64 [A]; parts: ascending [A], whose rows; index: [A], which problem of the batch (whose labels, where each has its own).
    curvature: whether the class factor is wanted; zeros where it is not.
    """
    count, classes = len(theta), batch.n_classes
    parameters = theta.view(count, classes, -1)
    r = parameters.shape[2] - 1
    weights = parameters[..., :r].reshape(count * classes, r)
    bias = parameters[..., r].reshape(-1, 1)
    loss = torch.zeros(count, device=theta.device, dtype=torch.float64)
    grad = torch.zeros_like(weights)
    grad_bias = torch.zeros(count, classes, device=theta.device, dtype=torch.float64)
    full = classes <= FULL_CLASS_FACTOR
    curve = theta.new_zeros((count, classes, classes) if full else (count, classes))
    seen = torch.zeros(count, device=theta.device, dtype=theta.dtype)
    step = max(1, int(batch.n.max()) // CURVATURE_ROWS)
    for offset, pieces in _blocks(batch, parts, count * classes):
        lo, hi, m = pieces[0].lo, pieces[-1].hi, max(len(p.x) for p in pieces)
        z = torch.empty(hi - lo, classes, m, dtype=theta.dtype, device=theta.device)
        flat = z.view(-1, m)
        for p in pieces:
            at, k = slice(p.lo * classes, p.hi * classes), p.x.shape[1]
            out = flat[(p.lo - lo) * classes : (p.hi - lo) * classes, : len(p.x)]
            if len(p.x) == m:
                torch.addmm(bias[at], weights[at, :k], p.x.T, out=out)
            else:
                out.copy_(torch.addmm(bias[at], weights[at, :k], p.x.T))
                flat[(p.lo - lo) * classes : (p.hi - lo) * classes, len(p.x) :] = 0
        which = torch.as_tensor(index[lo:hi] if batch.own else parts[lo:hi], device=theta.device)
        true = batch.labels[which, offset : offset + m][:, None]
        real = None
        if batch.real is not None and len(pieces) > 1:
            real = batch.real[torch.as_tensor(parts[lo:hi], device=theta.device), :, :m]
        loss[lo:hi] += _residuals(z, true, real)
        for p in pieces:
            at, k = slice(p.lo * classes, p.hi * classes), p.x.shape[1]
            residual = flat[(p.lo - lo) * classes : (p.hi - lo) * classes, : len(p.x)]
            grad[at, :k].addmm_(residual, p.x)
        grad_bias[lo:hi] += z.sum(2, dtype=torch.float64)
        start = -offset % step
        if curvature and start < m:
            probability = z[..., start::step].clone()
            ones = torch.ones_like(probability[:, :1]) if real is None else real[..., start::step]
            probability.scatter_add_(1, true[..., start::step], ones)
            seen[lo:hi] += ones.sum((1, 2))
            if full:
                curve[lo:hi] += torch.diag_embed(probability.sum(2)) - probability @ probability.mT
            else:
                curve[lo:hi] += (probability * (1 - probability)).sum(2)
    n = torch.as_tensor(batch.n[parts], device=theta.device)
    gradient = torch.empty_like(parameters)
    narrow = n.to(theta.dtype)[:, None, None]
    torch.div(grad.view(count, classes, r), narrow, out=gradient[..., :r])
    gradient[..., :r].addcmul_(lam.to(theta.dtype)[:, None, None], parameters[..., :r])
    gradient[..., r] = (grad_bias / n[:, None]).to(theta.dtype)
    penalty = (parameters[..., :r] ** 2).sum((1, 2), dtype=torch.float64)
    if curvature:
        curve /= seen.view(-1, *[1] * (curve.ndim - 1))
    return Evaluation(loss / n + lam / 2 * penalty, gradient.view(count, -1), curve)


def _blocks(batch: Batch, parts: NDArray[np.int64], width: int) -> Iterator[tuple[int, list[_Piece]]]:
    """(first row, pieces of that block): all parts in one block where that is small, else each part by itself, some rows at a time."""
    which, starts = np.unique(parts, return_index=True)
    spans = list(zip(which.tolist(), starts.tolist(), [*starts[1:].tolist(), len(parts)], strict=True))
    if batch.in_memory and width * int(batch.n[which].max()) <= TOGETHER:
        yield 0, [_Piece(lo, hi, kept) for k, lo, hi in spans if (kept := batch.designs[k].kept) is not None]
        return
    for k, lo, hi in spans:
        offset = 0
        rows = _block_rows((hi - lo) * batch.n_classes, batch.designs[k].device)
        for x in batch.designs[k].blocks(rows):
            yield offset, [_Piece(lo, hi, x)]
            offset += len(x)


def _block_rows(width: int, device: torch.device) -> int:
    """Rows a block, so that the block of logits stays in the processor's cache (or fills an accelerator)."""
    if device.type == "cpu":
        return int(np.clip((1 << 18) // width, 128, 4096))
    return int(np.clip((1 << 26) // width, 1024, 65536))


def _residuals(z: Tensor, at: Tensor, real: Tensor | None) -> Tensor:
    """Turn logits z [A, C, m] into p - onehot in place; return the summed cross-entropy, float64 [A].

    at: int64 [A, 1, m], the true class; real: [A, 1, m], 0 for rows that are none. Everything is measured from the true logit: with
    u = z - z_true and top = max u >= 0, CE = top + log1p(sum over others exp(u - top) + exp(-top) - 1), which keeps its relative
    accuracy when it is tiny.
    """
    z -= z.gather(1, at)
    top = z.amax(1, keepdim=True)
    z -= top
    z.clamp_(min=LOWEST).exp_()
    true = torch.exp(-top)
    z.scatter_(1, at, 0.0)
    others = z.sum(1, keepdim=True)
    each = top + torch.log1p(others + (true - 1))
    scale = 1 / (true + others)
    if real is not None:
        each *= real
        scale *= real
    z *= scale
    z.scatter_(1, at, -others * scale)
    return each.sum((1, 2), dtype=torch.float64)
