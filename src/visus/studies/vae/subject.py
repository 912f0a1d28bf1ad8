"""What a VAE study looks at: the pictures in memory as bytes, at one size, in three parts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.luma import luma

if TYPE_CHECKING:
    from collections.abc import Iterator

    from visus.images import ImageSet
    from visus.images.base import Quarantined

LARGEST = 64  # pixels a side, unless --size says more
LOOKED_AT = 256  # pictures whose sizes are asked before all are decoded
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Subject:
    """Pictures as uint8 [n, h, w, c] by part, in random order, with labels int64 [n] (or None) and the ids of all three.

    content: what tells these pictures from others. note: what was done to them. repeated: bool [n test], which test pictures are training
    pictures too; None where none is.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    labels: dict[str, np.ndarray] | None
    classes: tuple[str, ...]
    ids: dict[str, tuple[str, ...]]
    content: str
    note: str = ""
    quarantine: tuple[Quarantined, ...] = ()
    repeated: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, h, w, c = self.train.shape
        return c, h, w


# Precision and recall ask for the third nearest neighbour of every image among the others.
FEWEST = 4


def size_of(text: str | None) -> tuple[int, int] | None:
    """'32' -> (32, 32); '28x20' (height x width) -> (28, 20); None -> None. Raises DataError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+)\s*(?:[x×,]\s*(\d+))?\s*", text)
    if not found or min(sides := (int(found[1]), int(found[2] or found[1]))) < 4:
        raise DataError(f"--size {text!r} is no size; write 32, or 28x20 for height x width, at least 4 pixels")
    return sides


def load(
    imageset: ImageSet,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    seed: int,
    native: tuple[int, int, int] | None = None,
) -> Subject:
    """Decode the pictures once, split them by protocol P0, and leave out the colours of grey ones.

    size: (height, width), default their own where all share one of at most 64 pixels, else 64 x 64 out of the middle. channels: 1, 3, or None
    (1 where every picture is grey). native: (c, h, w) of a checkpoint, which decides where the user does not. Raises DataError: no
    picture that can be read, too few to split.
    """
    from visus.images.base import Quarantined
    from visus.models.preprocess import Preprocess
    from visus.training.batches import decoded

    if len(imageset.classes) < 2 and imageset.labels is not None:
        imageset = replace(imageset, labels=None, classes=())
    if native is not None:
        channels, size = channels or native[0], size or native[1:]
    own = own_size(imageset)
    height, width = size or own or (LARGEST, LARGEST)
    preprocess = Preprocess((height, width), (height, width), "bilinear", (0, 0, 0), (1, 1, 1), fit="cover")
    splits = imageset.split(seed=seed)
    fit, held = splits.folds[0]
    # In no order, so that the first of them are a sample.
    rng = np.random.default_rng(seed)
    rows = {name: rng.permutation(at) for name, at in zip(PARTS, (fit, held, splits.test), strict=True)}
    quarantine: list[Quarantined] = list(imageset.quarantine)
    parts: dict[str, np.ndarray] = {}
    for name, at in rows.items():
        unread: dict[int, str] = {}
        pictures = decoded(imageset, at, preprocess, what=name, unread=unread)
        if unread:
            quarantine += [Quarantined(imageset.ids[int(at[i])], reason) for i, reason in sorted(unread.items())]
            kept = np.setdiff1d(np.arange(len(at)), list(unread))
            rows[name], pictures = at[kept], pictures[kept]
        if not len(pictures):
            raise DataError(f"{imageset.name} has no {name} pictures that can be read; give more images")
        parts[name] = pictures
    if few := [name for name in ("train", "test") if len(parts[name]) < FEWEST]:
        have = " and ".join(f"{len(parts[name])} {'training' if name == 'train' else 'test'} images" for name in few)
        raise DataError(
            f"{imageset.name} gives {have}, and samples are judged beside {FEWEST} of each at least; give {5 * FEWEST} images or more"
        )
    grey = all((b[..., :1] == b).all() for p in parts.values() for b in _blocks(p))
    if channels is None:
        channels = 1 if grey else 3
    if channels == 1:
        parts = {name: p[..., :1].copy() if grey else _grey(p) for name, p in parts.items()}
    note = f"{height} x {width} pixels, {'grey' if channels == 1 else 'colour'}"
    if own != (height, width):
        note += ", resized and cropped from the middle"
    twice = _repeated(parts, imageset, rows)
    labels = None if imageset.labels is None else {name: imageset.labels[at] for name, at in rows.items()}
    kept_ids = {name: tuple(imageset.ids[int(i)] for i in at) for name, at in rows.items()}
    return Subject(
        imageset.name, parts["train"], parts["validation"], parts["test"], labels, imageset.classes, kept_ids,
        f"{imageset.fingerprint} {height}x{width}x{channels} {seed} {_content(parts)}",
        note, tuple(quarantine), twice,
    )  # fmt: skip


def _repeated(parts: dict[str, np.ndarray], imageset: ImageSet, rows: dict[str, np.ndarray]) -> np.ndarray | None:
    """bool [n test]: which test pictures are, as the VAE sees them, pictures that it is trained on, which flatters likelihood and memorisation.

    Said by name; None where none is.
    """
    import xxhash

    from visus.measures.repeats import repeats
    from visus.progress import caution

    pixels = np.array([xxhash.xxh3_128_hexdigest(p.tobytes()) for pictures in parts.values() for p in pictures])
    starts = np.cumsum([0, *(len(p) for p in parts.values())])
    place = {name: np.arange(a, b) for name, a, b in zip(parts, starts[:-1], starts[1:], strict=True)}
    twice = repeats(pixels, None, place["train"], place["test"])
    if not twice.count:
        return None
    ids = [imageset.ids[int(i)] for at in rows.values() for i in at]
    k = int(np.flatnonzero(twice.test)[0])
    pair = f"{ids[place['test'][k]]} = {ids[twice.duplicate_of[k]]}"
    caution(
        f"the same image in test and in training: {twice.count:,} of {len(twice.test):,} test pictures, pixel for pixel as the VAE sees "
        f"them ({pair}): test figures are flattered by them. The ELBO and likelihood without them stand "
        "beside."
    )
    return twice.test


def _content(parts: dict[str, np.ndarray]) -> str:
    """Hash of the pictures of every part, as the VAE sees them."""
    import xxhash

    h = xxhash.xxh3_128()
    for name, pictures in parts.items():
        h.update(f"{name} {pictures.shape}".encode())
        for block in _blocks(pictures):
            h.update(np.ascontiguousarray(block).data)
    return str(h.hexdigest())


def own_size(imageset: ImageSet) -> tuple[int, int] | None:
    """(height, width) that the pictures share, up to 64 pixels; None where they differ or are larger."""
    from visus.images.errors import DecodeError

    sizes: Counter[tuple[int, int]] = Counter()
    for i in np.unique(np.linspace(0, len(imageset) - 1, LOOKED_AT).astype(int)) if len(imageset) else ():
        try:
            width, height = imageset.decode(int(i)).size
        except DecodeError:
            continue
        sizes[height, width] += 1
    if len(sizes) != 1:
        return None
    (found,) = sizes
    return found if min(found) >= 4 and max(found) <= LARGEST else None


def _grey(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1]: luma of Rec. 601, as Pillow's mode L."""
    return np.concatenate([np.round(luma(b.astype(np.float32))).astype(np.uint8)[..., None] for b in _blocks(pictures)])


def _blocks(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures a few thousand at a time: a large set is many gigabytes as floats."""
    for start in range(0, len(pictures), 4096):
        yield pictures[start : start + 4096]


def shown(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] for a gallery, of [n, h, w, c]."""
    return np.ascontiguousarray(np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures)
