"""Rows of unit length, said once: what every cosine stands on."""

from __future__ import annotations

import numpy as np

from visus.measures._arrays import Array, Floats, block_rows

_CACHED = 2**20  # bytes of a block that goes through all steps before it leaves the cache


def unit_rows(x: Array) -> Array:
    """Rows at unit length, float32 [n, d]; a zero row stays zero. In blocks, so that a memory-mapped array is never copied whole."""
    unit = np.empty(x.shape, np.float32)
    step = block_rows(16 * x.shape[1], budget=_CACHED)
    for start in range(0, len(x), step):
        block = x[start : start + step]
        # In float64 the squares of float32 neither overflow nor vanish.
        unit[start : start + step] = (
            _scaled(block.astype(np.float64)) if x.dtype.kind == "f" and x.dtype.itemsize <= 4 else unit_block(block)
        )
    return unit


def unit_block(x: Array) -> Floats:
    """As `unit_rows`, in float64 and all at once: for rows that are a block already."""
    wide = x.astype(np.float64)
    # The largest entry first, so that squares neither overflow nor vanish.
    peak = np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.where(peak > 0, peak, 1.0)
    return _scaled(wide)


def _scaled(wide: Floats) -> Floats:
    norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    wide /= np.where(norm > 0, norm, 1.0)
    return wide


def unit64(x: Array) -> Floats:
    """Rows by their plain norm, float64; zero rows stay. Not `unit_block`, whose last digit is another: alignments are compared across runs."""
    a = np.asarray(x, np.float64)
    norms = np.linalg.norm(a, axis=1, keepdims=True)
    found: Floats = a / np.where(norms > 0, norms, 1.0)
    return found
