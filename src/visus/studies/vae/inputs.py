"""What a VAE study looks at: the images in memory as bytes, at one size, in three parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from visus.errors import DataError
from visus.images import DecodeError, ImageSet, Quarantined
from visus.luma import luma
from visus.measures.repeats import repeats
from visus.models.preprocess import Preprocess
from visus.progress import caution
from visus.training.batches import decoded

LARGEST = 64  # pixels a side, unless --size says more
PROBED = 256  # images whose sizes are asked before all are decoded
PARTS = ("train", "validation", "test")
# Precision and recall ask for the third nearest neighbour of every image among the others.
FEWEST = 4


@dataclass(frozen=True)
class ImageArrays:
    """Images as uint8 [n, h, w, c] by part, in random order, with labels int64 [n] (or None) and the ids of all three.

    content: what tells these images from others. note: what was done to them. repeated: bool [n test], which test images are training
    images too; None where none is.
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


@dataclass(frozen=True)
class _Decoded:
    """arrays: uint8 [n, h, w, 3] by part; rows: int64 positions in the ImageSet of what could be decoded; quarantine: of what could not."""

    arrays: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    quarantine: tuple[Quarantined, ...]


def load_arrays(
    imageset: ImageSet,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    seed: int,
    native: tuple[int, int, int] | None = None,
) -> ImageArrays:
    """Decode the images once, split them by protocol P0, and leave out the colours of grey ones.

    size: (height, width), default their own where all share one of at most 64 pixels, else 64 x 64 out of the middle. channels: 1, 3, or None
    (1 where every image is grey). native: (c, h, w) of a checkpoint, which decides where the user does not. Raises DataError: no
    image that can be read, too few to split.
    """
    if len(imageset.classes) < 2 and imageset.labels is not None:
        imageset = replace(imageset, labels=None, classes=())
    if native is not None:
        channels, size = channels or native[0], size or native[1:]
    own = own_size(imageset)
    height, width = size or own or (LARGEST, LARGEST)
    found = _decode(imageset, (height, width), seed=seed)
    arrays, channels = _in_channels(found.arrays, channels)
    note = f"{height} x {width} pixels, {'grey' if channels == 1 else 'colour'}"
    if own != (height, width):
        note += ", resized and cropped from the middle"
    labels = None if imageset.labels is None else {name: imageset.labels[at] for name, at in found.rows.items()}
    ids = {name: tuple(imageset.ids[int(i)] for i in at) for name, at in found.rows.items()}
    return ImageArrays(
        name=imageset.name,
        train=arrays["train"],
        validation=arrays["validation"],
        test=arrays["test"],
        labels=labels,
        classes=imageset.classes,
        ids=ids,
        content=f"{imageset.fingerprint} {height}x{width}x{channels} {seed} {_content(arrays)}",
        note=note,
        quarantine=found.quarantine,
        repeated=_repeated(arrays, ids),
    )


def _decode(imageset: ImageSet, size: tuple[int, int], *, seed: int) -> _Decoded:
    """Every part in random order, without what cannot be read. Raises DataError where too few are left."""
    preprocess = Preprocess(size, size, "bilinear", (0, 0, 0), (1, 1, 1), fit="cover")
    splits = imageset.split(seed=seed)
    fit, held = splits.folds[0]
    # In no order, so that the first of them are a sample.
    rng = np.random.default_rng(seed)
    rows = {name: rng.permutation(at) for name, at in zip(PARTS, (fit, held, splits.test), strict=True)}
    quarantine = list(imageset.quarantine)
    arrays: dict[str, np.ndarray] = {}
    for name, at in rows.items():
        unread: dict[int, str] = {}
        images = decoded(imageset, at, preprocess, what=name, unread=unread)
        if unread:
            quarantine += [Quarantined(imageset.ids[int(at[i])], reason) for i, reason in sorted(unread.items())]
            valid = np.setdiff1d(np.arange(len(at)), list(unread))
            rows[name], images = at[valid], images[valid]
        if not len(images):
            raise DataError(f"{imageset.name} has no {name} pictures that can be read; give more images")
        arrays[name] = images
    if few := [name for name in ("train", "test") if len(arrays[name]) < FEWEST]:
        have = " and ".join(f"{len(arrays[name])} {'training' if name == 'train' else 'test'} images" for name in few)
        raise DataError(
            f"{imageset.name} gives {have}, and samples are judged beside {FEWEST} of each at least; give {5 * FEWEST} images or more"
        )
    return _Decoded(arrays, rows, tuple(quarantine))


def _in_channels(arrays: dict[str, np.ndarray], channels: int | None) -> tuple[dict[str, np.ndarray], int]:
    """The images with 1 or 3 channels: as asked, else 1 where all are grey."""
    grey = all((b[..., :1] == b).all() for p in arrays.values() for b in _blocks(p))
    if channels is None:
        channels = 1 if grey else 3
    if channels == 1:
        arrays = {name: p[..., :1].copy() if grey else _grey(p) for name, p in arrays.items()}
    return arrays, channels


def _repeated(arrays: dict[str, np.ndarray], ids: dict[str, tuple[str, ...]]) -> np.ndarray | None:
    """bool [n test]: which test images are, as the VAE sees them, images that it is trained on, which flatters likelihood and memorisation.

    Said by name; None where none is.
    """
    pixels = np.array([xxhash.xxh3_128_hexdigest(p.tobytes()) for images in arrays.values() for p in images])
    starts = np.cumsum([0, *(len(p) for p in arrays.values())])
    place = {name: np.arange(a, b) for name, a, b in zip(arrays, starts[:-1], starts[1:], strict=True)}
    found = repeats(pixels, None, place["train"], place["test"])
    if not found.count:
        return None
    names = [name for part in arrays for name in ids[part]]
    k = int(np.flatnonzero(found.test)[0])
    pair = f"{names[place['test'][k]]} = {names[found.duplicate_of[k]]}"
    caution(
        f"the same image in test and in training: {found.count:,} of {len(found.test):,} test pictures, pixel for pixel as the VAE sees "
        f"them ({pair}): test figures are flattered by them. The ELBO and likelihood without them stand "
        "beside."
    )
    return found.test


def _content(arrays: dict[str, np.ndarray]) -> str:
    """Hash of the images of every part, as the VAE sees them. Trainings are found again by it: it may not change."""
    h = xxhash.xxh3_128()
    for name, images in arrays.items():
        h.update(f"{name} {images.shape}".encode())
        for block in _blocks(images):
            h.update(np.ascontiguousarray(block).data)
    return str(h.hexdigest())


def own_size(imageset: ImageSet) -> tuple[int, int] | None:
    """(height, width) that the images share, up to 64 pixels; None where they differ or are larger."""
    sizes: Counter[tuple[int, int]] = Counter()
    for i in np.unique(np.linspace(0, len(imageset) - 1, PROBED).astype(int)) if len(imageset) else ():
        try:
            width, height = imageset.decode(int(i)).size
        except DecodeError:
            continue
        sizes[height, width] += 1
    if len(sizes) != 1:
        return None
    (found,) = sizes
    return found if min(found) >= 4 and max(found) <= LARGEST else None


def _grey(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1]: luma of Rec. 601, as Pillow's mode L."""
    return np.concatenate([np.round(luma(b.astype(np.float32))).astype(np.uint8)[..., None] for b in _blocks(images)])


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images a few thousand at a time: a large set is many gigabytes as floats."""
    for start in range(0, len(images), 4096):
        yield images[start : start + 4096]


def as_rgb(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] for a gallery, of [n, h, w, c]."""
    return np.ascontiguousarray(np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images)
