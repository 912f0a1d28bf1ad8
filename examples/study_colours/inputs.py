"""What the study looks at: labelled images with their split, and the mean colour of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.images import DecodeError, ImageSet, Quarantined, Splits, load_images
from visus.progress import task
from visus.studies.colours.options import Options
from visus.studies.common.labels import labels_of


@dataclass(frozen=True)
class ColouredImages:
    """The images that could be decoded. x: float32 [n, 3], mean red, green and blue in [0, 1]; y: int64 [n]; quarantine: the others."""

    imageset: ImageSet
    splits: Splits
    x: np.ndarray
    y: np.ndarray
    quarantine: tuple[Quarantined, ...]


def load_coloured(options: Options) -> ColouredImages:
    """Decode every image once. Raises DataError where they have no labels, or too few images are left to split."""
    imageset = load_images(
        options.images,
        labels=options.labels,
        label_column=options.label_column,
        groups=options.groups,
        download=options.download,
    )
    imageset = imageset.limit(options.limit, seed=options.seed, by_class=True)
    labels_of(imageset)
    x, decoded, aside = [], [], list(imageset.quarantine)
    with task("looking at colours", len(imageset)) as progress:
        for i, name in enumerate(imageset.ids):
            try:
                x.append(np.asarray(imageset.decode(i), np.float32).mean(axis=(0, 1)) / 255)
                decoded.append(i)
            except DecodeError as error:
                aside.append(Quarantined(name, str(error)))
            progress.advance()
    valid = imageset.subset(np.array(decoded, np.int64))
    splits = valid.split(seed=options.seed)
    return ColouredImages(valid, splits, np.array(x, np.float32), labels_of(valid), tuple(aside))
