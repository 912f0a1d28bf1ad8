"""Alignment of two modalities: maps fitted on some pairs, judged on those and on others (protocol P12)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, generator_of
from visus.measures._arrays import features as checked
from visus.measures.rows import unit64

KINDS = ("procrustes", "procrustes-raw", "centring", "ridge", "whitening")
PENALTIES = np.logspace(-4, 3, 15)


@dataclass(frozen=True)
class Alignment:
    """A fitted alignment. images, texts: float [m, d] -> float64 [m, d], rows of unit length. n: pairs that it was fitted on; d: dimensions."""

    kind: str
    n: int
    d: int
    images: Callable[[Array], Floats]
    texts: Callable[[Array], Floats]


def fit(kind: str, images: Array, texts: Array, *, both: bool = False, seed: int = 0) -> Alignment:
    """Fit an alignment on paired rows [n, d].

    'procrustes': the orthogonal R that minimises ||X R - Y|| over unit rows (Schönemann 1966); 'procrustes-raw': over rows as given; 'centring':
    each modality's mean subtracted; 'ridge': a linear map with intercept, its penalty by 5 folds of the pairs,
    drawn by `seed` (leave-one-out below 10);
    'whitening': each modality centred and whitened by its own shrunk covariance (Ledoit and Wolf 2004), then Procrustes.

    both=False: images are moved to where texts are, texts stay (for 'whitening' in their whitened space). both=True: the same map
    moves both: a rotation keeps every score. Centring with both=False moves images by the difference of means.
    Raises DataError: an unknown kind, shapes that differ, fewer than 2 pairs, NaN, zero vectors.
    """
    if kind not in KINDS:
        raise DataError(f"there is no alignment called {kind!r}; choose from {', '.join(KINDS)}")
    x, y = _pairs(images, texts)
    n, d = x.shape
    if kind == "centring":
        mx, my = unit64(x).mean(axis=0), unit64(y).mean(axis=0)
        if both:
            return Alignment(kind, n, d, lambda a: unit64(unit64(a) - mx), lambda b: unit64(unit64(b) - my))
        return Alignment(kind, n, d, lambda a: unit64(unit64(a) - mx + my), unit64)
    if kind == "whitening":
        wx, wy = _whitener(unit64(x)), _whitener(unit64(y))
        r = rotation(unit64(wx(unit64(x))), unit64(wy(unit64(y))))
        after = r if both else np.eye(d)
        return Alignment(kind, n, d, lambda a: unit64(wx(unit64(a)) @ r), lambda b: unit64(wy(unit64(b)) @ after))
    if kind == "ridge":
        move = _ridge(unit64(x), unit64(y), seed)
        return Alignment(
            kind, n, d, lambda a: unit64(move(unit64(a))), (lambda b: unit64(move(unit64(b)))) if both else unit64
        )
    r = rotation(x, y) if kind == "procrustes-raw" else rotation(unit64(x), unit64(y))
    return Alignment(kind, n, d, lambda a: unit64(unit64(a) @ r), (lambda b: unit64(unit64(b) @ r)) if both else unit64)


def rotation(x: Floats, y: Floats) -> Floats:
    """The orthogonal float64 [d, d] that minimises ||x R - y|| (scipy.linalg.orthogonal_procrustes, Schönemann 1966)."""
    r: Floats = orthogonal_procrustes(x, y)[0]
    return r


def short_of(n: int, d: int) -> bool:
    """Whether n pairs are too few for a map of d dimensions to be believed: under three times d."""
    return n < 3 * d


def halves(
    n: int, size: int, groups: npt.ArrayLike, *, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(pairs to fit on, the others), int64 positions of n pairs: groups are drawn whole until `size` pairs are reached.

    groups: int64 [n]; pairs of one group never stand on both sides; a group of more than `size` pairs, and of more than half of all, is
    judged on and never fitted on. Raises DataError when nothing is left on one side.
    """
    groups = np.asarray(groups)
    if len(groups) != n:
        raise DataError(f"{len(groups)} groups were given for {n} pairs")
    _, code = np.unique(groups, return_inverse=True)
    counts = np.bincount(code)
    order = generator_of(seed).permutation(len(counts))
    order = order[(counts[order] <= size) | (2 * counts[order] <= n)]
    taken = order[: int(np.searchsorted(np.cumsum(counts[order]), size, side="left")) + 1]
    inside = np.isin(code, taken)
    if inside.all() or not inside.any():
        raise DataError(f"{size} of {n} pairs leave none to judge on; fit on fewer")
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def _pairs(images: Array, texts: Array) -> tuple[Floats, Floats]:
    x, y = checked(images, "images", at_least=2), checked(texts, "texts", at_least=2)
    if len(x) != len(y):
        raise DataError(f"{len(x)} images and {len(y)} texts are not pairs; give one text for each image")
    if x.shape[1] != y.shape[1]:
        raise DataError(f"images have {x.shape[1]} dimensions, texts {y.shape[1]}; take both from the shared space")
    for name, rows in (("images", x), ("texts", y)):
        zero = np.flatnonzero(~np.asarray(rows).any(axis=1))
        if len(zero):
            raise DataError(f"row {int(zero[0])} of {name} is all zeros, which has no direction; leave such pairs out")
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def _whitener(x: Floats) -> Callable[[Floats], Floats]:
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh(ledoit_wolf(x - mean, assume_centered=True)[0])
    w = (vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    return lambda a: (a - mean) @ w


def _ridge(x: Floats, y: Floats, seed: int) -> Any:
    if len(x) < 10:
        return RidgeCV(alphas=PENALTIES).fit(x, y).predict
    losses = np.zeros(len(PENALTIES))
    for fit_on, held in KFold(5, shuffle=True, random_state=seed).split(x):
        for k, path in enumerate(_ridge_path(x[fit_on], y[fit_on], x[held])):
            losses[k] += float(((path - y[held]) ** 2).sum())
    return Ridge(alpha=float(PENALTIES[int(np.argmin(losses))])).fit(x, y).predict


def _ridge_path(x: Floats, y: Floats, new: Floats) -> list[Floats]:
    """Predictions for `new` at every penalty, from one singular value decomposition."""
    mx, my = x.mean(axis=0), y.mean(axis=0)
    u, s, vt = np.linalg.svd(x - mx, full_matrices=False)
    left, right = (new - mx) @ vt.T, u.T @ (y - my)
    return [left * (s / (s * s + a)) @ right + my for a in PENALTIES]
