"""A folder whose test images are in part its training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
COLOURS = {"blue": (30, 60, 200), "red": (200, 40, 40)}
TRAIN, TEST = 24, 12  # a class


def noisy(colour: tuple[int, int, int], strength: float) -> Image.Image:
    return Image.fromarray(np.clip(np.array(colour) + RNG.normal(0, strength, (24, 24, 3)), 0, 255).astype(np.uint8))


def folder(root: Path) -> Path:
    """Pure noise under two names: nothing can be learned but by heart. Of 24 test images 8 are training images.

    blue: four saved again as BMP (equal pixels), one of them two times; two as JPEG (other pixels). red: three copies, and one of a blue image.
    """
    for split, n in (("train", TRAIN), ("test", TEST)):
        for name in COLOURS:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                noisy((128, 128, 128), 60).save(root / split / name / f"{i:02}.png")
    for i in range(4):
        Image.open(root / f"train/blue/{i:02}.png").save(root / f"test/blue/{i:02}.bmp")
        (root / f"test/blue/{i:02}.png").unlink()
    for i in (4, 5):
        Image.open(root / f"train/blue/{i:02}.png").save(root / f"test/blue/{i:02}.jpg", quality=95)
        (root / f"test/blue/{i:02}.png").unlink()
    for i, source in enumerate(("red/00", "red/01", "red/02", "blue/07")):
        Image.open(root / f"train/{source}.png").save(root / f"test/red/{i:02}.png", compress_level=1)
    return root
