"""PNM files (PBM, PGM, PPM): the value that a file calls white, and colour of 16 bits, of which Pillow keeps the high bytes alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image


def largest(image: Image.Image) -> int:
    """The value that a PNM file calls its largest, of an image whose pixels are not read yet; 0 of other files and of floats."""
    if image.format != "PPM" or image.mode == "F":
        return 0
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    if isinstance(tile.args, tuple):
        return int(tile.args[1]) if len(tile.args) > 1 and isinstance(tile.args[1], int) else 255
    return 65535 if image.mode == "I" else 255


def colour(image: Image.Image, data: bytes) -> np.ndarray:
    """uint16 [h, w, 3] of a colour file whose largest value is 65,535. Raises EOFError where it is cut short."""
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    n, body = image.width * image.height * 3, data[tile.offset :]
    if tile.codec_name == "ppm_plain":
        words = re.sub(rb"#[^\n\r]*", b"", body).split()[:n]
        found = np.array([int(w) for w in words], np.uint16)
    else:
        found = np.frombuffer(body, ">u2", min(n, len(body) // 2)).astype(np.uint16)
    if len(found) < n:
        raise EOFError("truncated")
    return found.reshape(image.height, image.width, 3)
