"""Embeddings made elsewhere, checked and brought into a CLIP study: which rows are vectors of one image or text, and which are pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.measures.rows import unit_rows
from visus.progress import caution, note
from visus.studies.clip.embeddings.formats import read_columns
from visus.studies.clip.embeddings.names import NamedArrays, by_role
from visus.studies.clip.embeddings.pairs import PairedRows, paired
from visus.studies.clip.pairs import SCALE, PairedEmbeddings, keys_of
from visus.studies.clip.same import class_like, pairs_text, same_vectors

LOGARITHM = 6.0  # below it a logit_scale is the logarithm that CLIP and SigLIP learn (at most ln 100 = 4.6 in CLIP), above it the factor


def from_file(path: Path) -> PairedEmbeddings:
    """Embeddings made elsewhere: npz, Parquet, safetensors, pt, or a folder of npy files.

    images float [n, d], texts float [m, d]; with n = m row i of both is a pair, else text_image int [m] says the row of each text's image; texts may
    be [n, k, d], k to each image. Optional: image_ids, text_ids (equal for equal ones; rows of one direction up to rounding are equal too), labels
    int [n], names [n] or bool [n, k]; classes [k] of text; class_texts float [k, d]; scale (or logit_scale, temperature).
    Without class_texts a class's row is the mean of its images' unit texts, with a warning where these differ. Raises DataError otherwise.
    """
    columns = by_role(read_columns(path), path)
    pairs, scale = paired(columns, path), _scale(columns.found, path)
    same_images = same_vectors(pairs.images, "images", path, ids=pairs.image_ids)
    same_texts = same_vectors(pairs.texts, "texts", path, ids=pairs.text_ids)
    image_keys, text_keys = keys_of(same_images[pairs.image_rows]), keys_of(same_texts[pairs.text_rows])
    texts = pairs.texts[pairs.text_rows]
    labels, classes = _labels(columns.found, len(pairs.images), pairs, path)
    classifiers: dict[str, np.ndarray] = {}
    warnings: tuple[str, ...] = ()
    distinct = len(np.unique(text_keys))
    if labels is not None and len(classes) > 1:
        classifiers = {"the file's": unit_rows(_class_texts(columns.found, texts, labels, len(classes), path))}
        if "class_texts" not in columns.found and distinct > len(classes):
            warnings = (
                f"{path.name} has no class_texts: a class is the mean of its own pairs' texts, which flatters the zero-shot figures.",
            )
        _check_labels(labels, image_keys)
    if len(np.unique(image_keys)) == 1:
        raise DataError(
            f"{path}: all {len(pairs.images):,} images are one vector, so that nothing can tell them apart; check how they were made"
        )
    if distinct == 1:
        caution(f"All {len(texts):,} texts of {path.name} are the same: every image finds its own, which says nothing.")
    are_classes = class_like(image_keys, text_keys, labels if labels is not None and labels.ndim == 1 else None)
    _note(columns, pairs)
    note(pairs_text(image_keys, text_keys, are_classes=are_classes))
    return PairedEmbeddings(
        name=path.name,
        images=pairs.images[pairs.image_rows],
        texts=texts,
        image_keys=image_keys,
        text_keys=text_keys,
        ids=_names(columns.found, pairs, len(texts)),
        texts_are_classes=are_classes,
        labels=labels,
        classes=classes,
        classifiers=classifiers,
        templates={name: 1 for name in classifiers},
        scale=SCALE if scale is None else scale,
        warnings=warnings,
        provenance={"scale": f"{SCALE:g}, CLIP's, as none was given" if scale is None else "given"},
    )


def _note(columns: NamedArrays, pairs: PairedRows) -> None:
    """How the file was read."""
    sources = [
        f"{role} from {columns.names[role]} [{len(rows):,}, {rows.shape[1]}]"
        for role, rows in (("images", pairs.images), ("texts", pairs.texts))
    ]
    ignored = f"; not used: {', '.join(columns.ignored)}" if columns.ignored else ""
    note(f"embeddings: {', '.join(sources)}; {pairs.how}{ignored}")


def _check_labels(labels: np.ndarray, image_keys: np.ndarray) -> None:
    """A caution where rows of one image bear different labels."""
    first = np.unique(image_keys, return_index=True)[1]
    differ = labels != labels[first][image_keys]
    differ = differ.any(axis=1) if differ.ndim == 2 else differ
    if differ.any():
        several = len(np.unique(image_keys[differ]))
        caution(f"{several:,} images have different labels in different rows; their first is taken.")


def _names(found: Mapping[str, np.ndarray], pairs: PairedRows, n: int) -> tuple[str, ...]:
    """What the images are called in tables."""
    for role in ("image_ids", "ids"):
        column = found.get(role)
        if column is None or column.ndim != 1:
            continue
        if len(column) == len(pairs.images):
            return tuple(str(v) for v in column[pairs.image_rows])
        if len(column) == n:
            return tuple(str(v) for v in column)
    return tuple(f"row {int(i)}" for i in pairs.image_rows)


def _scale(found: Mapping[str, np.ndarray], path: Path) -> float | None:
    """What cosines are multiplied by: given as it is, as its logarithm (CLIP's parameter logit_scale) or inverted; None where it is not given."""
    given = [role for role in ("scale", "logit_scale", "temperature") if role in found]
    if not given:
        return None
    role = given[0]
    try:
        value = float(np.asarray(found[role]).reshape(()))
    except ValueError as error:
        raise DataError(
            f"{path}: {role} is no single number; save the model's inverse temperature, as 100.0"
        ) from error
    scale = value
    if role == "temperature":
        scale = 1 / value if value else np.inf
    elif role == "logit_scale" and value < LOGARITHM:
        scale = float(np.exp(value))
    if role != "scale":
        note(f"embeddings: {role} {value:g} is read as a scale of {scale:.4g}")
    if not 0 < scale < np.inf:
        raise DataError(f"{path}: {role} is {value:g}; save the model's inverse temperature as scale, as 100.0")
    return scale


def _labels(
    columns: Mapping[str, np.ndarray], images: int, pairs: PairedRows, path: Path
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of the pairs, int64 [p] or bool [p, k], and the names of the classes."""
    if columns.get("labels") is None:
        return None, ()
    y, n = np.asarray(columns["labels"]), len(pairs.image_rows)
    if y.ndim == 0 or len(y) not in (images, n):
        raise DataError(f"{path}: {y.size:,} labels for {n:,} pairs; save one for each")
    y = y[pairs.image_rows] if len(y) == images else y
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind != "b":
        y = y[:, 0]
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.rint(y)).all():
        y = y.astype(np.int64)  # whole numbers, as pandas and torch keep them at times
    if y.ndim == 1 and y.dtype.kind in "iu" and y.min() < 0:
        raise DataError(
            f"{path}: {int((y < 0).sum()):,} labels are below 0 (the first in row {int(np.flatnonzero(y < 0)[0])}); leave pairs without a class out"
        )
    several = y.ndim == 2 and y.dtype.kind in "biu" and not (y.astype(np.int64) >> 1).any()
    if y.ndim == 1 and y.dtype.kind == "U":
        names, y = np.unique(y, return_inverse=True)
    else:
        names = None
    if not several and (y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0):
        raise DataError(
            f"{path}: labels are {y.dtype} {list(y.shape)}; they must be whole numbers from 0 or names [n], or bool [n, k]"
        )
    k = y.shape[1] if several else int(y.max()) + 1
    classes = tuple(str(c) for c in (columns.get("classes", np.arange(k)) if names is None else names))
    if len(classes) < k or (several and len(classes) != k):
        raise DataError(f"{path}: labels count {k} classes, and {len(classes)} have names")
    return y.astype(bool if several else np.int64), classes


def _class_texts(
    columns: Mapping[str, np.ndarray], texts: np.ndarray, labels: np.ndarray, k: int, path: Path
) -> np.ndarray:
    if "class_texts" in columns:
        rows = _matrix_of(columns["class_texts"], k, texts.shape[1], path)
        return rows
    belongs = labels.T if labels.ndim == 2 else np.arange(k)[:, None] == labels
    empty = np.flatnonzero(~belongs.any(axis=1))
    if len(empty):
        raise DataError(
            f"{path}: class {int(empty[0])} has no image, so no text either; save class_texts [k, d], or renumber the labels"
        )
    return np.stack([unit_rows(texts[b]).mean(axis=0) for b in belongs])


def _matrix_of(value: Any, k: int, d: int, path: Path) -> np.ndarray:
    x = np.asarray(value)
    if x.shape != (k, d) or x.dtype.kind not in "fiu" or not np.isfinite(x).all() or not x.any(axis=1).all():
        raise DataError(
            f"{path}: class_texts are {x.dtype} {list(x.shape)}; {k} classes in this space need finite numbers [{k}, {d}], no row all zeros"
        )
    return x.astype(np.float32)
