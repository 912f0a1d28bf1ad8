"""Retrieval both ways over 20,000 images and texts, against the ranking that open_clip's training code does, in chunks.

python benchmarks/retrieval.py [--quick] [--runs N]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
CHUNK = 2000  # rows a chunk of the peer: 160 MB of scores and 320 MB of their order
D = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", choices=("visus", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS
    n = 2000 if args.quick else 20_000
    if args.memory:
        print(peak_of(args.memory, n))
        return
    images, texts = data(n)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["visus"] = both_ways(images, texts)

    def theirs() -> None:
        found["peer"] = open_clips(images, texts)

    seconds = alternate(1 if args.quick else args.runs, visus=ours, peer=theirs)
    for a, b in zip(found["visus"], found["peer"], strict=True):
        assert (a == b).mean() > 0.9999  # float32 scores of other block shapes differ in their last bit
    middle = {k: statistics.median(v) for k, v in seconds.items()}
    what = f"{n:,} x {n:,}, d = {D}, ranks both ways"
    peaks = {which: peak_of_process(which, quick=args.quick) for which in ("visus", "peer")}
    rows = [
        row(f"{what}, s", middle["visus"], middle["peer"], median_ratio(seconds["peer"], seconds["visus"]), ">= 1.0"),
        row(
            f"{what}, peak memory above the embeddings, MB",
            peaks["visus"],
            peaks["peer"],
            peaks["visus"] / peaks["peer"],
            "< 1,000",
        ),
    ]
    notes = [
        f"Random unit vectors, texts near their images; {THREADS} threads; medians of {len(seconds['visus'])} runs, in turn.",
        "Peer: get_clip_metrics of open_clip's training code (scores, argsort, where the own index stands), which is not in its package: "
        f"written out here in torch, "
        f"{CHUNK:,} rows at a time instead of the whole matrix. Ours counts how many beat the own score and sorts nothing.",
    ]
    record("Retrieval (benchmarks/retrieval.py)", rows, notes, dry=args.quick)


def row(what: str, ours: float, peer: float, ratio: float, target: str) -> dict[str, Any]:
    return {"what": what, "visus": ours, "against": peer, "ratio": ratio, "target": target}


def data(n: int) -> tuple[Any, Any]:
    """Unit vectors float32 [n, d] of images and of their texts."""
    import numpy as np
    import torch

    torch.set_num_threads(int(THREADS))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, D)).astype(np.float32)
    texts = images + 3.0 * rng.normal(size=(n, D)).astype(np.float32)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))


def both_ways(images: Any, texts: Any) -> tuple[Any, Any]:
    import numpy as np

    from visus.measures.retrieval import ranks

    keys = np.arange(len(images))
    return ranks(images, texts, keys, keys), ranks(texts, images, keys, keys)


def open_clips(images: Any, texts: Any) -> tuple[Any, Any]:
    """As get_clip_metrics does it: argsort of the scores, and where the own index stands in it."""
    import torch

    found = []
    with torch.inference_mode():
        for a, b in ((images, texts), (texts, images)):
            queries, base = torch.from_numpy(a), torch.from_numpy(b)
            parts = []
            for start in range(0, len(queries), CHUNK):
                scores = 100.0 * queries[start : start + CHUNK] @ base.T
                ranking = torch.argsort(scores, descending=True)
                own = torch.arange(start, start + len(scores)).view(-1, 1)
                parts.append(torch.where(ranking == own)[1])
            found.append(torch.cat(parts).numpy())
    return found[0], found[1]


def peak_of_process(which: str, *, quick: bool) -> float:
    """What `peak_of` says in a fresh process."""
    command = [sys.executable, __file__, "--memory", which, *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(which: str, n: int) -> float:
    """Peak memory in MB above what the process holds with the embeddings made and one small case done."""
    images, texts = data(n)
    work = both_ways if which == "visus" else open_clips
    work(images[:500], texts[:500])
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work(images, texts)
    return (_status("VmHWM") - before) * 1024 / 1e6


def _status(name: str) -> int:
    return max(int(kb) for kb in re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text()))


if __name__ == "__main__":
    main()
