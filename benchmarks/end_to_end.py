"""From a folder of pictures to the page: `visus transfer --regime probe` against the script that a user would write instead.

    python benchmarks/end_to_end.py [--runs 1] [--jobs pictures digits pairs] [--cap 600] [--dry]

Whole processes, cold: an empty VISUS_HOME and no compiled code for visus. Three jobs: 676 pictures in 20 classes, 5,000 digits, and 1,000 classes of
two pictures. The script is benchmarks/peers/plain_script.py, on as many threads; it is given up after the cap, and the ratio is then a lower bound.
A second question about the first job (another protocol), on what the first run left, is timed as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from _common import fair_environment, record

PLAIN = Path(__file__).parent / "peers" / "plain_script.py"
TITLES = {
    "pictures": "676 pictures, 20 classes",
    "digits": "5,000 digits, 10 classes",
    "pairs": "1,000 classes of two pictures",
}
TARGET = 3.0


def make(job: str, folder: Path) -> None:
    """Write a job's pictures as PNG files, a folder a class."""
    import numpy as np
    from PIL import Image

    from visus.images import load_images

    spec = {"pictures": "visus:emoji", "digits": "visus:digits", "pairs": "visus:emoji?task=all"}[job]
    images = load_images(spec)
    position = {name: i for i, name in enumerate(images.ids)}
    if job == "pairs":
        by_name = defaultdict(list)
        for i, name in enumerate(images.ids):
            by_name[name.split("/")[1]].append(i)
        named = [(name, rows[:2]) for name, rows in by_name.items() if len(rows) >= 2][:1000]
        chosen = [(i, name) for name, rows in named for i in rows]
    else:
        some = images.limit(676, seed=0) if job == "pictures" else images
        chosen = [(position[name], some.classes[int(k)]) for name, k in zip(some.ids, some.labels, strict=True)]
    for i, kind in chosen:
        at = folder / "".join(c if c.isalnum() else "_" for c in kind)
        at.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(images.decode(i))).save(at / f"{i}.png")


def timed(command: list[str], home: Path, cap: float) -> tuple[float, bool]:
    """Seconds of a process, and whether it came to its end."""
    log = home.parent / "log.txt"
    start = time.perf_counter()
    with log.open("w") as out:
        environment = {**os.environ, "VISUS_HOME": str(home), "OMP_NUM_THREADS": "2"}
        try:
            code = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=cap
            ).returncode
        except subprocess.TimeoutExpired:
            code = 3
    seconds = time.perf_counter() - start
    if code not in (0, 3):
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    print(f"{command[0].rsplit('/', 1)[-1]} {command[1].rsplit('/', 1)[-1]}: {seconds:.1f} s", flush=True)
    return seconds, code == 0


def main() -> None:
    fair_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--cap", type=float, default=600, help="seconds after which a process is given up")
    parser.add_argument("--dry", action="store_true", help="print, do not write docs/benchmarks.md")
    options = parser.parse_args()
    visus = str(Path(sys.executable).with_name("visus"))
    rows = []
    for job in options.jobs:
        with tempfile.TemporaryDirectory() as temporary:
            here = Path(temporary)
            make(job, here / "images")
            study = [
                visus,
                "transfer",
                "--model",
                "visus:effnet-lite0",
                "--images",
                f"folder:{here / 'images'}",
                "--regime",
                "probe",
            ]
            mine, second, theirs, ended = [], [], [], True
            for run in range(options.runs):
                home = here / f"home{run}"
                mine.append(timed([*study, "--out", str(here / "out")], home, options.cap)[0])
                second.append(
                    timed([*study, "--protocol", "dinov2", "--out", str(here / "out2")], home, options.cap)[0]
                )
                plain = [
                    sys.executable,
                    str(PLAIN),
                    str(here / "images"),
                    str(here / "plain"),
                    "--cap",
                    str(options.cap),
                ]
                seconds, whole = timed(plain, here / "none", options.cap)
                theirs.append(seconds)
                ended &= whole
            ratio = statistics.median(p / m for p, m in zip(theirs, mine, strict=True))
            rows.append(
                {
                    "job": TITLES[job],
                    "plain script s": statistics.median(theirs) if ended else f"> {options.cap:g}",
                    "visus s": statistics.median(mine),
                    "plain / visus": ratio if ended else f"> {ratio:.3g}",
                    "target": f">= {TARGET:g}",
                    "visus, another protocol after it, s": statistics.median(second),
                    "runs": options.runs,
                }
            )
    notes = [
        "Frozen features of EfficientNet-Lite0 at three layers, probes with both controls, kNN, t-SNE, UMAP, figures; visus writes its page, tables, "
        "and every figure as PNG, SVG and PDF. Cold processes, empty VISUS_HOME, 2 threads each.",
        "The script's probe tries 10 penalties in 5 folds and its control of shuffled labels is one fit; visus tries 45, and fits 20 permutations.",
    ]
    record("1 End to end", rows, notes, dry=options.dry)


if __name__ == "__main__":
    main()
