"""UMAP in its two parts: the fuzzy graph in numpy, its layout by umap-learn's own functions, loaded without the rest of that package.

umap-learn compiles the graph's two loops in every process (three seconds), and importing it imports pynndescent, which compiles for ten
seconds before its caches are written. Neither is needed where exact neighbours are given.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse

from visus.errors import StoreError
from visus.measures._arrays import Array, Floats
from visus.paths import home

# umap-learn's settings, by its names.
_SMOOTH_K_TOLERANCE, _MIN_K_DIST_SCALE, _HALVINGS = 1e-5, 1e-3, 64
_LONG, _SHORT, _LARGE = 500, 200, 10_000  # epochs up to so many points, and beyond
_INT32 = np.iinfo(np.int32)
_LOADING = threading.Lock()


def fuzzy_graph(index: Array, distance: Array) -> Any:
    """The fuzzy simplicial set of exact neighbours: a symmetric scipy sparse matrix float32 [n, n] of memberships in (0, 1].

    index: int [n, k], distance: [n, k], the nearest first and each row's first neighbour itself, at distance 0, as umap-learn counts.
    The same formulae, in the same precision, as its fuzzy_simplicial_set with local_connectivity 1. Source: McInnes et al. 2018, algorithms 2 and 3.
    """
    n, k = index.shape
    distance = np.asarray(distance, np.float32)
    rho, sigma = _smooth_distances(distance)
    over = distance - rho[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        member = np.where((over <= 0) | (sigma[:, None] == 0), np.float32(1), np.exp(-(over / sigma[:, None])))
    member[index == np.arange(n)[:, None]] = 0
    rows = np.repeat(np.arange(n, dtype=np.int32), k)
    directed = sparse.coo_matrix((member.ravel(), (rows, index.astype(np.int32).ravel())), shape=(n, n))
    directed.eliminate_zeros()
    union = directed + directed.T - directed.multiply(directed.T)
    union.eliminate_zeros()
    return union


def _smooth_distances(distance: Array) -> tuple[Array, Array]:
    """rho, the distance to the nearest that is not a duplicate, and sigma, at which the memberships of a row add up to log2 k; float32 [n]."""
    positive = distance > 0
    rho = np.where(positive.any(axis=1), distance[np.arange(len(distance)), positive.argmax(axis=1)], np.float32(0))
    # Neighbours in rows: their memberships are then added one after the other, in single precision, as umap-learn does it.
    over = np.ascontiguousarray((distance[:, 1:] - rho[:, None]).T)
    target = np.log2(float(distance.shape[1]))
    low, high = np.zeros_like(rho), np.full_like(rho, np.finfo(np.float32).max)
    sigma = np.ones_like(rho)
    open_rows = np.arange(len(rho))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        for _ in range(_HALVINGS):
            here, middle = over[:, open_rows], sigma[open_rows]
            total = np.where(here > 0, np.exp(-(here / middle)), np.float32(1)).sum(axis=0)
            going = np.abs(total - target) >= _SMOOTH_K_TOLERANCE
            open_rows, middle, above = open_rows[going], middle[going], (total > target)[going]
            if not len(open_rows):
                break
            high[open_rows[above]] = middle[above]
            low[open_rows[~above]] = middle[~above]
            unbounded = high[open_rows] >= np.finfo(np.float32).max
            between = (low[open_rows] + np.where(unbounded, 0, high[open_rows])) / 2
            sigma[open_rows] = np.where(unbounded, middle * 2, between).astype(np.float32)
    floor = np.where(rho > 0, distance.mean(axis=1), distance.mean()) * np.float32(_MIN_K_DIST_SCALE)
    return rho, np.maximum(sigma, floor.astype(np.float32))


def umap_layout(base: Array, graph: Any, *, min_dist: float, seed: int, start: Array | None = None) -> Array:
    """The layout float32 [n, 2] of a fuzzy graph, as umap.UMAP lays it out: same steps, same draws of the same seed, one thread.

    base: [n, d], the features (for the centres of a graph in several parts); start: [n, 2], None: the graph's spectral layout.
    """
    parts = _parts()
    random = np.random.RandomState(seed)  # its own, as umap-learn's
    graph = graph.tocoo()
    graph.sum_duplicates()
    epochs = _LONG if graph.shape[0] <= _LARGE else _SHORT
    graph.data[graph.data < graph.data.max() / float(epochs)] = 0.0
    graph.eliminate_zeros()
    if start is None:
        z = parts.spectral(base, graph, 2, random, metric="euclidean", metric_kwds={})
        z = (z * (10.0 / np.abs(z).max())).astype(np.float32)
        z = z + random.normal(scale=0.0001, size=z.shape).astype(np.float32)
    else:
        z = np.asarray(start, np.float32)
    state = random.randint(_INT32.min + 1, _INT32.max - 1, 3).astype(np.int64)
    z = (10.0 * (z - z.min(axis=0)) / (z.max(axis=0) - z.min(axis=0))).astype(np.float32, order="C")
    a, b = _curve(1.0, min_dist)
    every = float(epochs) / np.float64(epochs * (graph.data / graph.data.max()))

    moved: Array = parts.optimise(
        z, z, graph.row, graph.col, epochs, graph.shape[1], every, a, b, state, 1.0, 1.0, 5, tqdm_kwds={"disable": True}, move_other=True
    )  # fmt: skip
    return moved


def _curve(spread: float, min_dist: float) -> tuple[float, float]:
    """a and b of 1 / (1 + a x^2b), fitted to the offset exponential decay of `min_dist`: umap-learn's find_ab_params."""
    from scipy.optimize import curve_fit  # takes a tenth of a second, which a run without this map does without

    def curve(x: Floats, a: float, b: float) -> Floats:
        fitted: Floats = 1.0 / (1.0 + a * x ** (2 * b))
        return fitted

    x = np.linspace(0, spread * 3, 300)
    y = np.where(x < min_dist, 1.0, np.exp(-(x - min_dist) / spread))
    (a, b), _ = curve_fit(curve, x, y)
    return a, b


@dataclass(frozen=True)
class _Parts:
    """umap-learn's optimiser and its spectral layout."""

    optimise: Callable[..., Any]
    spectral: Callable[..., Any]


@cache
def _parts() -> _Parts:
    with _LOADING, _without_init("umap"):
        # By name, since `umap` is a bare package meanwhile; numba comes with them, and a run without this map does not need it.
        layouts = importlib.import_module("umap.layouts")
        spectral = importlib.import_module("umap.spectral")
        _keep_compiled(getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None))
        _compile(layouts.optimize_layout_euclidean)
    return _Parts(layouts.optimize_layout_euclidean, spectral.spectral_layout)


def _compile(optimise: Callable[..., Any]) -> None:
    """Compile the optimiser, or read it from numba's cache, on two points: either would import all of umap-learn later on."""
    z, one, state = np.eye(2, dtype=np.float32), np.ones(1), np.ones(3, np.int64)
    head, tail, (a, b) = np.zeros(1, np.int32), np.ones(1, np.int32), _curve(1.0, 0.1)
    with suppress(OSError):  # what was compiled could not be written (a full disk); it is there all the same
        optimise(z, z, head, tail, 1, 2, one, a, b, state, 1.0, 1.0, 5, tqdm_kwds={"disable": True}, move_other=True)


@contextmanager
def _without_init(name: str) -> Iterator[None]:
    """Let modules of the package `name` be imported without its __init__; afterwards it is as if it had never been touched.

    Where the package has been imported already, it is used as it is.
    """
    found = importlib.util.find_spec(name)
    if name in sys.modules or found is None or found.submodule_search_locations is None:
        yield
        return
    sys.modules[name] = importlib.util.module_from_spec(found)  # not executed
    try:
        yield
    finally:
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[module]


def _keep_compiled(function: Any) -> None:
    """Have numba keep what it compiles of `function` in the lab's cache, by its own keys: source, numba's version, processor.

    Where the user has named numba a folder it is that; where none can be written, it is compiled anew in each process.
    """
    # Loaded with umap's modules, of which alone it is needed.
    settings: Any = importlib.import_module("numba").config

    if not hasattr(function, "enable_caching"):
        return  # another version of umap-learn: slower by half a second
    chosen = settings.CACHE_DIR
    try:
        settings.CACHE_DIR = chosen or str(home() / "caches" / "numba")
        function.enable_caching()
    except (RuntimeError, OSError, StoreError):
        return
    finally:
        settings.CACHE_DIR = chosen
