"""Which images and texts belong together: rows that are the same, partners each way, and groups that share none of either."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, Ints, block_rows
from visus.measures._arrays import features as checked
from visus.measures.rows import unit_rows

SKETCH = 16  # directions in which rows are looked for: rows that are near lie near in all of them
NEAREST = 4
CROWD, TRIES = 100, 5
# Relative distance of one vector computed twice, by the bits that its numbers keep: rounding, and the noise of another batch.
NOISE = {"bfloat16": 8e-3, "float16": 2e-3, "float32": 1e-5}
SHARE = (
    0.02  # of the rows' distance to their centroid, above which a distance is a difference in a space however narrow
)


def precision_of(x: Array) -> str:
    """'bfloat16', 'float16' or 'float32': to what the numbers of float or whole-number [n, d] were rounded, whatever type holds them now."""
    x = np.asarray(x)
    if x.dtype == np.float16:
        return "float16"
    if x.dtype.kind != "f":
        return "float32"
    with np.errstate(over="ignore"):
        narrow = np.asarray(x, np.float32)
        if not np.array_equal(narrow, x):
            return "float32"
        whole = bool((narrow == np.rint(narrow)).all())  # small whole numbers fit any type, and say nothing
        if whole:
            return "float32"
        if not (np.ascontiguousarray(narrow).view(np.uint32) & 0xFFFF).any():
            return "bfloat16"  # first: most of its numbers fit in float16 too
        if np.array_equal(narrow.astype(np.float16).astype(np.float32), narrow):
            return "float16"
    return "float32"


def same_rows(x: Array, *, noise: float | None = None, share: float = SHARE) -> Ints:
    """int64 [n]: equal for rows of one direction up to noise, numbered in lexicographic order.

    x: [n, d]. noise: distance of unit rows that are the same, at most (default: NOISE of `precision_of`); it is never more than `share` of their
    root mean square distance to the centroid, so that a space that stands in a narrow cone keeps its rows apart. Rows are looked for in a few
    random orthogonal directions by a k-d tree (a projection shortens every distance), then compared whole: memory is O(n d).
    Raises DataError for NaN or an empty array.
    """
    x = checked(x, "x")
    rows = unit_rows(x) + np.float32(0)  # -0.0 becomes 0.0
    radius = min(NOISE[precision_of(x)] if noise is None else noise, share * spread(rows))
    exact = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, first, code = np.unique(exact, return_index=True, return_inverse=True)
    merged = _merged(rows[first], radius)[code.reshape(-1)]
    _, first, code = np.unique(merged, return_index=True, return_inverse=True)
    return np.unique(x[first], axis=0, return_inverse=True)[1].reshape(-1)[code.reshape(-1)].astype(np.int64)


def spread(x: Array) -> float:
    """Root mean square distance of the unit rows of [n, d] to their centroid."""
    rows = unit_rows(x)
    centre = rows.mean(axis=0, dtype=np.float64)
    total = 0.0
    step = block_rows(16 * rows.shape[1])
    for start in range(0, len(rows), step):
        total += float(((rows[start : start + step] - centre) ** 2).sum())
    return float(np.sqrt(total / len(rows)))


def _numbered(values: npt.NDArray[Any]) -> Ints:
    """Values as numbers from 0, in the order of first appearance."""
    _, first, code = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[code.reshape(-1)]


def _merged(rows: Array, radius: float) -> Ints:
    """int64 [n]: the first row that each row is the same as. In rounds: rows near one another join, and one of each goes on."""
    n, d = rows.shape
    leader = np.arange(n)
    if radius <= 0 or n < 2:
        return leader
    _crowds(rows, leader, radius)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, min(d, SKETCH))))[0]
    sketch = rows @ basis
    alive = np.unique(leader)
    while len(alive) > 1:
        tree = cKDTree(sketch[alive])
        near, other = tree.query(sketch[alive], k=min(NEAREST, len(alive)), distance_upper_bound=radius)
        at, place = np.nonzero(np.isfinite(near))
        a, b = at, other[at, place]
        a, b = a[a != b], b[a != b]
        near_enough = _distances(rows, alive[a], alive[b]) <= radius
        a, b = a[near_enough], b[near_enough]
        if not len(a):
            break
        _, part = connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(len(alive), len(alive))))
        _, first = np.unique(part, return_index=True)
        joined = np.arange(n)
        joined[alive] = alive[first[part]]
        leader = joined[leader]
        alive = np.sort(alive[first])
    return leader


def _crowds(rows: Array, leader: Ints, radius: float) -> None:
    """Join rows of large clusters (a class name on a thousand rows) around one of each, in place: a k-d tree is slow in a crowd."""
    rng = np.random.default_rng(0)
    alive = np.arange(len(rows))
    misses = 0
    while len(alive) >= 2 * CROWD and misses < TRIES:
        pivot = int(alive[rng.integers(len(alive))])
        near = alive[rows[alive] @ rows[pivot] >= 1 - radius**2 / 2 - 1e-5]
        near = near[_distances(rows, near, np.full(len(near), pivot)) <= radius]
        if len(near) < CROWD:
            misses += 1
            continue
        misses = 0
        leader[near] = near[0]
        alive = np.setdiff1d(alive, near, assume_unique=True)


def _distances(rows: Array, a: Ints, b: Ints) -> Floats:
    """float64 [m]: between the rows at positions a and b, int64 [m] each."""
    found = np.empty(len(a), np.float64)
    step = block_rows(16 * rows.shape[1])
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        found[part] = np.linalg.norm(rows[a[part]].astype(np.float64) - rows[b[part]], axis=1)
    return found


def either(*codes: npt.ArrayLike) -> Ints:
    """int64 [n]: equal where any of the codes int64 [n] says so, and where a chain of them does."""
    arrays = [np.unique(np.asarray(c), return_inverse=True)[1].reshape(-1) for c in codes]
    found = arrays[0]
    for other in arrays[1:]:
        found = connected_groups(found, other)
    return _numbered(found)


def connected_groups(image_keys: npt.ArrayLike, text_keys: npt.ArrayLike) -> Ints:
    """int64 [n]: the group of each pair; pairs of two groups share neither an image nor a text (components of the bipartite graph).

    image_keys, text_keys: int64 [n]. Numbered from 0 in the order of their least text key. Raises DataError when they differ in number.
    """
    images, texts = _codes(image_keys, text_keys)
    k, m = int(images.max()) + 1, int(texts.max()) + 1
    graph = coo_matrix((np.ones(len(images)), (texts, m + images)), shape=(k + m, k + m))
    part = connected_components(graph, directed=False)[1]
    return _numbered(part[:m])[texts]


def partners(image_keys: npt.ArrayLike, text_keys: npt.ArrayLike) -> Any:
    """scipy.sparse.csr_array of bool [images, texts]: True where a pair joins the two. Rows and columns: the keys in sorted order.

    Raises DataError when the keys differ in number.
    """
    images, texts = _codes(image_keys, text_keys)
    shape = (int(images.max()) + 1, int(texts.max()) + 1)
    found = coo_array((np.ones(len(images), np.int64), (images, texts)), shape=shape).tocsr()
    return found.astype(bool)


def _codes(image_keys: npt.ArrayLike, text_keys: npt.ArrayLike) -> tuple[Ints, Ints]:
    images, texts = (np.unique(np.asarray(k), return_inverse=True)[1].reshape(-1) for k in (image_keys, text_keys))
    if len(images) != len(texts) or not len(images):
        raise DataError(
            f"{len(images)} image keys and {len(texts)} text keys are no pairs; give one of each for every pair"
        )
    return images.astype(np.int64), texts.astype(np.int64)
