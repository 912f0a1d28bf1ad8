"""The images of a ViT study: those that models are measured on, and those that are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.images import ImageSet
from visus.images.gather import gather
from visus.progress import task
from visus.studies.vit.evaluated import EvaluatedModel
from visus.studies.vit.options import Options


@dataclass(frozen=True)
class DecodableImages:
    """Images that decode, their height and width in pixels, int64 [n, 2]; warnings: of the others."""

    images: ImageSet
    sizes: np.ndarray
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class EvaluatedImages:
    """test: the images that models are measured on, all of which decode. shown: those to look at. warnings: of what was left out."""

    test: ImageSet
    shown: ImageSet
    warnings: tuple[str, ...]


def select_images(imageset: ImageSet, transformers: Sequence[EvaluatedModel], options: Options) -> EvaluatedImages:
    """The test images of a labelled set, or all of one without labels, and the images to look at: of it, or those that the user chose.

    Raises DataError where none decodes, or a chosen one is smaller than a patch.
    """
    whole = imageset if imageset.labels is None else imageset.subset(imageset.split(seed=options.seed).test)
    decodable = find_decodable(whole)
    test = decodable.images
    warnings = [*decodable.warnings, *smaller_than_a_patch(transformers, decodable)]
    if not options.chosen:
        return EvaluatedImages(test, of_different_classes(test, options.shown, options.seed), tuple(warnings))
    chosen, aside = gather(options.chosen, limit=None, seed=options.seed, download=options.download)
    seen = find_decodable(chosen)
    if tiny := smaller_than_a_patch(transformers, seen):
        raise DataError(f"{tiny[0].rstrip('.')}; give a larger picture")
    warnings += [_left_out(q.id, q.reason) for q in aside]
    return EvaluatedImages(test, seen.images, (*warnings, *seen.warnings))


def find_decodable(images: ImageSet) -> DecodableImages:
    """Decode the images once. Raises DataError where none decodes."""
    good, sizes, bad = [], [], []
    with task("checking images", len(images)) as progress:
        for i in range(len(images)):
            try:
                image = images.decode(i)
                good.append(i)
                sizes.append((image.height, image.width))
            except DataError as error:
                bad.append((images.ids[i], str(error)))
            progress.advance()
    if not good:
        raise DataError(
            f"no picture to look at in {images.name} can be read ({bad[0][0]}: {bad[0][1]}); mend the files"
            if bad
            else f"{images.name} has no pictures to look at; give more"
        )
    warnings = tuple(_left_out(name, reason) for name, reason in bad)
    return DecodableImages(images.subset(np.array(good, np.int64)), np.array(sizes, np.int64), warnings)


def _left_out(name: str, reason: str) -> str:
    return f"{name} cannot be read and is left out: {reason}."


def smaller_than_a_patch(models: Sequence[EvaluatedModel], decodable: DecodableImages) -> list[str]:
    """A sentence for every vision transformer one of whose patches is larger than some image is before it is resized."""
    found = []
    for model in models:
        if model.layout is None:
            continue
        down, across = model.layout.patch
        tiny = np.flatnonzero((decodable.sizes < (down, across)).any(axis=1))
        if len(tiny):
            height, width = decodable.sizes[tiny[0]]
            others = f", and {len(tiny) - 1:,} more" if len(tiny) > 1 else ""
            found.append(
                f"{decodable.images.ids[tiny[0]]} ({height} x {width} pixels{others}) is smaller than a patch of {model.spec} "
                f"({down} x {across}): enlarged, its maps would show nothing that is in it."
            )
    return found


def of_different_classes(images: ImageSet, n: int, seed: int) -> ImageSet:
    """n of the images, of different classes as far as there are so many."""
    order = np.random.default_rng(seed).permutation(len(images))
    if images.labels is None:
        return images.subset(order[:n])
    _, first = np.unique(images.labels[order], return_index=True)
    ahead = order[np.sort(first)]
    rest = order[~np.isin(order, ahead)]
    return images.subset(np.concatenate([ahead, rest])[:n])
