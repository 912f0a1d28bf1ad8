"""Drawn shapes with captions: a few words say what each picture shows, and several pictures show it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": "#c82828", "green": "#1ea03c", "blue": "#2850d2", "yellow": "#e6c81e"}
SHAPES = ("square", "circle", "triangle")


def write(root: Path, *, each: int = 8, size: int = 32, seed: int = 0) -> Path:
    """`root`/SHAPE/COLOUR-i.png and a metadata.csv that names every picture twice: 'red square', 'a square that is red'."""
    rng = np.random.default_rng(seed)
    rows = []
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for colour, paint in COLOURS.items():
            for i in range(each):
                picture = Image.new("RGB", (size, size), "white")
                x, y = (int(v) for v in rng.integers(2, size // 4, 2))
                box = (x, y, x + size * 5 // 8, y + size * 5 // 8)
                pen = ImageDraw.Draw(picture)
                if shape == "square":
                    pen.rectangle(box, fill=paint)
                elif shape == "circle":
                    pen.ellipse(box, fill=paint)
                else:
                    pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], fill=paint)
                name = f"{shape}/{colour}-{i}.png"
                picture.save(root / name)
                rows += [(name, f"{colour} {shape}"), (name, f"a {shape} that is {colour}")]
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])
    return root
