"""Rows made ready for the solver: centred, scaled, turned into their principal axes once, and kept on the device where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.measures.probe_blocks import Array, Blocks, Source, as_blocks, moments

CACHE_BYTES = 1 << 30
ROWS = 4096  # of a block that is read
NOTHING = 1e-13  # of the largest eigenvalue: below it an axis is rounding


@dataclass(frozen=True)
class Design:
    """Rows x [n, d] as the solver sees them: z = (x - mean) / scale, turned into r axes in which a penalised classifier loses nothing.

    mean, scale: float64 [d]. axes: float64 [d, r], orthonormal; r is d, or n where there are fewer rows: weights outside the span of the
    rows are 0 at every optimum. spectrum [r]: variance along each axis. kept: [n, r], or None where the rows are read anew each pass.
    """

    source: Blocks
    n: int
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    spectrum: Tensor
    kept: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        return self.spectrum.dtype

    @property
    def device(self) -> torch.device:
        return self.spectrum.device

    @property
    def rank(self) -> int:
        return int(self.axes.shape[1])

    def blocks(self, rows: int) -> Iterator[Tensor]:
        """All rows in order, at most `rows` at a time, [., r]."""
        if self.kept is not None:
            yield from torch.split(self.kept, rows)
            return
        axes = torch.as_tensor(self.axes, device=self.device).to(self.dtype)
        for block in self.source.blocks(min(rows, ROWS)):
            yield self.scaled(block) @ axes

    def scaled(self, block: Array) -> Tensor:
        """(x - mean) / scale of raw rows [., d], on the device. Statistics stay float64 until the difference is taken: a mean rounded to
        float32 would shift large features."""
        raw = np.array(block, np.float64 if np.asarray(block).dtype == np.float64 else np.float32)
        x = torch.as_tensor(raw).to(self.device).double()
        x -= torch.as_tensor(self.mean, device=self.device)
        return x.to(self.dtype).mul_(torch.as_tensor(1 / self.scale, device=self.device).to(self.dtype))

    def turned(self, block: Array) -> Tensor:
        """Raw rows [., d], these or others, in the same axes: [., r]."""
        return self.scaled(block) @ torch.as_tensor(self.axes, device=self.device).to(self.dtype)

    def weights(self, theta: Tensor) -> NDArray[np.float32]:
        """Coefficients theta [L, C, r] as weights W float32 [L, d, C] of (x - mean) / scale."""
        found = theta.double().cpu().numpy() @ self.axes.T
        return np.ascontiguousarray(found.transpose(0, 2, 1), dtype=np.float32)

    def coefficients(self, weights: Array) -> NDArray[np.float64]:
        """Weights W [L, d, C] as theta [L, C, r]; what lies outside the span of the rows is dropped."""
        found: NDArray[np.float64] = np.swapaxes(np.asarray(weights, np.float64), 1, 2) @ self.axes
        return found


def design(
    x: Source,
    *,
    standardise: bool,
    dtype: torch.dtype,
    device: str = "cpu",
    cache_bytes: int = CACHE_BYTES,
    like: NDArray[np.float64] | None = None,
) -> Design:
    """Prepare rows. standardise: every feature to variance 1 (constant ones stay 0). like: axes of nearly the same rows,
    which are taken over where they span everything; that saves finding them. Raises DataError as `moments` does."""
    source = as_blocks(x)
    stats = moments(source)
    d = len(stats.mean)
    scale = np.where(stats.std == 0, 1.0, stats.std) if standardise else np.ones(d)
    where = torch.device(device)
    fits = stats.n * d * dtype.itemsize <= cache_bytes
    blank = Design(source, stats.n, stats.mean, scale, np.eye(d), torch.zeros(d, dtype=dtype, device=where), None)
    if stats.n < d and fits:
        rows = np.concatenate([(np.asarray(b, np.float64) - stats.mean) / scale for b in source.blocks(ROWS)])
        values, vectors = np.linalg.eigh(rows @ rows.T)
        found = values > max(values[-1], 0.0) * NOTHING
        if not found.any():
            found[-1] = True  # rows that are all the same: one axis, along which nothing varies
        values, vectors = values[found], vectors[:, found]
        size = np.sqrt(np.maximum(values, np.finfo(float).tiny))
        axes = (rows.T @ vectors) / size
        spectrum = torch.as_tensor(values / stats.n, device=where).to(dtype)
        kept = torch.as_tensor(vectors * size, device=where).to(dtype)
        return Design(source, stats.n, stats.mean, scale, axes, spectrum, kept)
    covariance = stats.cov / np.outer(scale, scale)
    if like is not None and like.shape == (d, d):
        axes = like
        values = np.einsum("dr,dr->r", axes, covariance @ axes)
    else:
        values, axes = np.linalg.eigh(covariance)
    spectrum = torch.as_tensor(np.clip(values, 0, None), device=where).to(dtype)
    if not fits:
        return Design(source, stats.n, stats.mean, scale, axes, spectrum, None)
    turn = torch.as_tensor(axes, device=where).to(dtype)
    kept = torch.empty(stats.n, d, dtype=dtype, device=where)
    offset = 0
    for block in source.blocks(ROWS):
        torch.mm(blank.scaled(block), turn, out=kept[offset : offset + len(block)])
        offset += len(block)
    return Design(source, stats.n, stats.mean, scale, axes, spectrum, kept)
