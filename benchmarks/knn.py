"""kNN classification at six ks: visus against scikit-learn's brute force, float32, on the same vectors.

python benchmarks/knn.py [--quick] [--runs N]
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
KS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS

    import numpy as np
    import sklearn
    import torch
    from sklearn.neighbors import NearestNeighbors

    from visus.measures import knn_predict

    torch.set_num_threads(int(THREADS))
    n, m, d, classes = (4000, 1000, 128, 10) if args.quick else (20_000, 5000, 384, 10)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, d))
    train_y, test_y = rng.integers(0, classes, n), rng.integers(0, classes, m)
    train_x = (0.3 * centres[train_y] + rng.standard_normal((n, d))).astype(np.float32)
    test_x = (0.3 * centres[test_y] + rng.standard_normal((m, d))).astype(np.float32)
    seen: dict[str, dict[int, Any]] = {}

    def votes(index: Any, similarity: Any) -> dict[int, Any]:
        """The same weighted votes on scikit-learn's one search, as fast as numpy makes them."""
        weight = np.exp(similarity / TEMPERATURE)
        flat = train_y[index] + classes * np.arange(m)[:, None]
        return {
            k: np.bincount(flat[:, :k].ravel(), weights=weight[:, :k].ravel(), minlength=m * classes)
            .reshape(m, classes)
            .argmax(axis=1)
            for k in KS
        }

    def ours() -> None:
        seen["visus"] = knn_predict(train_x, train_y, test_x, n_classes=classes, ks=KS).predictions

    def cosine() -> None:
        search = NearestNeighbors(n_neighbors=max(KS), metric="cosine", algorithm="brute", n_jobs=int(THREADS))
        distance, index = search.fit(train_x).kneighbors(test_x)
        seen["cosine"] = votes(index, 1 - distance)

    def euclidean() -> None:
        base = train_x / np.linalg.norm(train_x, axis=1, keepdims=True)
        query = test_x / np.linalg.norm(test_x, axis=1, keepdims=True)
        search = NearestNeighbors(n_neighbors=max(KS), metric="euclidean", algorithm="brute", n_jobs=int(THREADS))
        distance, index = search.fit(base).kneighbors(query)
        seen["euclidean"] = votes(index, 1 - distance**2 / 2)

    for warm in (ours, cosine, euclidean):
        warm()
    seconds = alternate(1 if args.quick else args.runs, visus=ours, cosine=cosine, euclidean=euclidean)
    agree = min(float((seen["visus"][k] == seen[peer][k]).mean()) for k in KS for peer in ("cosine", "euclidean"))
    rows = [
        {
            "scikit-learn brute force": peer,
            "scikit-learn s": sorted(seconds[peer])[len(seconds[peer]) // 2],
            "visus s": sorted(seconds["visus"])[len(seconds["visus"]) // 2],
            "ratio (median of pairs)": median_ratio(seconds[peer], seconds["visus"]),
        }
        for peer in ("cosine", "euclidean")
    ]
    notes = [
        f"{n:,} train x {m:,} test x {d} float32, {classes} classes, k in {KS}, {THREADS} threads each; "
        f"scikit-learn {sklearn.__version__}, torch {torch.__version__.split('+')[0]}.",
        "scikit-learn searches once at k = 200; 'euclidean' is given normalised vectors, for which it has a faster path. "
        "Normalising and voting are in every time.",
        f"Predictions agree on at least {agree:.4%} of the images at every k; {len(seconds['visus'])} alternated runs, medians.",
    ]
    if args.quick:
        print(rows, *notes, sep="\n")
    else:
        record("kNN", rows, notes)


if __name__ == "__main__":
    main()
