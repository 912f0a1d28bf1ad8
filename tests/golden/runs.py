"""The nine small runs whose results are recorded: every study, trained and not, on pictures drawn here or shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from tests import shapes
from timm.models._hub import save_for_hf

import visus

PLAIN: dict[str, Any] = {"device": "cpu", "threads": 1, "seed": 0}
RANDOM = "timm:test_resnet?weights=none"


COLOURS = {"blue": (30, 60, 200), "green": (30, 160, 60), "red": (200, 40, 40)}


def mixed(root: Path, *, each: int) -> Path:
    """A folder a class: its colour mixed with another's, so that a probe errs here and there; the first red picture comes
    twice, and one file is none."""
    rng = np.random.default_rng(0)
    paints = {name: np.array(colour, float) for name, colour in COLOURS.items()}
    for k, name in enumerate(COLOURS):
        (root / name).mkdir(parents=True)
        for i in range(each):
            other = paints[list(COLOURS)[(k + 1 + i % 2) % 3]]
            share = rng.uniform(0.35, 1)
            noisy = share * paints[name] + (1 - share) * other + rng.normal(0, 60, (40, 40, 3))
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(root / name / f"{i:02}.png")
    (root / "red" / "again.png").write_bytes((root / "red" / "00.png").read_bytes())
    (root / "red" / "torn.png").write_bytes(b"no picture")
    return root


def small_vit(folder: Path) -> Path:
    """A vision transformer of few weights, without a classifier, as timm saves it."""
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **shape).eval()
    save_for_hf(model, str(folder), model_args=shape, safe_serialization=True)
    return folder


def transfer_probe(work: Path) -> visus.Result:
    """Two models, two layers each, with both controls; one picture comes twice and one cannot be read."""
    folder = mixed(work / "images", each=24)
    return visus.transfer(
        [str(small_vit(work / "vit")), RANDOM], f"folder:{folder}", taps=["early", "late"], regime=["probe"], maps=False,
        engine="torch", **PLAIN,
    )  # fmt: skip


def transfer_train(work: Path) -> visus.Result:
    """Head and last block, two seeds, features before and after, a skip connection taken out."""
    folder = mixed(work / "images", each=20)
    return visus.transfer(
        [str(small_vit(work / "vit"))], f"folder:{folder}", taps=["early", "late"], regime=["head", "last-block"], budget="none", epochs=3,
        lr="3e-3", batch=16, seeds=2, controls=False, maps=False, ablate_skips="sweep", engine="torch", **PLAIN,
    )  # fmt: skip


def emoji(root: Path, *, classes: int, each: int) -> Path:
    """Shipped pictures as a folder of their first classes."""
    images = visus.load_images("visus:emoji")
    labels = np.asarray(images.labels)
    for label in range(classes):
        folder = root / images.classes[label]
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == label)[:each]:
            images.decode(int(i)).save(folder / f"{i:04}.png")
    return root


def vit(work: Path) -> visus.Result:
    """All four parts, of a transformer and a convolutional network beside it."""
    folder = emoji(work / "images", classes=3, each=24)
    return visus.vit(
        [str(small_vit(work / "vit")), RANDOM], f"folder:{folder}", masked=6, shown=1, keep="1,0.4",
        pattern=["random", "most-attended", "least-attended"], **PLAIN,
    )  # fmt: skip


def clip(work: Path) -> visus.Result:
    """The shipped dual encoder on shipped pictures, beside itself with random weights."""
    return visus.clip("visus:emoji-clip", "visus:emoji", limit=200, **PLAIN)


def clip_file(work: Path) -> visus.Result:
    """Embeddings made elsewhere: pairs around four classes, texts pushed off along an axis of their own."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = np.eye(16)[labels] + 0.3 * rng.normal(size=(160, 16))
    texts = images + 0.2 * rng.normal(size=(160, 16))
    texts[:, -1] += 1
    file = work / "pairs.npz"
    np.savez(
        file, images=images.astype(np.float32), texts=texts.astype(np.float32), labels=labels,
        class_texts=np.eye(16)[:4].astype(np.float32),
    )  # fmt: skip
    return visus.clip(embeddings=str(file), **PLAIN)


def vae(work: Path) -> visus.Result:
    """The default pair, baseline and mitigated, for two epochs."""
    return visus.vae(limit=300, epochs=2, samples=60, importance=8, shown=4, seeds=2, precision="fp32", **PLAIN)


def predict(work: Path) -> visus.Result:
    """Drawn pictures, one of which is none."""
    folder = shapes.write(work / "images", each=1)
    (folder / "circle" / "torn.png").write_bytes(b"no picture")
    return visus.predict([str(folder)], top=3, **PLAIN)


def extract(work: Path) -> visus.Result:
    """Three layers of one network."""
    folder = shapes.write(work / "images", each=2)
    return visus.extract(RANDOM, f"folder:{folder}", engine="torch", out=str(work / "out"), **PLAIN)


def train(work: Path) -> visus.Result:
    """A dual encoder of few weights on captions, tried on classes too."""
    folder = shapes.write(work / "images", each=10)
    return visus.train(
        "clip", images=str(folder), zero_shot=str(folder), epochs=3, batch=16, size=32, patch=8, width=64, layers=2,
        text_width=64, text_layers=1, drop=0.25, out=str(work / "model"), **PLAIN,
    )  # fmt: skip


RUNS: Mapping[str, Callable[[Path], visus.Result]] = {
    "transfer-probe": transfer_probe,
    "transfer-train": transfer_train,
    "vit": vit,
    "clip": clip,
    "clip-file": clip_file,
    "vae": vae,
    "predict": predict,
    "extract": extract,
    "train": train,
}
