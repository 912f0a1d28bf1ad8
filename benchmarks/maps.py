"""t-SNE of 5,000 x 50: visus (openTSNE) against scikit-learn's TSNE, with both maps judged on the same affinities.

python benchmarks/maps.py [--quick] [--runs N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
PERPLEXITY = 30
FIRST_UMAP = """
import time, numpy as np
x = np.random.default_rng(0).standard_normal(({n}, 50)).astype(np.float32)
from visus.measures import umap_map
for _ in range(2):
    start = time.perf_counter(); umap_map(x); print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS

    import numpy as np
    import openTSNE
    import sklearn
    import torch
    from openTSNE import affinity
    from sklearn.manifold import TSNE

    from visus.measures import trust_figures, tsne_map

    torch.set_num_threads(int(THREADS))
    n, d, classes = (300 if args.quick else 5000), 50, 10
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    x = (rng.standard_normal((classes, d))[y] + rng.standard_normal((n, d))).astype(np.float32)
    z: dict[str, Any] = {}

    def ours() -> None:
        z["visus"] = tsne_map(x, perplexity=PERPLEXITY, seed=0, threads=int(THREADS)).z

    def default() -> None:
        z["default"] = TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(x)

    def two_jobs() -> None:
        z["n_jobs=2"] = TSNE(perplexity=PERPLEXITY, random_state=0, n_jobs=int(THREADS)).fit_transform(x)

    ours()
    work = {"visus": ours, "default": default, "n_jobs=2": two_jobs}
    seconds = alternate(1 if args.quick else args.runs, **work)
    graph = affinity.PerplexityBasedNN(x, perplexity=PERPLEXITY, method="exact", n_jobs=int(THREADS))

    def objective(points: Any) -> float:
        """KL divergence of a map on the same affinities, exact: the normaliser is summed over all pairs, in blocks."""
        wide = np.asarray(points, np.float64)
        total = -float(n)  # every point's kernel with itself, which t-SNE leaves out
        for start in range(0, n, 500):
            gaps = ((wide[start : start + 500, None] - wide[None]) ** 2).sum(axis=2)
            total += float((1 / (1 + gaps)).sum())
        p = graph.P.tocoo()
        q = 1 / (1 + ((wide[p.row] - wide[p.col]) ** 2).sum(axis=1)) / total
        keep = p.data > 0
        return float((p.data[keep] * np.log(p.data[keep] / q[keep])).sum())

    figures = dict(zip(z, trust_figures(x, list(z.values()), k=10), strict=True))
    rows = [
        {
            "map": "visus tsne_map" if name == "visus" else f"scikit-learn TSNE, {name}",
            "s": sorted(seconds[name])[len(seconds[name]) // 2],
            "scikit-learn s / visus s": median_ratio(seconds[name], seconds["visus"]),
            "KL": objective(z[name]),
            "trustworthiness": figures[name].trustworthiness,
            "neighbours kept": figures[name].neighbours_kept,
        }
        for name in work
    ]
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", FIRST_UMAP.format(n=n)], check=True, capture_output=True, text=True)
    whole = time.perf_counter() - start
    first, second = (float(line) for line in run.stdout.split())
    notes = [
        f"{n:,} x {d} float32, {classes} overlapping Gaussian classes, perplexity {PERPLEXITY}, {THREADS} threads; "
        f"openTSNE {openTSNE.__version__}, scikit-learn {sklearn.__version__}; {len(seconds['visus'])} alternated runs, medians.",
        "KL: all maps on the same exact-neighbour affinities, over all pairs; lower is better.",
        f"UMAP of the same size in a fresh process: {first:.1f} s the first time (compiling), {second:.1f} s the second; "
        f"{whole:.1f} s with Python's start.",
    ]
    record("Maps", rows, notes, dry=args.quick)


if __name__ == "__main__":
    main()
