"""The images that a study was asked for."""

from __future__ import annotations

from visus.images import ImageSet, load_images
from visus.studies.common.options import ImageOptions


def load_imageset(
    asked: ImageOptions, *, seed: int, download: bool, classes: str = "needed", by_class: bool = False
) -> ImageSet:
    """The set, limited. classes: of a folder, as of `visus.load_images`; by_class: whether the limit keeps the shares of the classes."""
    imageset = load_images(
        asked.spec,
        labels=asked.labels,
        label_column=asked.label_column,
        groups=asked.groups,
        classes=classes,
        download=download,
    )
    return imageset.limit(asked.limit, seed=seed, by_class=by_class)
