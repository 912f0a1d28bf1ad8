"""Two-dimensional maps of features: PCA, then t-SNE (openTSNE) or UMAP (umap-learn), seeded, with their trust figures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, block_rows, features, generator_of
from visus.measures.trust import SquaredDistances, TrustFigures, neighbours_kept, trust_figures, trustworthiness
from visus.measures.umap_layout import fuzzy_graph, umap_layout
from visus.progress import log, task

__all__ = [
    "Map",
    "Pca",
    "layer_maps",
    "neighbours_kept",
    "pca",
    "trust_figures",
    "trustworthiness",
    "tsne_map",
    "umap_map",
]

FEWEST = 5
METHODS = ("tsne", "umap")
# Up to this smaller side of the features their principal components are exact.
EXACT_WIDTH = 4096

# With momentum 0.8, then 0.95 (usual: 0.5, 0.8) t-SNE needs half the iterations: on 5,000 x 50 these reach a lower KL
# divergence than 250 + 500 of the usual ones, and than scikit-learn's 1,000 (benchmarks/maps.py prints both).
EARLY_ITERATIONS = 125
ITERATIONS = 225
# The layout is found with coarse forces (Barnes-Hut's angle, the grid of the Fourier interpolation) and finished with openTSNE's
# defaults.
_COARSE = {"min_num_intervals": 20, "ints_in_interval": 2, "theta": 0.8}
_FINE = {"min_num_intervals": 50, "ints_in_interval": 1, "theta": 0.5}


@dataclass(frozen=True)
class Pca:
    """Coordinates float32 [n, dims] in order of variance, and each one's share of the variance, float64 [dims]."""

    z: Array
    explained: Floats


@dataclass(frozen=True)
class Map:
    """A map float32 [n, 2], the settings it was really made with, and how far to believe it (None: not measured)."""

    method: str
    z: Array
    settings: dict[str, float | int | str]
    notes: tuple[str, ...] = ()
    kl_divergence: float | None = None
    trust: TrustFigures | None = field(default=None)


def pca(x: Array, *, dims: int = 50, seed: int = 0) -> Pca:
    """Principal components: centred, not scaled, `dims` cut to min(n - 1, d).

    x: [n, d]. Exact, from the smaller of the two float64 Gram matrices, up to 4,096 rows or columns; beyond that a seeded
    randomised SVD (Halko et al. 2011). The sign is fixed: the coordinate of largest size of every component is positive.
    Raises DataError on NaN or fewer than 2 rows.
    """
    x = features(x, at_least=2)
    n, d = x.shape
    dims = max(1, min(dims, n - 1, d))
    centred = x.astype(np.float64)
    centred -= centred.mean(axis=0)
    total = float(np.einsum("ij,ij->", centred, centred))
    if min(n, d) > EXACT_WIDTH:
        # scikit-learn takes most of a second, which smaller features do without.
        from sklearn.utils.extmath import randomized_svd

        u, s, _ = randomized_svd(centred, dims, n_iter=4, random_state=seed)
        z = u * s
    elif d <= n:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        z = centred @ vectors[:, ::-1][:, :dims]
    else:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        z = vectors[:, ::-1][:, :dims] * np.sqrt(np.maximum(values[::-1][:dims], 0))
    peak = z[np.abs(z).argmax(axis=0), np.arange(z.shape[1])]
    z = z * np.where(peak < 0, -1.0, 1.0)
    explained = (z**2).sum(axis=0) / total if total > 0 else np.zeros(z.shape[1])
    return Pca(z=z.astype(np.float32), explained=explained)


def tsne_map(
    x: Array,
    *,
    perplexity: float = 30,
    seed: int = 0,
    dims: int = 50,
    early_iterations: int = EARLY_ITERATIONS,
    iterations: int = ITERATIONS,
    threads: int | None = None,
) -> Map:
    """t-SNE of x after PCA to `dims`, by openTSNE: exact neighbours, PCA initialisation, learning rate n / exaggeration,
    a high momentum (see ITERATIONS).

    x: [n, d], n >= 5. A perplexity above (n - 1) / 3 is cut to it, and the map's notes say so. The same seed and number
    of threads give the same map. kl_divergence is the optimised objective, comparable between runs at one perplexity.
    Raises DataError on NaN or fewer than 5 rows. Source: van der Maaten and Hinton 2008; Belkina et al. 2019; Poličar et al. 2024.
    """
    base = _reduced(x, dims, seed)
    near = exact_neighbours(base, _tsne_reach(len(base), perplexity))
    return _tsne(base, near, perplexity, seed, early_iterations, iterations, threads)


def umap_map(x: Array, *, neighbours: int = 15, min_dist: float = 0.1, seed: int = 0, dims: int = 50) -> Map:
    """UMAP of x after PCA to `dims`, by umap-learn on exact neighbours, one thread: the same seed gives the same map.

    x: [n, d], n >= 5. More neighbours than n - 1 are cut to it, and the map's notes say so. The first call on a machine
    compiles umap-learn's optimiser, which takes half a second. Raises DataError on NaN or fewer than 5 rows. Source: McInnes et al. 2018.
    """
    base = _reduced(x, dims, seed)
    return _umap(base, exact_neighbours(base, _umap_reach(len(base), neighbours)), neighbours, min_dist, seed)


def layer_maps(
    x: Array,
    *,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    dims: int = 50,
    perplexity: float = 30,
    neighbours: int = 15,
    k: int = 10,
    threads: int | None = None,
) -> dict[str, Map]:
    """The maps of one tap, each with its trust figures against the features themselves (not against their PCA).

    x: [n, d]; methods: of "tsne", "umap". k of the trust figures is cut below n / 2. PCA, the neighbours in it and the distances
    of x are computed once for all. Raises DataError as the maps do, or on an unknown method.
    """
    if unknown := [m for m in methods if m not in METHODS]:
        raise DataError(f"there is no map called {unknown[0]!r}; choose from {', '.join(METHODS)}")
    base = _reduced(x, dims, seed)
    reach = {"tsne": _tsne_reach(len(base), perplexity), "umap": _umap_reach(len(base), neighbours)}
    near = exact_neighbours(base, max((reach[method] for method in methods), default=1))
    made = {}
    with task("drawing maps", len(methods)) as progress:
        for method in methods:
            if method == "tsne":
                made[method] = _tsne(base, near, perplexity, seed, EARLY_ITERATIONS, ITERATIONS, threads)
            else:
                made[method] = _umap(base, near, neighbours, 0.1, seed)
            progress.advance()
    k = min(k, (len(base) - 1) // 2)
    figures = trust_figures(x, [m.z for m in made.values()], k=k)
    return {
        name: Map(
            method=m.method, z=m.z, settings=m.settings, notes=m.notes, kl_divergence=m.kl_divergence, trust=figure
        )
        for (name, m), figure in zip(made.items(), figures, strict=True)
    }


def _reduced(x: Array, dims: int, seed: int) -> Array:
    """The first `dims` principal coordinates of x, at least two columns, float32."""
    if dims < 1:
        raise DataError(f"dims is {dims}; keep at least 1 principal component (50 is usual)")
    x = features(x, at_least=FEWEST)
    z = pca(x, dims=dims, seed=seed).z
    return z if z.shape[1] > 1 else np.concatenate([z, np.zeros_like(z)], axis=1)


Near = tuple[Array, Floats]


def _tsne_reach(n: int, perplexity: float) -> int:
    """How many neighbours t-SNE asks for."""
    if not perplexity > 0:
        raise DataError(f"perplexity is {perplexity}; it must be above 0 (30 is usual)")
    return max(1, min(n - 1, int(3 * min(float(perplexity), (n - 1) / 3))))


def _umap_reach(n: int, neighbours: int) -> int:
    """How many neighbours UMAP asks for: it counts a point as its own first."""
    if neighbours < 2:
        raise DataError(f"neighbours is {neighbours}; UMAP needs at least 2 (15 is usual)")
    return min(neighbours, n - 1) - 1


def _tsne(
    base: Array, near: Near, perplexity: float, seed: int, early_iterations: int, iterations: int, threads: int | None
) -> Map:
    # Half of scikit-learn comes with it, and a run without maps does not need that.
    from openTSNE import TSNEEmbedding, affinity, nearest_neighbors

    n = len(base)
    notes: tuple[str, ...] = ()
    used = min(float(perplexity), (n - 1) / 3)
    if used < perplexity:
        notes = (f"perplexity {used:.3g} instead of {perplexity:g}, because there are only {n} images",)
        log(f"t-SNE: {notes[0]}")
    threads = threads or os.cpu_count() or 1
    index, distance = (every[:, : _tsne_reach(n, perplexity)] for every in near)
    graph = affinity.PerplexityBasedNN(
        knn_index=nearest_neighbors.PrecomputedNeighbors(index, distance), perplexity=used, n_jobs=threads
    )
    # openTSNE's advice for PCA initialisation: so small that the exaggeration phase decides the layout.
    start = _start(base, seed) * 1e-4
    method = "fft" if n >= FFT_FROM else "bh"
    embedding = TSNEEmbedding(
        start, graph, negative_gradient_method=method, n_jobs=threads, random_state=seed, learning_rate="auto"
    )
    rough = iterations // 3
    embedding.optimize(early_iterations, exaggeration=12, momentum=0.8, inplace=True, **_COARSE)
    embedding.optimize(rough, exaggeration=1, momentum=0.95, inplace=True, **_COARSE)
    embedding.optimize(iterations - rough, exaggeration=1, momentum=0.95, inplace=True, **_FINE)
    return Map(
        method="tsne",
        z=np.asarray(embedding).astype(np.float32),
        settings={
            "perplexity": used,
            "seed": seed,
            "pca": base.shape[1],
            "iterations": early_iterations + iterations,
            "gradient": method,
        },
        notes=notes,
        kl_divergence=float(embedding.kl_divergence),
    )


# Where the Fourier interpolation takes over from Barnes-Hut (openTSNE's own choice). Its cost grows with the map's extent:
# on clusters that lie far apart it was seven times slower at 1,800 points, on one broad cloud a little faster at 5,000.
FFT_FROM = 10_000


def _umap(base: Array, near: Near, neighbours: int, min_dist: float, seed: int) -> Map:
    n = len(base)
    notes: tuple[str, ...] = ()
    used = min(neighbours, n - 1)
    if used < neighbours:
        notes = (f"{used} neighbours instead of {neighbours}, because there are only {n} images",)
        log(f"UMAP: {notes[0]}")
    index, distance = (every[:, : used - 1] for every in near)
    index = np.concatenate([np.arange(n)[:, None], index], axis=1)
    distance = np.concatenate([np.zeros((n, 1)), distance], axis=1)
    with warnings.catch_warnings():
        # About graphs in several parts, which classes that stand well apart always give.
        warnings.simplefilter("ignore")
        start = None if n >= _SPECTRAL_FROM else _start(base, seed) * 10
        z = umap_layout(base, fuzzy_graph(index, distance), min_dist=min_dist, seed=seed, start=start)
    return Map(
        method="umap",
        z=np.asarray(z, dtype=np.float32),
        settings={"neighbours": used, "min_dist": min_dist, "seed": seed, "pca": base.shape[1]},
        notes=notes,
    )


# With fewer points the graph's Laplacian is too small for its sparse eigenvectors.
_SPECTRAL_FROM = 50


def _start(base: Array, seed: int) -> Floats:
    """The first two coordinates scaled to a standard deviation of 1, with a grain of seeded noise that parts duplicates."""
    first: Floats = base[:, :2].astype(np.float64)
    spread = first[:, 0].std()
    noise = generator_of(seed).standard_normal(first.shape)
    return first / (spread if spread > 0 else 1.0) + 1e-3 * noise


def exact_neighbours(base: Array, k: int) -> tuple[Array, Floats]:
    """The k nearest other rows by Euclidean distance, exact, nearest first: int64 [n, k] and distances float64 [n, k]."""
    index, distance = np.empty((len(base), k), np.int64), np.empty((len(base), k))
    every = SquaredDistances(base)
    step = block_rows(8 * 4 * len(base))
    with torch.inference_mode():
        for start in range(0, len(base), step):
            value, column = every.nearest(start, step, k)
            index[start : start + step], distance[start : start + step] = column.numpy(), value.sqrt().numpy()
    return index, distance
