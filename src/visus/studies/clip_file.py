"""Embeddings made elsewhere, as npz or Parquet, checked and brought into a CLIP study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.studies.clip_subject import SCALE, Subject, unit


def from_file(path: Path) -> Subject:
    """Embeddings made elsewhere: npz or Parquet.

    npz: images, texts float [n, d]; optional: labels int [n] or bool [n, k]; classes [k] of text; class_texts float [k, d]; scale. Parquet: columns
    images, texts (lists), optional label. Without class_texts a class's row is the mean of its images' unit texts. Raises DataError otherwise.
    """
    columns = _read(path)
    for name in ("images", "texts"):
        if name not in columns:
            raise DataError(
                f"{path} holds {', '.join(sorted(columns)) or 'nothing'}, but no {name!r}; save images, texts[, labels]"
            )
    images, texts = (_matrix(columns[n], n, path) for n in ("images", "texts"))
    if images.shape[0] != texts.shape[0]:
        raise DataError(
            f"{path}: {len(images):,} images and {len(texts):,} texts are not pairs; save one text a row for each image"
        )
    if images.shape[1] != texts.shape[1]:
        raise DataError(
            f"{path}: images have {images.shape[1]} dimensions, texts {texts.shape[1]}; take both from the shared space"
        )
    _, keys = np.unique(texts, axis=0, return_inverse=True)
    labels = _labels(columns.get("labels"), len(images), path)
    classes: tuple[str, ...] = ()
    weights: dict[str, np.ndarray] = {}
    if labels is not None:
        k = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        classes = tuple(str(c) for c in columns.get("classes", np.arange(k)))
        if len(classes) < k:
            raise DataError(f"{path}: labels count {k} classes, and {len(classes)} have names")
        weights = {"the file's": unit(_class_texts(columns, texts, labels, len(classes), path))}
    n = len(images)
    scale = float(columns["scale"]) if "scale" in columns else SCALE
    return Subject(
        path.name, images, texts, (), keys.reshape(-1).astype(np.int64), tuple(f"row {i}" for i in range(n)), len(set(keys.reshape(-1))) < n,
        labels, classes, weights, {name: 1 for name in weights}, scale=scale,
        about={"scale": "given" if "scale" in columns else f"{SCALE:g}, CLIP's, as none was given"},
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet

            table = parquet.read_table(path)
            renamed = {"label": "labels", "image": "images", "text": "texts"}
            return {renamed.get(c, c): np.array(table[c].to_pylist()) for c in table.column_names}
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the path") from error
    except Exception as error:  # zipfile, numpy and pyarrow each raise their own
        raise DataError(
            f"{path} cannot be read as npz or Parquet without pickles: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def _matrix(value: Any, name: str, path: Path) -> np.ndarray:
    x = np.asarray(value)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or len(x) < 4:
        raise DataError(f"{path}: {name} is {x.dtype} {list(x.shape)}; it must be numbers [n, d] with n of at least 4")
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(
            f"{path}: {name} holds NaN or infinity, the first in row {int(np.flatnonzero(~np.isfinite(x).all(1))[0])}; mend it"
        )
    zero = np.flatnonzero(~x.any(axis=1))
    if len(zero):
        raise DataError(
            f"{path}: row {int(zero[0])} of {name} is all zeros, which has no direction; leave {len(zero)} such pairs out"
        )
    return x


def _labels(value: Any, n: int, path: Path) -> np.ndarray | None:
    if value is None:
        return None
    y = np.asarray(value)
    if len(y) != n:
        raise DataError(f"{path}: {len(y):,} labels for {n:,} pairs; save one for each")
    if y.ndim == 2:
        return y.astype(bool)
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0:
        raise DataError(
            f"{path}: labels are {y.dtype} {list(y.shape)}; they must be whole numbers from 0 [n], or bool [n, k]"
        )
    return y.astype(np.int64)


def _class_texts(columns: Mapping[str, Any], texts: np.ndarray, labels: np.ndarray, k: int, path: Path) -> np.ndarray:
    if "class_texts" in columns:
        rows = _matrix_of(columns["class_texts"], k, texts.shape[1], path)
        return rows
    belongs = labels.T if labels.ndim == 2 else np.arange(k)[:, None] == labels
    empty = np.flatnonzero(~belongs.any(axis=1))
    if len(empty):
        raise DataError(
            f"{path}: class {int(empty[0])} has no image, so no text either; save class_texts [k, d], or renumber the labels"
        )
    return np.stack([unit(texts[b]).mean(axis=0) for b in belongs])


def _matrix_of(value: Any, k: int, d: int, path: Path) -> np.ndarray:
    x = np.asarray(value, np.float32)
    if x.shape != (k, d) or not np.isfinite(x).all():
        raise DataError(
            f"{path}: class_texts are {list(x.shape)}; {k} classes in this space need finite numbers [{k}, {d}]"
        )
    return x
