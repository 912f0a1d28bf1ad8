"""Which images and which texts of a CLIP study are the same, and whether its texts are class names or captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.measures.partners import NOISE, either, precision_of, same_rows, spread
from visus.measures.rows import unit_rows
from visus.progress import caution, note

CLASS_LIKE = 10  # different images that the typical text has, at least, where texts are class names
FEW, FEW_EACH = 20, 3  # or where texts are fewer than FEW, which are too few to split by
FAR = 0.5  # of the spread: vectors that far apart are not one image computed twice


def same_vectors(x: np.ndarray, what: str, path: Path, *, ids: np.ndarray | None = None) -> np.ndarray:
    """int64 [n]: equal for equal images (or texts) of a file: vectors of one direction up to the rounding of their type, or of one id.

    x: [n, d] as it came. Where half of the rows and more have a double only at the coarser rounding of half precision, and none is a little further
    off, they were computed in half precision, whatever type holds them. Raises DataError for vectors of one id that lie apart.
    """
    code = same_rows(x)
    found = len(np.unique(code))
    if ids is not None:
        _check_ids(x, ids, what, path)
        return either(code, ids)
    own = NOISE[precision_of(x)]
    if len(np.unique(same_rows(x, noise=max(NOISE["bfloat16"], own)))) == found:
        return code
    for name in ("float16", "bfloat16"):
        coarse = same_rows(x, noise=max(NOISE[name], own))
        left = len(np.unique(coarse))
        if 2 * left <= found and len(np.unique(same_rows(x, noise=4 * NOISE[name], share=0.1))) == left:
            note(
                f"embeddings: {len(x):,} {what} are {left:,} up to the rounding of {name}, in which they seem to have been computed"
            )
            return coarse
    caution(
        f"{found - left:,} of {found:,} different {what} lie within {100 * NOISE['float16']:.1g} % of another and count as different; "
        f"if they are the same, save {what[:-1]}_ids."
    )
    return code


def _check_ids(x: np.ndarray, ids: np.ndarray, what: str, path: Path) -> None:
    """Raise DataError where rows of one id are not one vector, not even nearly."""
    rows = unit_rows(x)
    _, first, mine = np.unique(ids, return_index=True, return_inverse=True)
    of = first[mine.reshape(-1)]
    apart = np.linalg.norm(rows - rows[of], axis=1)
    far = np.flatnonzero(apart > FAR * spread(x)) if len(first) > 1 else np.array([], int)
    if len(far):
        a, b = int(of[far[0]]), int(far[0])
        raise DataError(
            f"{path}: rows {a} and {b} of {what} have one id (or wording) and different vectors (cosine {float(rows[a] @ rows[b]):.2f}); give each "
            f"{what[:-1]} one vector, or leave these out"
        )


def class_like(image_keys: np.ndarray, text_keys: np.ndarray, labels: np.ndarray | None) -> bool:
    """Whether texts are class names, few for many images, and not captions.

    image_keys, text_keys, labels: int64 [n]. So they are where every class has one text of its own and several images, or where half of the
    texts and more have at least CLASS_LIKE images each (FEW_EACH, where texts are few).
    """
    if len(np.unique(image_keys)) < FEW_EACH * len(np.unique(text_keys)) and labels is None:
        return False
    pairs = np.unique(np.stack([text_keys, image_keys], axis=1), axis=0)
    images_of = np.unique(pairs[:, 0], return_counts=True)[1]
    if len(images_of) < 2:
        return False
    if labels is not None:
        classes = len(np.unique(labels))
        joint = len(np.unique(np.stack([text_keys, labels], axis=1), axis=0))
        if joint == classes == len(images_of) and 2 * classes <= len(np.unique(image_keys)):
            return True
    return bool(np.median(images_of) >= (FEW_EACH if len(images_of) < FEW else CLASS_LIKE))


def pairs_text(image_keys: np.ndarray, text_keys: np.ndarray, *, are_classes: bool) -> str:
    """How many images and texts the pairs have, and what the texts were taken for."""
    n, images, texts = len(image_keys), len(np.unique(image_keys)), len(np.unique(text_keys))
    counts = f"{n:,} pairs are {images:,} different images and {texts:,} different texts"
    if are_classes:
        return f"texts: {counts}, few for many images: taken as class names; fitted and held-out pairs share no image, but class names"
    repeated = images < n or texts < n
    return f"texts: {counts}, taken as captions" + (
        "; any partner of a query counts as right, and fitted and held-out pairs share neither image nor text"
        if repeated
        else ""
    )
