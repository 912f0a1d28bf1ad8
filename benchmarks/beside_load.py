"""A probe-only study beside other load: the same command alone, and beside one and two processes that never rest.

The peer is the study itself on the quiet machine. Every run is a cold process with an empty cache; the three conditions take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _common import fair_environment, machine, median_ratio, record

SPIN = "x = 1\nwhile True: x = x * 1.0000001 % 10"
STUDY = ("transfer", "--model", "visus:effnet-lite0", "--images", "visus:emoji", "--limit", "676", "--regime", "probe")
TARGET = 2.2


@contextmanager
def busy(count: int) -> Iterator[None]:
    """`count` processes that each keep one core busy."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def study(limit_s: float) -> float:
    """Seconds of one cold run; `limit_s` where it had not ended by then."""
    visus = str(Path(sys.executable).with_name("visus"))
    with tempfile.TemporaryDirectory() as folder:
        command = [visus, *STUDY, "--out", f"{folder}/out"]
        start = time.perf_counter()
        try:
            subprocess.run(
                command,
                check=True,
                timeout=limit_s,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "VISUS_HOME": f"{folder}/home"},
            )
        except subprocess.TimeoutExpired:
            return limit_s
        return time.perf_counter() - start


def main() -> None:
    fair_environment()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--limit-s", type=float, default=600.0, help="a run that takes longer is stopped and counted so"
    )
    options = parser.parse_args()
    conditions = {"alone": 0, "beside 1 busy process": 1, "beside 2 busy processes": 2}
    seconds: dict[str, list[float]] = {name: [] for name in conditions}
    for _ in range(options.runs):
        for name, count in conditions.items():
            with busy(count):
                seconds[name].append(study(options.limit_s))
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    rows = [
        {
            "condition": name,
            "median s": sorted(times)[len(times) // 2],
            "time / alone": median_ratio(times, seconds["alone"]),
            "target": TARGET if name.endswith("2 busy processes") else None,
        }
        for name, times in seconds.items()
    ]
    record(
        "Beside other load",
        rows,
        [
            f"`visus {' '.join(STUDY)}`, page included, cold process, empty cache, {options.runs} runs in turn; {machine()}.",
            "A fair share of two cores beside two busy processes is one core: a study that uses both when alone takes twice as long then.",
        ],
    )


if __name__ == "__main__":
    main()
