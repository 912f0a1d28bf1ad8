"""Does bfloat16 cost a VAE anything? Trainings in float32 and in bfloat16 from the same seeds, in pairs, judged in float32 on test images.

python benchmarks/vae_precision.py [--quick] [--seeds N] [--images SPEC ...] [--epochs N] [--limit N] [--home FOLDER]

What `--precision auto` takes on a CPU with bfloat16 in hardware rests on this. A pair has the same first weights, order of images and noise.
Two seeds of one precision differ too: bfloat16 is as good as float32 where the interval of the mean difference lies within the standard
deviation that seeds alone give. --home: keeps trainings, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _common import fair_environment, record

PRECISIONS = ("fp32", "bf16")
RUNS = ("baseline", "mitigated")
THREADS = "2"
PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--dry", action="store_true", help="nothing recorded")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--images", nargs="+", default=["visus:digits", "fashion-mnist"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, default=20_000, help="images of a set, at most")
    parser.add_argument("--runs", nargs="+", default=["baseline"], choices=RUNS)
    parser.add_argument("--home", help="where trainings are kept")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.images, args.epochs, args.limit = 2, ["visus:digits"], 1, 600
    fair_environment()
    os.environ["OMP_NUM_THREADS"] = THREADS
    home = args.home or tempfile.mkdtemp(prefix="visus-bench-")
    os.environ["VISUS_HOME"] = home
    if PACKAGED.is_dir() and not (kept := Path(home, "data", PACKAGED.name)).exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.symlink_to(PACKAGED)
    try:
        rows = [row_of(spec, run, args) for spec in args.images for run in args.runs]
    finally:
        if not args.home:
            shutil.rmtree(home, ignore_errors=True)
    notes = [
        "Negative ELBO in nats per image on test images, always computed in float32; difference: bfloat16 minus float32, mean over pairs of "
        "trainings from the same seed, with its 95 % t-interval; seeds: the standard deviation over float32 trainings of different seeds.",
        f"{args.epochs} epochs, at most {args.limit:,} images, otherwise the defaults of visus vae. Ratio: of training times, validation included.",
    ]
    record("Training a VAE in bfloat16 (benchmarks/vae_precision.py)", rows, notes, dry=args.quick or args.dry)


def row_of(spec: str, run: str, args: argparse.Namespace) -> dict[str, Any]:
    """A line of the table: one set of images, one named run, all its seeds."""
    import numpy as np
    import torch
    from scipy import stats

    from visus.images import load_images
    from visus.studies.vae.inputs import load_arrays

    torch.set_num_threads(int(THREADS))
    images = load_arrays(load_images(spec).limit(args.limit, seed=0), size=None, channels=None, seed=0, native=None)
    found: dict[str, list[float]] = {p: [] for p in PRECISIONS}
    seconds: dict[str, list[float]] = {p: [] for p in PRECISIONS}
    for seed in range(args.seeds):
        for precision in PRECISIONS:
            nats, took = trained(images, run, seed, precision, args)
            found[precision].append(nats)
            seconds[precision].append(took)
        print(spec, run, seed, [f"{found[p][-1]:.3f} nats in {seconds[p][-1]:.1f} s" for p in PRECISIONS], flush=True)
    difference = np.subtract(found["bf16"], found["fp32"])
    low, high = stats.t.interval(0.95, len(difference) - 1, difference.mean(), stats.sem(difference))
    spread = statistics.stdev(found["fp32"])
    return {
        "images": spec,
        "training images": len(images.train),
        "run": run,
        "pairs": args.seeds,
        "fp32, nats": float(np.mean(found["fp32"])),
        "bf16, nats": float(np.mean(found["bf16"])),
        "difference": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "seeds": spread,
        "within seeds": bool(max(-low, high) <= spread),
        "ratio": statistics.median(a / b for a, b in zip(seconds["fp32"], seconds["bf16"], strict=True)),
    }


def trained(images: Any, run: str, seed: int, precision: str, args: argparse.Namespace) -> tuple[float, float]:
    """(negative ELBO of the test images in nats per image, seconds of the training's epochs) of one training."""
    from dataclasses import replace

    from visus.features.latents import bounds
    from visus.studies.vae.options import EvaluationOptions, Options, ShapedImages, TrainingOptions, VaeOptions
    from visus.studies.vae.settle import settled, sized
    from visus.training.vae import VaePlan, train_vae

    training = TrainingOptions(epochs=args.epochs, precision=precision)
    asked = settled(Options(ShapedImages("visus:digits"), VaeOptions(), training, EvaluationOptions()))
    s = sized(asked.training, images, None)
    plan = VaePlan(run, s.sizes, s.decoder, s.schedule(run), replace(s.recipe, seed=seed), s.devices)
    done = train_vae(images.train, images.validation, plan, content=images.content, root=Path(os.environ["VISUS_HOME"]))
    sides = bounds(done.vae, images.test, seed=0)
    return float((sides.reconstruction + sides.kl).mean()), sum(e.seconds for e in done.fit.epochs)


if __name__ == "__main__":
    main()
