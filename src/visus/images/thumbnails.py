"""Small square copies of pictures, for pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from visus.errors import DataError, ReadError
from visus.images.base import ImageSet


def thumbnails(images: ImageSet, positions: np.ndarray, size: int) -> np.ndarray:
    """The pictures at `positions`, each fitted into a square of `size` pixels on white: uint8 [n, size, size, 3].

    A picture that cannot be decoded comes out grey: a page is no place to fail.
    """
    out = np.full((len(positions), size, size, 3), 255, np.uint8)

    def one(row: int) -> None:
        try:
            image = images.decode(int(positions[row]))
        except (DataError, ReadError):
            out[row] = 200
            return
        # Enlarged without smoothing, so that small pictures show their pixels rather than blur.
        method = Image.Resampling.NEAREST if max(image.size) < size else Image.Resampling.LANCZOS
        out[row] = np.asarray(ImageOps.pad(image, (size, size), method=method, color=(255, 255, 255)))

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(one, range(len(positions))))
    return out
