"""A zero-shot classifier of 1,000 classes by 80 prompts each, against open_clip's own.

python benchmarks/zero_shot.py [--quick] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

THREADS = "2"
MODEL = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 3},
}
"""open_clip's ViT-S-32-alt with 3 of its text tower's 10 layers: 80,000 texts of it would take ten minutes a run on two cores."""
BATCHES = (1, 2, 5, 10, 20)
"""Classes in a batch of open_clip's, of 80 texts each; its own default is 10. The fastest is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", choices=("visus", "open_clip"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=10, help=argparse.SUPPRESS)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = THREADS
    if args.memory:
        print(peak_of(args.memory, args.batch, quick=args.quick))
        return
    import numpy as np

    runs = 1 if args.quick else args.runs
    encoder, names, prompts = made(quick=args.quick)
    batch = best_batch(encoder, names[: 2 if args.quick else 20], prompts, rounds=1 if args.quick else 2)
    ours, peer = works(encoder, names, prompts, batch)
    for warm in works(encoder, names[:2], prompts, 1):
        warm()
    made_by: dict[str, Any] = {}
    seconds = alternate(runs, visus=lambda: made_by.update(visus=ours()), open_clip=lambda: made_by.update(peer=peer()))
    found = made_by["visus"]
    apart, spread = float(np.abs(found - made_by["peer"]).max()), float(found.std(axis=0).mean())
    assert apart < 1e-5, apart
    middle = {k: statistics.median(v) for k, v in seconds.items()}
    peaks = {what: peak_of_process(what, batch, quick=args.quick) for what in ("visus", "open_clip")}
    texts = f"{len(names):,} classes x {len(prompts)} prompts"
    rows = [
        row(f"{texts}, s", middle["visus"], middle["open_clip"], ">= 1.0"),
        row(f"{texts}: peak memory above the loaded model's, MB", peaks["visus"], peaks["open_clip"], ">= 1.0"),
    ]
    rows[0]["ratio"] = median_ratio(seconds["open_clip"], seconds["visus"])
    notes = [
        "open_clip's CLIP, random weights (text tower: 3 layers of 256, context 77; no smaller one comes with it), float32, "
        f"{THREADS} threads, tokenizing included; medians of {runs} runs, in turn; the ratio is open_clip's over ours.",
        f"Peer: open_clip.build_zero_shot_classifier, {batch} classes in a batch, the fastest of {BATCHES} on 20 classes.",
        f"The two classifiers differ by at most {apart:.1g}, where classes differ by {spread:.1g} a feature: the tower is "
        "causal and read at the end token, so what is padded behind it changes nothing; visus leaves it out.",
        "Memory: the peak of a fresh process while it makes the classifier once, less its resident memory before, its mark "
        "reset after one text.",
    ]
    record("Zero-shot classifiers (benchmarks/zero_shot.py)", rows, notes, dry=args.quick)


def row(what: str, ours: float, peer: float, target: str) -> dict[str, Any]:
    return {"what": what, "visus": ours, "against": peer, "ratio": peer / ours, "target": target}


def made(*, quick: bool) -> tuple[Any, list[str], tuple[str, ...]]:
    """The encoder, the class names and the prompts."""
    import tempfile

    import torch
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    from visus.models import load_dual
    from visus.models.prompts import template_set

    torch.set_num_threads(int(THREADS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
        encoder = load_dual(f"{folder}?weights=none")
    return encoder, list(IMAGENET_CLASSNAMES)[: 10 if quick else None], template_set("openai-80")


def works(
    encoder: Any, names: list[str], prompts: tuple[str, ...], batch: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours and open_clip's on the same model: each gives [classes, d]."""
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-S-32-alt")

    def ours() -> Any:
        return encoder.zero_shot(names, prompts)

    def peer() -> Any:
        made = open_clip.build_zero_shot_classifier(
            encoder.module, tokenizer, names, prompts, num_classes_per_batch=batch
        )
        return made.T.numpy()

    return ours, peer


def best_batch(encoder: Any, names: list[str], prompts: tuple[str, ...], *, rounds: int) -> int:
    """open_clip's fastest number of classes in a batch."""
    tries = {str(b): works(encoder, names, prompts, b)[1] for b in BATCHES}
    seconds = alternate(rounds, **tries)
    return int(min(seconds, key=lambda b: min(seconds[b])))


def peak_of_process(what: str, batch: int, *, quick: bool) -> float:
    """What `peak_of` says in a fresh process."""
    command = [sys.executable, __file__, "--memory", what, "--batch", str(batch), *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(what: str, batch: int, *, quick: bool) -> float:
    """Peak memory of this process in MB while it makes the classifier, above what it held before.

    Linux keeps the peak since the start of the process, which loading the weights sets; writing 5 to clear_refs resets it.
    """
    encoder, names, prompts = made(quick=quick)
    ours, peer = works(encoder, names, prompts, batch)
    for warm in works(encoder, names[:1], prompts[:1], 1):
        warm()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    kept = ours() if what == "visus" else peer()
    assert kept is not None
    return round(resident("VmHWM") - before, 1)


def resident(field: str) -> float:
    """A figure of /proc/self/status in MB."""
    status = Path("/proc/self/status").read_text()
    return max(int(kb) for kb in re.findall(rf"{field}:\s+(\d+) kB", status)) * 1024 / 1e6


if __name__ == "__main__":
    main()
