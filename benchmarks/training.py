"""Ten epochs over a frozen backbone: visus against a plain loop that runs the backbone in every epoch.

python benchmarks/training.py [--quick] [--runs N] [--images N] [--model SPEC]

The plain loop is written as a careful user would: DataLoader, eval mode, no_grad, channels_last, the same batch, optimizer, schedule and
learning rate as visus, validation after every epoch, its pictures decoded once and kept in memory. Every run has another seed, and the
accuracies are means over them, on the whole validation and test parts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from _common import alternate, fair_environment, median_ratio, record

EPOCHS, BATCH, LR = 10, 32, 3e-3
THREADS = "2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=856, help="training images")
    parser.add_argument("--model", default="visus:effnet-lite0")
    args = parser.parse_args()
    fair_environment()
    os.environ["OMP_NUM_THREADS"] = THREADS
    home = tempfile.mkdtemp(prefix="visus-bench-")
    os.environ["VISUS_HOME"] = home

    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from visus.images import load_images
    from visus.models import load_backbone
    from visus.training.batches import decoded
    from visus.training.devices import Devices
    from visus.training.networks import build
    from visus.training.prepared import prepare
    from visus.training.recipe import Recipe, lr_factor
    from visus.training.train import train
    from visus.training.training_data import Settings, TrainingData

    torch.set_num_threads(int(THREADS))
    images = load_images("visus:emoji").limit(150 if args.quick else None, seed=0)
    splits = images.split(seed=0)
    fit, val = splits.folds[0]
    fit = np.sort(np.random.default_rng(0).permutation(fit)[: args.images])
    k, labels = len(images.classes), torch.from_numpy(images.labels)
    backbone = load_backbone(args.model)
    recipe = Recipe(LR, epochs=EPOCHS, batch=BATCH, patience=0)
    reached: dict[str, list[float]] = {}

    def in_memory(rows: Any) -> TensorDataset:
        return TensorDataset(torch.from_numpy(decoded(images, rows, backbone.preprocess, what="")), labels[rows])

    def plain() -> None:
        number = len(reached.setdefault("plain", []))
        network = load_backbone(args.model).module.eval().to(memory_format=torch.channels_last)
        seed = torch.Generator().manual_seed(number)
        loader = DataLoader(in_memory(fit), BATCH, shuffle=True, drop_last=True, generator=seed)
        held = {part: DataLoader(in_memory(rows), 64) for part, rows in (("val", val), ("test", splits.test))}

        def features(batch: torch.Tensor) -> torch.Tensor:
            x = backbone.preprocess.normalize(batch).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                return network.features(x)

        head = torch.nn.Linear(features(next(iter(loader))[0]).shape[1], k)
        torch.nn.init.trunc_normal_(head.weight, std=0.01, generator=seed)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.AdamW(
            [
                {"params": [head.weight], "weight_decay": recipe.weight_decay},
                {"params": [head.bias], "weight_decay": 0.0},
            ]
        )
        step, steps, best, kept = 0, EPOCHS * len(loader), -1.0, {}

        def accuracy(part: str) -> float:
            with torch.inference_mode():
                return float(torch.cat([head(features(x)).argmax(1) == y for x, y in held[part]]).float().mean())

        for _ in range(EPOCHS):
            for batch, y in loader:
                for group in optimizer.param_groups:
                    group["lr"] = LR * lr_factor((step + 0.5) / steps, recipe.warmup)
                x = features(batch).clone()
                loss = torch.nn.functional.cross_entropy(head(x), y, label_smoothing=recipe.smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(head.parameters(), recipe.clip)
                optimizer.step()
                step += 1
            now = accuracy("val")
            if now > best:
                best, kept = now, {n: t.clone() for n, t in head.state_dict().items()}
        head.load_state_dict(kept)
        reached["plain"].append(accuracy("test"))

    def ours() -> None:
        folder = Path(tempfile.mkdtemp(dir=home))
        mine = load_backbone(args.model)
        material = TrainingData(images, images.labels, k, fit, val, splits.test)
        number = len(reached.setdefault("visus", []))
        head = build("head", mine, k, Settings(), seed=number)
        prepared = prepare(head, mine, material, Settings(), device="cpu", seed=number)
        run = train(
            prepared, replace(recipe, seed=number), grid=(LR,), trial_epochs=1, devices=Devices(), folder=folder
        )
        reached["visus"].append(float(np.mean(run.logits.argmax(1) == images.labels[splits.test])))

    try:
        seconds = alternate(1 if args.quick else args.runs, visus=ours, plain=plain)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    rows = [
        {
            "plain s": float(np.median(seconds["plain"])),
            "visus s": float(np.median(seconds["visus"])),
            "ratio": median_ratio(seconds["plain"], seconds["visus"]),
            "plain test accuracy": float(np.mean(reached["plain"])),
            "visus test accuracy": float(np.mean(reached["visus"])),
            "target": ">= 8.0",
        }
    ]
    notes = [
        f"{args.model}, {len(fit):,} training, {len(val):,} validation and {len(splits.test):,} test images of visus:emoji; "
        f"{EPOCHS} epochs, batch {BATCH}, AdamW at {LR:g} on both sides, validation after every epoch, test once.",
        f"{THREADS} threads; medians (times) and means (accuracies) of {args.runs} alternated runs, each with another seed.",
        "visus: everything from decoding to test logits, checkpoints every epoch and the compilation of the network for OpenVINO included.",
    ]
    if args.quick:
        print(rows)
        return
    record("Training a head on a frozen backbone", rows, notes)


if __name__ == "__main__":
    main()
