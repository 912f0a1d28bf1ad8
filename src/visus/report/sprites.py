"""Thumbnails and images as data URIs, small enough for a page that is sent by mail."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

_BUDGET = 2_000_000  # bytes of one sprite sheet; base64 adds a third
_CELL = 48  # pixels: the largest thumbnail in a sheet
_IMAGE = 192  # pixels: the largest image in a gallery
_SIDE = 16_000  # pixels: WebP ends at 16,383
# (cell, quality), tried in this order until the sheet is small enough. Cells of whole 16-pixel blocks do not bleed.
_TRIES = ((48, 78), (48, 55), (48, 35), (32, 50), (32, 30), (16, 50), (16, 20), (8, 10))


def sprite_sheet(images: np.ndarray) -> dict[str, Any]:
    """One WebP sheet of all thumbnails: {"src": data URI, "cell": pixels, "columns", "rows"}; thumbnail i is cell i, row by row.

    images: uint8 [n, h, w, 3], n >= 1. Thumbnails are fitted into squares of at most 48 pixels; quality, then size, falls
    until the sheet has at most 2 MB.
    """
    best: dict[str, Any] = {}
    largest = max(images.shape[1:3])
    for cell, quality in _TRIES:
        columns = int(np.ceil(np.sqrt(len(images))))
        rows = -(-len(images) // columns)
        # A tiny image (a digit of 28 pixels) is kept as it is; the browser enlarges it.
        cell = min(cell, max(16, -(-largest // 16) * 16))
        if columns * cell > _SIDE and cell > 8:
            continue
        data = _webp(_sheet(images, cell, columns, rows), quality)
        best = {"src": _uri(data), "cell": cell, "columns": columns, "rows": rows}
        if len(data) <= _BUDGET:
            break
    return best


def _sheet(images: np.ndarray, cell: int, columns: int, rows: int) -> np.ndarray:
    """uint8 [rows * cell, columns * cell, 3]: each image whole, centred in its cell on grey."""
    sheet = np.full((rows * cell, columns * cell, 3), 128, np.uint8)
    height, width = images.shape[1:3]
    scale = cell / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (cell - size[0]) // 2, (cell - size[1]) // 2
    for i, image in enumerate(images):
        y, x = i // columns * cell + top, i % columns * cell + left
        sheet[y : y + size[1], x : x + size[0]] = _resized(image, size)
    return sheet


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """image, uint8 [h, w, 3], as size (width, height): averaged when it shrinks, its pixels kept when it grows."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    how = Image.Resampling.LANCZOS if image.shape[1] > size[0] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize(size, how))


def image_uri(image: np.ndarray) -> str:
    """One image, uint8 [h, w, 3], as a WebP data URI; lossless below 65 pixels, at most 192 pixels wide or high."""
    height, width = image.shape[:2]
    if max(height, width) <= 64:
        return _uri(_webp(image, None))
    scale = min(1.0, _IMAGE / max(height, width))
    return _uri(_webp(_resized(image, (max(1, round(width * scale)), max(1, round(height * scale)))), 82))


def packed(values: np.ndarray) -> str:
    """Numbers as base64 of little-endian uint16, which page.js reads."""
    return base64.b64encode(np.ascontiguousarray(values, "<u2").tobytes()).decode("ascii")


def _webp(image: np.ndarray, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality, "method": 4}
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "WEBP", **options)
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
