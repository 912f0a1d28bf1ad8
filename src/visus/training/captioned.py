"""Sets of captioned images: what each image is called, who drew it, and what another set adds to training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import DataError
from visus.training.batches import decoded
from visus.training.contrastive import CaptionedImages
from visus.training.parts import Parts

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.models.preprocess import Preprocess


def names_of(imageset: ImageSet) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct first captions, and int64 [n]: which one each image bears. Raises DataError for a set without captions."""
    if imageset.captions is None:
        raise DataError(
            f"{imageset.name} has no captions; put a metadata.csv with file_name,text beside the pictures, or use visus:emoji"
        )
    empty = [imageset.ids[i] for i, c in enumerate(imageset.captions) if not c or not c[0].strip()]
    if empty:
        raise DataError(
            f"{len(empty)} pictures of {imageset.name} have no caption, the first: {empty[0]}; give each one"
        )
    names, keys = np.unique([c[0] for c in imageset.captions], return_inverse=True)
    return tuple(str(n) for n in names), keys.astype(np.int64)


def artists(imageset: ImageSet) -> np.ndarray | None:
    """int64 [n]: who drew each image, where the set says so in its column 'artist'."""
    column = imageset.meta.get("artist")
    return None if column is None else np.unique(list(column), return_inverse=True)[1].astype(np.int64)


def candidates(keys: np.ndarray, part: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The names that a held-out part chooses from: all, where training knows most of the part's; else the part's own."""
    own = np.unique(keys[part])
    return np.unique(keys) if np.isin(own, keys[train]).mean() > 0.5 else own


def with_more(
    train: CaptionedImages, beside: ImageSet, imageset: ImageSet, parts: Parts, preprocess: Preprocess
) -> tuple[CaptionedImages, np.ndarray]:
    """The training images and, as half of every batch, those of another captioned set; and which of that set.

    Left out of it: copies of held-out images, and images with the name of a held-out one that training does not know.
    """
    names, keys = names_of(imageset)
    called, bears = names_of(beside)
    held = np.concatenate([parts.validation, parts.test])
    hidden = {names[k].lower() for k in np.setdiff1d(keys[held], keys[parts.train])}
    forbidden = {p.tobytes() for p in decoded(imageset, held, preprocess, what="held-out")}
    rows = np.flatnonzero([called[k].lower() not in hidden for k in bears])
    images = decoded(beside, rows, preprocess, what="beside")
    kept = np.array([p.tobytes() not in forbidden for p in images], bool)
    rows, images = rows[kept], images[kept]
    if not len(rows):
        raise DataError(f"{beside.name} holds nothing to train on beside {imageset.name}: all of it is held out")
    number = {name: k for k, name in enumerate(names)}
    fresh = np.array([number.get(name, len(names) + k) for k, name in enumerate(called)], np.int64)
    drawn = (
        np.zeros(len(train.keys), np.int64)
        if train.balance is None
        else np.unique(train.balance, return_inverse=True)[1]
    )
    hands = int(drawn.max()) + 1
    captions = beside.captions or ()
    found = CaptionedImages(
        np.concatenate([train.images, images]),
        [*train.captions, *(captions[i] for i in rows)],
        np.concatenate([train.keys, fresh[bears[rows]]]),
        np.concatenate([drawn, hands + np.arange(len(rows)) % hands]),
    )
    return found, rows


def unseen(
    shown: ImageSet, rows: np.ndarray, seen: Sequence[tuple[ImageSet, np.ndarray]], preprocess: Preprocess
) -> np.ndarray:
    """Of the positions `rows` of one set those whose image, as the network sees it, is none of the images at the positions of `seen`."""
    known = {p.tobytes() for other, own in seen for p in decoded(other, own, preprocess, what="training")}
    fresh = [p.tobytes() not in known for p in decoded(shown, rows, preprocess, what="zero-shot")]
    found: np.ndarray = rows[np.array(fresh, bool)]
    return found
