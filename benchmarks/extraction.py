"""Extraction from JPEG files to the store, against PyTorch's forward alone and against thingsvision.

`python benchmarks/extraction.py [--quick] [--dry] [--no-peer] [--only MODEL] [--images N] [--runs N]`
"""

from __future__ import annotations

import argparse
import json
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

MODELS = {
    "resnet50": ("timm:resnet50?weights=none", 1.3),
    "effnet-lite0": ("timm:tf_efficientnet_lite0?weights=none", 2.5),
}
PEER_TARGET, TAPS_TARGET = 2.5, 1.1


def make_photographs(folder: Path, n: int) -> None:
    """n JPEG files of 500 x 375, quality 90: crops, flips and changed light of scikit-image's photographs, seeded."""
    import numpy as np
    from PIL import Image, ImageEnhance
    from skimage import data

    photographs = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        photograph = photographs[i % len(photographs)]
        w, h = photograph.size
        width = rng.uniform(0.5, 1.0) * min(w, h * 4 / 3)
        left, top = rng.uniform(0, w - width), rng.uniform(0, h - width * 3 / 4)
        crop = photograph.resize((500, 375), Image.Resampling.BICUBIC, (left, top, left + width, top + width * 3 / 4))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ImageEnhance.Brightness(crop).enhance(rng.uniform(0.7, 1.3)).save(folder / f"{i:05d}.jpg", quality=90)


class Ours:
    """visus.features.extract on a folder, into a fresh store every time. first: as if the network had never been run here, without its
    kept graph; else as a second process finds it."""

    def __init__(self, files: Path, spec: str, taps: list[str], *, first: bool = True) -> None:
        from visus.images import load_images
        from visus.models import load_backbone

        self.images, self.backbone, self.taps = load_images(f"folder:{files}"), load_backbone(spec, seed=0), taps
        self.images.fingerprint, self.backbone.fingerprint  # noqa: B018  (asked for once, as a second tap would)
        self.preparing: list[float] = []
        self.first = first

    def __call__(self) -> float:
        """Seconds of one extraction, with the compilation of the network."""
        from visus import paths
        from visus.features import extract

        if self.first:
            shutil.rmtree(paths.home() / "graphs", ignore_errors=True)
        with tempfile.TemporaryDirectory() as store:
            start = time.perf_counter()
            features = extract(self.images, self.backbone, self.taps, store=Path(store))
            seconds = time.perf_counter() - start
        assert len(features) == len(self.images)
        self.engine = features.cost["engine"]
        self.preparing.append(features.cost["preparing_seconds"])
        return seconds


class Plain:
    """PyTorch's forward alone: tensors in memory, eager, channels_last, inference mode, all cores."""

    def __init__(self, spec: str, n: int, batches: tuple[int, ...]) -> None:
        import torch

        from visus.models import load_backbone

        self.module = load_backbone(spec, seed=0).module.to(memory_format=torch.channels_last)
        self.n = n
        self.batch = batches[0] if len(batches) == 1 else min(batches, key=self._trial)

    def _input(self, batch: int) -> Any:
        import torch

        return torch.rand(batch, 3, 224, 224).to(memory_format=torch.channels_last)

    def _trial(self, batch: int) -> float:
        x = self._input(batch)
        self._forward(x, 1)
        return min(self._forward(x, max(1, 64 // batch)) / (batch * max(1, 64 // batch)) for _ in range(2))

    def _forward(self, x: Any, times: int) -> float:
        import torch

        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(times):
                self.module(x)
        return time.perf_counter() - start

    def __call__(self) -> float:
        """Seconds of forwarding n images."""
        whole, rest = divmod(self.n, self.batch)
        return self._forward(self._input(self.batch), whole) + (self._forward(self._input(rest), 1) if rest else 0.0)


class Peer:
    """thingsvision in its own environment, at the best of its batch sizes and numbers of loader workers."""

    def __init__(self, files: Path, few: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parent / "peers"))
        from thingsvision_env import python

        self.python, self.files = python(), files
        tried = [(batch, workers) for batch in (16, 32, 64) for workers in (0, 1, 2)]
        self.settings = min(tried, key=lambda setting: self._run(few, *setting)["seconds"])

    def _run(self, files: Path, batch: int, workers: int) -> dict[str, Any]:
        script = Path(__file__).parent / "peers" / "thingsvision_run.py"
        arguments = [str(files), "resnet50", "avgpool", str(batch), str(workers), str(os.cpu_count())]
        done = subprocess.run([self.python, script, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"thingsvision failed:\n{done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def __call__(self) -> float:
        """Seconds of one extraction from files to a saved array, as thingsvision itself takes them."""
        return float(self._run(self.files, *self.settings)["seconds"])


def paired(runs: int, **work: Any) -> dict[str, list[float]]:
    """Seconds that each says it took, in turn (a b a b ...): what a peer takes to start is not its extraction."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, function in work.items():
            seconds[name].append(function())
    return seconds


def row(
    name: str, ours: Ours, slow: list[float], fast: list[float], n: int, target: str, again: list[float] | None = None
) -> dict[str, Any]:
    """One line of the table. The ratio counts tracing, converting and compiling; beside it that of a second process, which finds the
    network's graph (again: its seconds), and the one without any of it, as of a long run."""
    prepared = [f - p for f, p in zip(fast, ours.preparing[-len(fast) :], strict=True)]
    return {
        "comparison": name,
        "other, ms/image": statistics.median(slow) / n * 1e3,
        "visus, ms/image": statistics.median(fast) / n * 1e3,
        "ratio": median_ratio(slow, fast),
        "ratio of a second process": "" if again is None else median_ratio(slow, again),
        "ratio without compiling": median_ratio(slow, prepared),
        "target": target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="32 images, one run, no search for a batch, nothing recorded"
    )
    parser.add_argument("--dry", action="store_true", help="nothing recorded")
    parser.add_argument("--only", choices=MODELS, help="this model alone, without its four taps")
    parser.add_argument("--no-peer", action="store_true", help="leave thingsvision out")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    n, runs = (32, 1) if chosen.quick else (chosen.images, chosen.runs)
    work = Path(tempfile.mkdtemp())
    try:
        # A cache of its own: what is kept there is thrown away between runs.
        os.environ["VISUS_HOME"] = str(work / "home")
        rows, notes = measure(work, n, runs, peer=not chosen.no_peer, only=chosen.only)
    finally:
        shutil.rmtree(work)
    if chosen.quick or chosen.dry:
        print(json.dumps({"rows": rows, "notes": notes}, indent=1))
    else:
        record("Extraction", rows, notes)


def measure(
    work: Path, n: int, runs: int, *, peer: bool, only: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    make_photographs(work / "files", n)
    make_photographs(work / "few", min(n, 96))
    rows, notes = [], []
    for name, (spec, target) in MODELS.items():
        if only not in (None, name):
            continue
        ours, plain = Ours(work / "files", spec, ["late"]), Plain(spec, n, (16,) if n < 64 else (16, 32, 64))
        took = paired(runs, plain=plain, ours=ours, again=Ours(work / "files", spec, ["late"], first=False))
        alone = f"{name}: PyTorch's forward alone"
        rows.append(row(alone, ours, took["plain"], took["ours"], n, f">= {target}", took["again"]))
        prepared = statistics.median(ours.preparing)
        notes.append(
            f"{name}: engine {ours.engine}, compiled in {prepared:.1f} s; PyTorch's best batch was {plain.batch}."
        )
        if only:
            continue
        four = Ours(work / "files", spec, [ours.backbone.taps[i].name for i in _four(len(ours.backbone.taps))])
        took = paired(runs, four=four, one=ours)
        found = row(f"{name}: four taps over one", ours, took["four"], took["one"], n, f"<= {TAPS_TARGET}")
        bare = {
            k: [s - p for s, p in zip(took[k], w.preparing[-runs:], strict=True)]
            for k, w in (("four", four), ("one", ours))
        }
        rows.append({**found, "ratio without compiling": median_ratio(bare["four"], bare["one"])})
    if peer:
        spec = MODELS["resnet50"][0]
        other, ours = Peer(work / "files", work / "few"), Ours(work / "files", spec, ["late"])
        took = paired(runs, other=other, ours=ours, again=Ours(work / "files", spec, ["late"], first=False))
        name = "resnet50: thingsvision, files to store"
        rows.append(row(name, ours, took["other"], took["ours"], n, f">= {PEER_TARGET}", took["again"]))
        versions = (Path(__file__).parent / "peers" / "thingsvision.txt").read_text().splitlines()
        pins = [line for line in versions if line.split("==")[0] in ("thingsvision", "torch", "torchvision")]
        notes.append(
            f"thingsvision in an environment of its own ({', '.join(pins)}), best of batch 16, 32, 64 and 0, 1, 2 loader "
            f"workers: batch {other.settings[0]}, {other.settings[1]} workers; random weights on both sides."
        )
    notes.append(
        f"{n} JPEG files of 500 x 375, quality 90; medians of {runs} alternated runs; a fresh store each run. 'Compiling' is "
        "converting the network to OpenVINO, compiling it and comparing its features with PyTorch's, once a run of any length; a second "
        "process finds the network's graph converted."
    )
    return rows, notes


def _four(n: int) -> list[int]:
    """Four taps spread over the depth, the last included."""
    return sorted({round(k * (n - 1) / 4) for k in (1, 2, 3, 4)})


if __name__ == "__main__":
    fair_environment()
    main()
