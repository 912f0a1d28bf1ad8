"""Arrays of images and texts -> vectors and pairs of rows, where one reading alone is possible; a refusal in one line where not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.progress import note
from visus.studies.clip.embeddings.names import NamedArrays

WIDTHS = (
    64, 96, 128, 192, 256, 320, 384, 512, 576, 640, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2560, 3072, 3584, 4096,
)  # fmt: skip
"""Dimensions that spaces of images and texts usually have."""


@dataclass(frozen=True)
class PairedRows:
    """images float [n, d], texts float [m, d], as they came. image_rows, text_rows: int64 [p], rows of each pair. image_ids [n], text_ids [m]: equal
    for what the file says is one image or text, or None. how: how pairs were read, in words."""

    images: np.ndarray
    texts: np.ndarray
    image_rows: np.ndarray
    text_rows: np.ndarray
    image_ids: np.ndarray | None
    text_ids: np.ndarray | None
    how: str


def paired(columns: NamedArrays, path: Path) -> PairedRows:
    """Vectors and pairs of a file's arrays. Raises DataError where they do not fit, or fit in more than one way."""
    found = columns.found
    images, texts = (_squeezed(found[n], n, path) for n in ("images", "texts"))
    if images.ndim == 2 and texts.ndim == 2:
        images, texts = _upright(images, texts, columns, path)
    rows: tuple[np.ndarray, np.ndarray] | None = None
    how = "row by row"
    if images.ndim == 3 or texts.ndim == 3:
        images, texts, rows, how = _flattened(images, texts, path)
    for name, x in (("images", images), ("texts", texts)):
        _check(x, name, path)
    if images.shape[1] != texts.shape[1]:
        raise DataError(
            f"{path}: images have {images.shape[1]} dimensions, texts {texts.shape[1]}; take both from the shared space"
        )
    if rows is None:
        rows, how = _linked(columns, len(images), len(texts), path)
    if len(rows[0]) < 4:
        raise DataError(f"{path} holds {len(rows[0])} pairs; at least 4 are needed")
    lost = len(images) - len(np.unique(rows[0])), len(texts) - len(np.unique(rows[1]))
    for left, what, other in ((lost[0], "images", "text"), (lost[1], "texts", "image")):
        if left:
            note(f"embeddings: {left:,} {what} have no {other} and are left out")
    return PairedRows(
        images, texts, *rows, _ids(found.get("image_ids"), len(images), rows[0]), _ids(_text_ids(columns), len(texts), rows[1]), how
    )  # fmt: skip


def _text_ids(columns: NamedArrays) -> np.ndarray | None:
    """Words where there are, which are equal for equal texts; else ids."""
    return columns.found.get("captions", columns.found.get("text_ids"))


def _ids(ids: np.ndarray | None, n: int, rows: np.ndarray) -> np.ndarray | None:
    """Ids of the n rows of one side; given for the pairs they are brought there."""
    if ids is None or ids.ndim != 1 or len(ids) not in (n, len(rows)):
        return None
    codes: np.ndarray = np.unique(ids, return_inverse=True)[1].reshape(-1)
    if len(ids) == n:
        return codes
    found = np.full(n, -1)
    found[rows] = codes
    return found if (found[rows] == codes).all() and (found >= 0).all() else None


def _squeezed(x: np.ndarray, name: str, path: Path) -> np.ndarray:
    """[n, 1, d] and [1, n, d] -> [n, d]."""
    if x.ndim == 3 and 1 in x.shape[:2]:
        x = x[:, 0] if x.shape[1] == 1 else x[0]
    if x.dtype == np.uint8:
        raise DataError(
            f"{path}: {name} are uint8, packed bits or shifted integers, which have no cosines as they are; save floats"
        )
    return x


def _upright(images: np.ndarray, texts: np.ndarray, columns: NamedArrays, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """[d, n] -> [n, d] where something says so: vectors of unit length, or as many labels or ids as columns. Raises where nothing can."""
    if images.shape == texts.shape and len(images) != images.shape[1]:
        d, n = images.shape
        lengths = {
            len(a)
            for role, a in columns.found.items()
            if role in ("labels", "ids", "image_ids", "text_ids", "captions")
        }
        along, across = (all(_unit_length(x, axis) for x in (images, texts)) for axis in (1, 0))
        if (n in lengths and d not in lengths) or (across and not along and d not in lengths):
            note(
                f"embeddings: [{d:,}, {n:,}] are read as {n:,} pairs of {d} dimensions, as columns have "
                + ("labels or ids" if n in lengths else "unit length")
            )
            return images.T, texts.T
        if not along and not lengths and n > d and d in WIDTHS and n not in WIDTHS:
            raise DataError(
                f"{path}: images and texts are [{d:,}, {n:,}], which may be {d:,} pairs or {d:,} dimensions; save them as [n, d] with ids [n]"
            )
    elif images.shape[0] == texts.shape[0] and images.shape[1] != texts.shape[1]:
        d, (n, m) = images.shape[0], (images.shape[1], texts.shape[1])
        links = [len(columns.found[r]) for r in ("text_image", "image_text") if r in columns.found]
        if m in links or n in links or all(_unit_length(x, 0) for x in (images, texts)):
            note(f"embeddings: images [{d:,}, {n:,}] and texts [{d:,}, {m:,}] are read as columns of {d} dimensions")
            return images.T, texts.T
    return images, texts


def _unit_length(x: np.ndarray, axis: int) -> bool:
    if x.dtype.kind != "f":
        return False
    lengths = np.linalg.norm(np.asarray(x, np.float64), axis=axis)
    return bool(np.all(np.abs(lengths - 1) < 1e-2))


def _flattened(
    images: np.ndarray, texts: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], str]:
    """[n, k, d] of one side, k to each row of the other, as rows; rows of zeros or NaN fill up an image that has fewer."""
    shapes = f"images are {list(images.shape)}, texts {list(texts.shape)}"
    if images.ndim == texts.ndim or images.ndim > 3 or texts.ndim > 3:
        raise DataError(
            f"{path}: {shapes}: which belong together is open; save images [n, d] and texts [n, k, d], or [m, d] with text_image [m]"
        )
    many, few = (texts, images) if texts.ndim == 3 else (images, texts)
    if many.shape[0] != len(few) and many.shape[1] == len(few):
        many = many.swapaxes(0, 1)
    if many.shape[0] != len(few):
        raise DataError(f"{path}: {shapes}, which are not pairs; save one row of several for each of the other")
    n, k, d = many.shape
    flat, owner = many.reshape(n * k, d), np.repeat(np.arange(n), k)
    filling = ((flat == 0) | ~np.isfinite(flat.astype(np.float64))).all(axis=1)
    flat, owner = flat[~filling], owner[~filling]
    bare = n - len(np.unique(owner))
    what, other = ("texts", "images") if texts.ndim == 3 else ("images", "texts")
    if bare:
        raise DataError(f"{path}: {bare:,} of {n:,} {other} have no {what} but zeros or NaN; leave them out")
    filled = f", {n * k - len(flat):,} rows of zeros or NaN left out as filling" if len(flat) < n * k else ""
    how = f"{'up to ' if filled else ''}{k} {what} to each of the {other}{filled}"
    at = np.arange(len(flat))
    return (few, flat, (owner, at), how) if texts.ndim == 3 else (flat, few, (at, owner), how)


def _linked(columns: NamedArrays, n: int, m: int, path: Path) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """(rows of images, rows of texts) of every pair, and how it was told."""
    found, names = columns.found, columns.names
    for role, many, few, ids in (("text_image", m, n, "image_ids"), ("image_text", n, m, "text_ids")):
        link = found.get(role)
        if link is None and m != n:  # ids of the shorter side, one for each row of the longer
            link, role = (found[ids], ids) if ids in found and len(found[ids]) == many and many > few else (None, role)
            known = None
        else:
            known = found.get(ids)
        if link is None or (m == n and role == "image_text" and "text_image" in found):
            continue
        if link.ndim == 2:
            return _by_matrix(link, role, n, m, names[role], path)
        at = _resolved(link, known, many, few, names[role], path)
        here = np.arange(many)
        how = f"pairs by {names[role]}"
        return ((at, here), how) if many == m and ids == "image_ids" else ((here, at), how)
    if n != m:
        times = (
            f" (text_image [{m:,}]: the row of each text's image)"
            if m > n
            else f" (image_text [{n:,}]: the row of each image's text)"
        )
        raise DataError(
            f"{path}: {n:,} images and {m:,} texts are not pairs; save one text a row for each image, or say which belong together{times}"
        )
    return (np.arange(n), np.arange(n)), "row by row"


def _by_matrix(
    link: np.ndarray, role: str, n: int, m: int, name: str, path: Path
) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """Pairs from a table: bool, or 0 and 1, [n, m] of image_text or [m, n] of text_image; or rows of the other side [n, k], filled up with -1."""
    many, few = (m, n) if role == "text_image" else (n, m)
    if link.dtype.kind not in "biu" or len(link) != many:
        raise DataError(
            f"{path}: {name} is {link.dtype} {list(link.shape)}; it must be rows from 0, or bool {[many, few]}"
        )
    if link.dtype.kind == "b" or (link.shape[1] == few and few > 2 and bool(((link == 0) | (link == 1)).all())):
        if link.shape[1] != few or not link.any():
            raise DataError(
                f"{path}: {name} is {link.dtype} {list(link.shape)}; it must be {[many, few]}, some of it true"
            )
        a, b = np.nonzero(link)
    else:
        if int(link.max()) >= few or int(link.min()) < -1:
            raise DataError(f"{path}: {name} goes from {link.min()} to {link.max()}; rows go from 0 to {few - 1:,}")
        a, place = np.nonzero(link >= 0)
        b = link[a, place].astype(np.int64)
    return ((b, a) if role == "text_image" else (a, b)), f"pairs by the table {name}"


def _resolved(link: np.ndarray, known: np.ndarray | None, many: int, few: int, name: str, path: Path) -> np.ndarray:
    """int64 [many]: the row of the other side that each link names, by its id where ids [few] are known, else by its place."""
    if link.ndim != 1 or len(link) != many:
        raise DataError(f"{path}: {name} is {list(link.shape)}; save one for each of {many:,} rows")
    if link.dtype.kind == "f" and np.isfinite(link).all() and (link == np.rint(link)).all():
        link = link.astype(np.int64)  # whole numbers, as pandas keeps them beside gaps
    places = link.dtype.kind in "iu" and int(link.min()) >= 0 and int(link.max()) < few
    if known is not None and known.ndim == 1 and len(known) == few and known.dtype.kind == link.dtype.kind:
        if len(np.unique(known)) < few:
            raise DataError(
                f"{path}: {name} names ids, and some stand for several rows; give every row an id of its own"
            )
        order = np.argsort(known, kind="stable")
        at = np.minimum(np.searchsorted(known[order], link), few - 1)
        by_id = order[at]
        if (known[by_id] == link).all():
            if places and not np.array_equal(by_id, link):
                raise DataError(f"{path}: {name} may be rows or ids, which differ; give ids that are no row numbers")
            return np.asarray(by_id, np.int64)
    if not places:
        if link.dtype.kind in "iu" and int(link.min()) == 1 and int(link.max()) == few:
            raise DataError(f"{path}: {name} counts from 1 to {few:,}; count rows from 0")
        held = f"from {link.min()} to {link.max()}" if link.dtype.kind in "iu" else f"{link.dtype}"
        raise DataError(
            f"{path}: {name} is {held}; it must be rows from 0 to {few - 1:,}, or ids that the other side has as well"
        )
    return link.astype(np.int64)


def _check(x: np.ndarray, name: str, path: Path) -> None:
    if x.ndim != 2 or x.dtype.kind not in "fiu" or len(x) < 2 or x.shape[1] < 2:
        raise DataError(
            f"{path}: {name} is {x.dtype} {list(x.shape)}; it must be numbers [n, d], n of at least 4 and d of at least 2"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(x.astype(np.float32)).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{path}: {name} holds NaN or infinity, the first in row {int(np.flatnonzero(~finite)[0])}; mend it"
        )
    zero = np.flatnonzero(~x.any(axis=1))
    if len(zero):
        raise DataError(
            f"{path}: row {int(zero[0])} of {name} is all zeros, which has no direction; leave {len(zero)} such pairs out"
        )
