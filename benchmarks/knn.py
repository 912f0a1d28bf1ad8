"""kNN classification: visus against scikit-learn's brute force, plain PyTorch and (where installed) faiss, float32, on the same vectors.

python benchmarks/knn.py [--quick] [--dry] [--runs N]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
TEMPERATURE = 0.07
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """n training and m test images of d features, and the ks that are asked for."""

    n: int
    m: int
    d: int
    ks: tuple[int, ...]


ALL_KS = (1, 5, 10, 20, 100, 200)
CASES = (Case(20_000, 5000, 384, ALL_KS), Case(20_000, 5000, 384, (20,)), Case(100_000, 5000, 384, ALL_KS))
QUICK = (Case(4000, 1000, 128, ALL_KS),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--dry", action="store_true", help="print, record nothing")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS

    import sklearn
    import torch

    torch.set_num_threads(int(THREADS))
    rows = [row for case in (QUICK if args.quick else CASES) for row in compare(case, 1 if args.quick else args.runs)]
    notes = [
        f"float32, {CLASSES} classes, {THREADS} threads each; scikit-learn {sklearn.__version__}, torch {torch.__version__.split('+')[0]}. "
        "Each searches once at the largest k; normalising and voting are in every time.",
        "'euclidean' is given normalised vectors, for which scikit-learn has a faster path; 'torch' is the matrix product and topk by blocks "
        "of 512 rows. visus searches in bfloat16 first where the processor has instructions for it.",
        f"'same' is the least share, over the ks, of images with the same prediction; {args.runs} alternated runs, medians.",
    ]
    record("kNN", rows, notes, dry=args.quick or args.dry)


def compare(case: Case, runs: int) -> list[dict[str, Any]]:
    """One row for each peer."""
    import numpy as np
    import torch
    from sklearn.neighbors import NearestNeighbors

    from visus.measures import knn_predict

    n, m, d, ks = case.n, case.m, case.d, case.ks
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, d))
    train_y, test_y = rng.integers(0, CLASSES, n), rng.integers(0, CLASSES, m)
    train_x = (0.3 * centres[train_y] + rng.standard_normal((n, d))).astype(np.float32)
    test_x = (0.3 * centres[test_y] + rng.standard_normal((m, d))).astype(np.float32)
    seen: dict[str, dict[int, Any]] = {}

    def votes(index: Any, similarity: Any) -> dict[int, Any]:
        """The same weighted votes on a peer's one search, as fast as numpy makes them."""
        weight = np.exp(similarity / TEMPERATURE)
        flat = train_y[index] + CLASSES * np.arange(m)[:, None]
        return {
            k: np.bincount(flat[:, :k].ravel(), weights=weight[:, :k].ravel(), minlength=m * CLASSES)
            .reshape(m, CLASSES)
            .argmax(axis=1)
            for k in ks
        }

    def unit(x: Any) -> Any:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def ours() -> None:
        seen["visus"] = knn_predict(train_x, train_y, test_x, n_classes=CLASSES, ks=ks).predictions

    def cosine() -> None:
        search = NearestNeighbors(n_neighbors=max(ks), metric="cosine", algorithm="brute", n_jobs=int(THREADS))
        distance, index = search.fit(train_x).kneighbors(test_x)
        seen["cosine"] = votes(index, 1 - distance)

    def euclidean() -> None:
        search = NearestNeighbors(n_neighbors=max(ks), metric="euclidean", algorithm="brute", n_jobs=int(THREADS))
        distance, index = search.fit(unit(train_x)).kneighbors(unit(test_x))
        seen["euclidean"] = votes(index, 1 - distance**2 / 2)

    def plain() -> None:
        with torch.inference_mode():
            base, query = torch.from_numpy(unit(train_x)), torch.from_numpy(unit(test_x))
            found = [(block @ base.T).topk(max(ks), dim=1) for block in query.split(512)]
            value, index = (torch.cat([x[i] for x in found]).numpy() for i in (0, 1))
        seen["torch"] = votes(index, value)

    def flat() -> None:
        import faiss

        faiss.omp_set_num_threads(int(THREADS))
        search = faiss.IndexFlatIP(d)
        search.add(unit(train_x))
        similarity, index = search.search(unit(test_x), max(ks))
        seen["faiss"] = votes(index, similarity)

    work: dict[str, Callable[[], None]] = {"visus": ours, "cosine": cosine, "euclidean": euclidean, "torch": plain}
    if importlib.util.find_spec("faiss"):
        work["faiss"] = flat
    for warm in work.values():
        warm()
    seconds = alternate(runs, **work)
    names = {
        "cosine": "scikit-learn, cosine",
        "euclidean": "scikit-learn, euclidean",
        "torch": "torch",
        "faiss": "faiss IndexFlatIP",
    }
    return [
        {
            "train x test x d, k": f"{n:,} x {m:,} x {d}, {max(ks)}",
            "peer": names[peer],
            "peer s": sorted(seconds[peer])[runs // 2],
            "visus s": sorted(seconds["visus"])[runs // 2],
            "ratio (median of pairs)": median_ratio(seconds[peer], seconds["visus"]),
            "same": min(float((seen["visus"][k] == seen[peer][k]).mean()) for k in ks),
        }
        for peer in work
        if peer != "visus"
    ]


if __name__ == "__main__":
    main()
