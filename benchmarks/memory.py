"""Peak memory of extracting 50,000 images against 5,000: `python benchmarks/memory.py [--quick]`."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _common import fair_environment, record

SIDE = 96


@dataclass(frozen=True)
class Made:
    """n small JPEG pictures, each made when it is read: the source itself takes no memory."""

    n: int

    def __len__(self) -> int:
        return self.n

    def read(self, i: int) -> bytes:
        import io

        import numpy as np
        from PIL import Image

        small = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE)).save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    def digest(self) -> str:
        return f"made-{self.n}"


def child(n: int) -> None:
    """Extract three taps of n pictures in this process; print the peak resident memory in MB."""
    import numpy as np

    from visus.features import extract
    from visus.images.base import ImageSet
    from visus.models import load_backbone

    images = ImageSet("made", Made(n), np.arange(n), tuple(f"{i}.jpg" for i in range(n)))
    model = load_backbone("timm:test_efficientnet.r160_in1k?weights=none", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        features = extract(images, model, store=Path(folder))
        rows, engine = len(features), features.cost["engine"]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps({"images": rows, "engine": engine, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 against 5,000 images, nothing recorded")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        return child(chosen.child)
    peaks = []
    for n in (500, 5_000) if chosen.quick else (5_000, 50_000):
        done = subprocess.run([sys.executable, __file__, "--child", str(n)], capture_output=True, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1]))
        print(peaks[-1], file=sys.stderr)
    rows = [{"images": p["images"], "peak memory, MB": round(p["peak"])} for p in peaks]
    more = peaks[1]["peak"] - peaks[0]["peak"]
    rows.append({"images": "difference (target: at most 300 MB)", "peak memory, MB": round(more)})
    notes = [
        f"Peak resident memory (ru_maxrss) of a whole process, engine {peaks[0]['engine']}, three taps, default settings; "
        f"JPEG pictures of {SIDE} x {SIDE} pixels, made when they are read; model timm:test_efficientnet, random weights."
    ]
    if chosen.quick:
        print(json.dumps(rows))
    else:
        record("Memory of extraction", rows, notes)


if __name__ == "__main__":
    fair_environment()
    main()
