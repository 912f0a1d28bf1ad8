"""Embeddings made elsewhere, as npz or Parquet, checked and brought into a CLIP study."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.studies.clip_subject import SCALE, Subject, unit


def from_file(path: Path) -> Subject:
    """Embeddings made elsewhere: npz or Parquet.

    npz: images, texts float [n, d]; optional: labels int [n], names [n] or bool [n, k]; classes [k] of text; class_texts float [k, d]; scale.
    Parquet: columns images, texts (lists), optional label. Without class_texts a class's row is the mean of its images' unit texts, with a
    warning where these differ. Raises DataError otherwise.
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
    labels, classes = _labels(columns, len(images), path)
    weights: dict[str, np.ndarray] = {}
    warnings: tuple[str, ...] = ()
    if labels is not None and len(classes) > 1:
        weights = {"the file's": unit(_class_texts(columns, texts, labels, len(classes), path))}
        if "class_texts" not in columns and len(set(keys.reshape(-1))) > len(classes):
            warnings = (
                f"{path.name} has no class_texts: a class is the mean of its own pairs' texts, which flatters the zero-shot figures.",
            )
    n = len(images)
    scale = _scale(columns.get("scale"), path)
    return Subject(
        path.name, images, texts, (), keys.reshape(-1).astype(np.int64), tuple(f"row {i}" for i in range(n)), len(set(keys.reshape(-1))) < n,
        labels, classes, weights, {name: 1 for name in weights}, scale=scale,
        warnings=warnings, about={"scale": "given" if "scale" in columns else f"{SCALE:g}, CLIP's, as none was given"},
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet

            table = parquet.read_table(path)
            renamed = {"label": "labels", "image": "images", "text": "texts"}
            return {renamed.get(c, c): _column(table[c].to_pylist(), c, path) for c in table.column_names}
        if not zipfile.is_zipfile(path) and path.is_file():
            raise DataError(f"{path} is no npz or Parquet file; save one with numpy.savez or to_parquet")
        with np.load(path, allow_pickle=False) as stored:
            return {name: _stored(stored, name, path) for name in stored.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the path") from error
    except DataError:
        raise
    except Exception as error:  # zipfile, numpy and pyarrow each raise their own
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as npz or Parquet: {said}") from error


def _stored(stored: Any, name: str, path: Path) -> np.ndarray:
    try:
        found: np.ndarray = stored[name]
    except ValueError as error:
        raise DataError(
            f"{path}: {name} holds Python objects, which are not read without pickles; save arrays of numbers"
        ) from error
    return found


def _column(values: list[Any], name: str, path: Path) -> np.ndarray:
    if any(v is None for v in values):
        raise DataError(f"{path}: {name} is missing in row {next(i for i, v in enumerate(values) if v is None)}")
    widths = {len(v) for v in values if isinstance(v, list)}
    if len(widths) > 1:
        raise DataError(
            f"{path}: the rows of {name} have {min(widths)} to {max(widths)} numbers; they must have equally many"
        )
    return np.array(values)


def _scale(value: Any, path: Path) -> float:
    if value is None:
        return SCALE
    try:
        scale = float(np.asarray(value).reshape(()))
    except ValueError as error:
        raise DataError(f"{path}: scale is no single number; save the model's inverse temperature, as 100.0") from error
    if not 0 < scale < np.inf:
        raise DataError(f"{path}: scale is {scale:g}; save the model's inverse temperature, as 100.0")
    return scale


def _matrix(value: Any, name: str, path: Path) -> np.ndarray:
    x = np.asarray(value)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or len(x) < 4 or x.shape[1] < 2:
        raise DataError(
            f"{path}: {name} is {x.dtype} {list(x.shape)}; it must be numbers [n, d], n of at least 4 and d of at least 2"
        )
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


def _labels(columns: Mapping[str, Any], n: int, path: Path) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels, int64 [n] or bool [n, k], and the names of the classes."""
    if columns.get("labels") is None:
        return None, ()
    y = np.asarray(columns["labels"])
    if y.ndim == 0 or len(y) != n:
        raise DataError(f"{path}: {y.size:,} labels for {n:,} pairs; save one for each")
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
    x = np.asarray(value)
    if x.shape != (k, d) or x.dtype.kind not in "fiu" or not np.isfinite(x).all() or not x.any(axis=1).all():
        raise DataError(
            f"{path}: class_texts are {x.dtype} {list(x.shape)}; {k} classes in this space need finite numbers [{k}, {d}], no row all zeros"
        )
    return x.astype(np.float32)
