"""Whole processes with an empty cache, against another checkout of visus: a study from its start to its page, and extraction alone.

`python benchmarks/cold_runs.py --base CHECKOUT [--quick] [--only NAME ...] [--runs N] [--dry]`

`--base` is a checkout of the commit to compare with (`git worktree add`). Every run is a process of its own; 'warm' ones find the
cache that the run before left, without its features.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import fair_environment, median_ratio, record

HERE = Path(__file__).resolve().parent.parent
EXTRACTION = """
import time
start = time.perf_counter()
from visus.studies.transfer.inputs import extract_features, load_labelled
from visus.studies.transfer.options import FeatureOptions
from visus.studies.common.options import ImageOptions
imported = time.perf_counter()
images, _ = load_labelled(ImageOptions("visus:emoji", limit={n}), seed=0, download=False)
from visus import threads
with threads.using(2):
    extract_features("visus:effnet-lite0", images, FeatureOptions(device="cpu"), controls=True)
print(time.perf_counter() - imported)
"""
STUDIES = {
    "vit": ["vit"],
    "vit without probes": ["vit", "--part", "predictions,attention,masking"],
    "clip": ["clip"],
    "vae": ["vae", "--images", "visus:digits"],
    "transfer": ["transfer", "--model", "visus:effnet-lite0", "--images", "visus:emoji", "--limit", "676", "--regime", "probe"],
}  # fmt: skip
EXTRACTIONS = {"extraction": False, "extraction, warm": True}
"""Of a model and its random control on 676 images, three layers. warm: what is kept besides features is there."""


def run(checkout: Path, command: list[str], home: Path) -> tuple[float, str]:
    """Seconds of a process on a checkout's code, and the last line that it printed."""
    env = {**os.environ, "PYTHONPATH": str(checkout / "src"), "VISUS_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command[-6:])} failed on {checkout.name}:\n{done.stderr[-2000:]}")
    return seconds, (done.stdout.strip().splitlines() or [""])[-1]


def measured(name: str, checkout: Path, work: Path, n: int) -> float:
    """Seconds that a job takes on a checkout, from an empty cache."""
    home = work / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if name in STUDIES:
        start = [sys.executable, "-c", "from visus.app.cli import main; main()"]
        limit = ["--limit", str(n)] if n < 100 else []
        return run(checkout, [*start, *STUDIES[name], *limit, "--threads", "2", "--out", str(work / "out")], home)[0]
    command = [sys.executable, "-c", EXTRACTION.format(n=n)]
    if EXTRACTIONS[name]:
        run(checkout, command, home)
        shutil.rmtree(home / "features")
    return float(run(checkout, command, home)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="a checkout of the commit to compare with")
    parser.add_argument("--only", nargs="*", choices=[*EXTRACTIONS, *STUDIES], help="jobs; default extractions")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="60 images, nothing recorded")
    parser.add_argument("--dry", action="store_true", help="nothing recorded")
    chosen = parser.parse_args()
    n = 60 if chosen.quick else 676
    rows: list[dict[str, Any]] = []
    for name in chosen.only or EXTRACTIONS:
        seconds: dict[str, list[float]] = {"base": [], "here": []}
        work = Path(tempfile.mkdtemp())
        try:
            for _ in range(chosen.runs):
                for which, checkout in (("base", chosen.base.resolve()), ("here", HERE)):
                    seconds[which].append(measured(name, checkout, work, n))
        finally:
            shutil.rmtree(work)
        rows.append(
            {
                "job": name,
                "before, s": statistics.median(seconds["base"]),
                "now, s": statistics.median(seconds["here"]),
                "ratio": median_ratio(seconds["base"], seconds["here"]),
            }
        )
        print(rows[-1], flush=True)
    if not (chosen.quick or chosen.dry):
        record(
            "Cold runs",
            rows,
            [f"{n} pictures of visus:emoji where not its default; two threads; an empty VISUS_HOME each time."],
        )


if __name__ == "__main__":
    fair_environment()
    main()
