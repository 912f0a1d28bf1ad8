"""Noisy pictures of three colours: any network that lets colour through can tell them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "green": (30, 160, 60), "red": (200, 40, 40)}


def write(root: Path, *, each: int, noise: float, size: tuple[int, int] = (40, 40)) -> Path:
    """A folder a colour under `root`, `each` PNG files in it; size: (height, width)."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(each):
            noisy = np.clip(np.array(colour) + rng.normal(0, noise, (*size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{i:02}.png")
    return root
