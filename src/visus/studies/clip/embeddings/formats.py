"""Files of arrays as people keep embeddings: npz, a folder of npy, Parquet, safetensors, torch's pt. Pickles are never executed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from safetensors.torch import load_file

from visus.errors import DataError

SUFFIXES = "npz, Parquet, safetensors, pt, or a folder of npy files"
PICKLES = "holds Python objects, which are not read without pickles; save arrays of numbers"
_SHARD = re.compile(r"[_\-.]\d+$")
_NUMBERED = re.compile(r"\W*(\w*?[a-zA-Z]\w*?)['\"]?[\s,_.\-\[]*['\"]?(\d+)\W*")

Column = np.ndarray | DataError
"""An array of numbers [n, ...] or texts [n], or why it could not be read: what is not used may be anything."""


def read_columns(path: Path) -> dict[str, Column]:
    """The arrays of a file or folder by name. Raises DataError for a file that is missing, damaged or of another kind."""
    if not path.exists():
        raise DataError(f"there is no file {path}; check the path")
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except DataError:
        raise
    except Exception as error:  # zipfile, numpy, pyarrow, torch and safetensors each raise their own
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {SUFFIXES}: {said}") from error


def _file(path: Path) -> dict[str, Column]:
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] == b"PAR1" or suffix in (".parquet", ".pq"):
        return _parquet([path])
    if suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _torch(path)
    if suffix == ".safetensors":
        return {name: _array(tensor) for name, tensor in load_file(path).items()}
    if start[:6] == b"\x93NUMPY":
        raise DataError(
            f"{path} holds one array; put images.npy and texts.npy into a folder and give the folder, or save an npz"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as content:
            if any(name.endswith("data.pkl") for name in content.namelist()):
                return _torch(path)
        with np.load(path, allow_pickle=False) as stored:
            return {name: _stored(stored, name, path) for name in stored.files}
    raise DataError(
        f"{path} is no npz or Parquet file (nor safetensors or pt), or is cut off; save one with numpy.savez or to_parquet"
    )


def _stored(stored: Any, name: str, path: Path) -> Column:
    try:
        found: np.ndarray = stored[name]
    except ValueError:
        return DataError(f"{path}: {name} {PICKLES}")
    return np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found


def _folder(folder: Path) -> dict[str, Column]:
    """NAME.npy, or subfolders of numbered shards (clip-retrieval: img_emb/img_emb_0.npy ...) and of metadata in Parquet."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.npy"), key=_natural):
        files.setdefault(_SHARD.sub("", file.stem), []).append(file)
    found: dict[str, Column] = {}
    for name, shards in files.items():
        found |= {name: _npy(shards)} if _whole(name, shards) else {file.stem: _npy([file]) for file in shards}
    for inner in sorted(p for p in folder.iterdir() if p.is_dir()):
        shards = sorted(inner.glob("*.npy"), key=_natural)
        if shards:
            found[inner.name] = _npy(shards)
    tables = sorted(folder.glob("*.parquet"), key=_natural) or sorted(folder.glob("metadata/*.parquet"), key=_natural)
    if tables:
        for name, column in _parquet(tables).items():
            found.setdefault(name, column)
    if not found:
        raise DataError(f"{folder} holds no npy and no Parquet file; put images.npy and texts.npy there")
    return found


def _whole(name: str, shards: Sequence[Path]) -> bool:
    """Whether files are one array in parts: NAME_0.npy, NAME_1.npy and so on, or NAME.npy alone."""
    stems = [file.stem for file in shards]
    return stems == [name] or (
        len(stems) > 1 and [s.removeprefix(name).strip("_-.") for s in stems] == [str(i) for i in range(len(stems))]
    )


def _npy(files: Sequence[Path]) -> Column:
    parts = []
    for file in files:
        try:
            parts.append(np.load(file, allow_pickle=False))
        except ValueError as error:
            return DataError(
                f"{file} {PICKLES}" if "pickle" in str(error).lower() else f"{file} cannot be read: {error}"
            )
    widths = {p.shape[1:] for p in parts}
    if len(widths) > 1:
        return DataError(f"{files[0].parent}: the shards have rows of different shapes; save them again")
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _natural(path: Path) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


def _torch(path: Path) -> dict[str, Column]:
    try:
        body = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything
        raise DataError(f"{path} {PICKLES} (torch.save of a dict of tensors), or is damaged") from error
    if not isinstance(body, Mapping):
        raise DataError(f"{path} holds a {type(body).__name__} without names; save a dict of tensors: images, texts")
    found: dict[str, Column] = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{inner}": _array(x) for inner, x in value.items()}
        else:
            found[str(name)] = _array(value)
    return found


def _array(value: Any) -> Column:
    if isinstance(value, list | tuple) and value and all(isinstance(v, torch.Tensor) for v in value):
        if len({tuple(v.shape) for v in value}) > 1:
            return DataError("a list of tensors of different shapes is no table of vectors; stack them to [n, d]")
        value = torch.stack(list(value))
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_quantized:
            return DataError("a sparse or quantised tensor is no table of vectors; save it dense, as floats")
        value = value.detach()
        return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
    try:
        return np.asarray(value)
    except ValueError as error:
        return DataError(f"it is no array: {error}")


def _parquet(files: list[Path]) -> dict[str, Column]:
    tables = [parquet.read_table(file) for file in files]
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    found = {
        name: _column(table.column(i).combine_chunks(), name, files[0]) for i, name in enumerate(table.column_names)
    }
    return _gathered(found)


def _column(values: Any, name: str, path: Path) -> Column:
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    while isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    shape = [len(values)]
    while (
        pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type)
    ):
        if values.null_count:
            hole = values.is_null().to_numpy(zero_copy_only=False)
            return DataError(f"{path}: {name} is missing in row {int(np.flatnonzero(hole)[0])}")
        widths = values.value_lengths().to_numpy(zero_copy_only=False)
        if len(widths) and widths.min() != widths.max():
            if len(shape) == 1 and (filled := _filled(values, widths)) is not None:
                return filled
            return DataError(
                f"{path}: the rows of {name} have {widths.min()} to {widths.max()} numbers; they must have equally many"
            )
        shape.append(int(widths[0]) if len(widths) else 0)
        values = values.flatten()
    kind = values.type
    if values.null_count:
        hole = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)) // max(int(np.prod(shape[1:])), 1)
        return DataError(f"{path}: {name} is missing in row {int(hole[0])}")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(values.to_pylist(), dtype=str).reshape(shape)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
    return DataError(f"{path}: {name} holds {kind}, no numbers; save lists of numbers")


def _filled(values: Any, widths: np.ndarray) -> np.ndarray | None:
    """Lists of vectors, several and not equally many a row, as float [n, most, d] filled up with NaN; None where they are no such."""
    inner = values.flatten()
    while isinstance(inner, pa.ExtensionArray):
        inner = inner.storage
    if not hasattr(inner, "value_lengths") or inner.null_count:
        return None
    lengths = inner.value_lengths().to_numpy(zero_copy_only=False)
    numbers = inner.flatten()
    if (
        not len(lengths)
        or lengths.min() != lengths.max()
        or numbers.null_count
        or not pa.types.is_floating(numbers.type)
    ):
        return None
    found = np.full(
        (len(widths), int(widths.max()), int(lengths[0])), np.nan, numbers.to_numpy(zero_copy_only=False).dtype
    )
    found[np.arange(widths.max()) < widths[:, None]] = numbers.to_numpy(zero_copy_only=False).reshape(
        -1, int(lengths[0])
    )
    return found


def _gathered(columns: dict[str, Column]) -> dict[str, Column]:
    """Columns of one number each that are numbered throughout (image_0 ... image_511) as one, under the name before the number."""
    parts: dict[str, dict[int, np.ndarray]] = {}
    owners: dict[str, list[str]] = {}
    for name, column in columns.items():
        match = _NUMBERED.fullmatch(name)
        if match and isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "fiu":
            parts.setdefault(match[1], {})[int(match[2])] = column
            owners.setdefault(match[1], []).append(name)
    found = dict(columns)
    for name, dimensions in parts.items():
        numbers = sorted(dimensions)
        whole = len(numbers) > 1 and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[-1] + 1))
        if whole and len(owners[name]) == len(numbers) and name not in columns:
            for owner in owners[name]:
                del found[owner]
            found[name] = np.stack([dimensions[k] for k in numbers], axis=1)
    return found
