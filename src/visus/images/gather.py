"""Pictures that a user lists by hand: files, folders and specs, together as one ImageSet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.images import load_images
from visus.images.base import ImageSet, Quarantined
from visus.images.folder import FileSource
from visus.images.header import problem
from visus.images.listing import looks_like_an_image, walk
from visus.images.protocols import Source
from visus.images.remarks import remark_on_pixels
from visus.outputs import is_output
from visus.paths import expanded
from visus.progress import note
from visus.spec import check_address

FILES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".ico", ".heic", ".heif", ".jxl",
         ".dcm")  # fmt: skip
TABLES = (".parquet", ".arrow")


@dataclass(frozen=True)
class Joined:
    """Several sources one after the other; starts: int64 [k + 1], where each begins."""

    sources: tuple[Source, ...]
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, i: int) -> bytes | np.ndarray:
        k = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self.sources[k].read(i - self.starts[k])

    def digest(self) -> str:
        """Digest of the sources' digests, in order."""
        return hashlib.sha256("|".join(s.digest() for s in self.sources).encode()).hexdigest()


def gather(
    inputs: Sequence[str], *, limit: int | None, seed: int, download: bool
) -> tuple[ImageSet, tuple[Quarantined, ...]]:
    """One unlabelled ImageSet of everything listed, in that order, and what was set aside on the way.

    limit: at most so many pictures in all, a random sample. Raises DataError for a file that is not there or when
    nothing is listed, and what load_images raises.
    """
    inputs = [inputs] if isinstance(inputs, str) else list(inputs)
    if not inputs:
        raise DataError("no picture was given; name files, folders or a spec such as visus:emoji")
    sets: list[ImageSet] = []
    loose: list[str] = []

    def flush() -> None:
        if loose:
            sets.append(_listed(list(loose)))
            loose.clear()

    for text in inputs:
        check_address(text)
        path = expanded(text)
        if _is_file(path) and path.suffix.lower() not in TABLES:
            loose.append(str(path))
        elif path.suffix.lower() in FILES and ":" not in text and not path.exists():
            raise DataError(f"there is no file {text}; check the path")
        else:
            flush()
            if len(inputs) > 1 and is_output(path) and not any(map(looks_like_an_image, walk(path).files)):
                # As a shell lists them: visus predict *
                note(f"passed over, as visus wrote it: {text}")
                continue
            sets.append(load_images(text, classes="unused", download=download))
    flush()
    if not sets:
        raise DataError(f"{' '.join(inputs)}: nothing but what visus wrote itself; name pictures or folders of them")
    whole = _joined(sets)
    return whole.limit(limit, seed=seed), whole.quarantine


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or one with a null byte
        return False


def _listed(paths: list[str]) -> ImageSet:
    """Files as they are listed; ids are their names, or their paths where two share a name. What is no image goes aside with the reason."""
    paths = list(dict.fromkeys(paths))
    names = [os.path.basename(p) for p in paths]
    ids = [name if names.count(name) == 1 else p for name, p in zip(names, paths, strict=True)]
    wrong = [problem(Path(p)) for p in paths]
    good = [i for i, reason in enumerate(wrong) if reason is None]
    aside = tuple(Quarantined(ids[i], reason) for i, reason in enumerate(wrong) if reason is not None)
    source = FileSource("", tuple(paths[i] for i in good))
    images = ImageSet("files", source, np.arange(len(good)), tuple(ids[i] for i in good), quarantine=aside)
    remark_on_pixels(images)
    return images


def _joined(sets: Sequence[ImageSet]) -> ImageSet:
    starts = np.cumsum([0, *(len(s.source) for s in sets)])
    rows = np.concatenate([s.rows + start for s, start in zip(sets, starts[:-1], strict=True)])
    ids = [name for s in sets for name in s.ids]
    if len(set(ids)) < len(ids):
        ids = [f"{k + 1}/{name}" for k, s in enumerate(sets) for name in s.ids]
    quarantine = tuple(q for s in sets for q in s.quarantine)
    source = Joined(tuple(s.source for s in sets), tuple(int(s) for s in starts))
    return ImageSet(" ".join(s.name for s in sets), source, rows, tuple(ids), quarantine=quarantine)
