"""Tables of pictures -> ImageSet: which column holds the pictures and which the labels, and what the labels of several tables have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from datasets import ClassLabel, Image

from visus.errors import DataError
from visus.images.base import ImageSet, Quarantined
from visus.images.class_names import one_group
from visus.images.digest import files_digest
from visus.images.errors import DecodeError
from visus.images.header import problem
from visus.images.hub_layout import SPLITS
from visus.images.label_column import MISSING
from visus.images.reading import read_bytes
from visus.images.table_labels import HIDDEN, labels_of
from visus.progress import note, task
from visus.spec import Spec, unknown

OPTIONS = ("image", "label", "groups", "split", "config")
_LABEL_NAMES = ("label", "labels", "class", "fine_label", "category", "target", "y")


@dataclass(frozen=True)
class Part:
    """One table. split: 'train', 'validation', 'test', another name, or ''. table: a `datasets.Dataset`. files: where it lies, () if in memory."""

    split: str
    table: Any
    files: tuple[Path, ...] = ()


class TableSource:
    """Pictures in a column of tables. files: the tables' own. images: position -> the file of a picture that its row names by its path.

    Pickles by the tables' files.
    """

    def __init__(self, tables: tuple[Any, ...], column: str, files: tuple[str, ...], images: Mapping[int, str]) -> None:
        self._tables, self._column, self._files, self._images = tables, column, files, images
        self._starts = np.cumsum([0, *(len(t) for t in tables)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, i: int) -> bytes:
        """The i-th picture's encoded bytes. Raises DecodeError when the row has none, GoneError where its file has gone."""
        if i in self._images:
            return read_bytes(self._images[i])
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        cell = self._tables[number][i - int(self._starts[number])][self._column]
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if not isinstance(data, bytes):
            raise DecodeError("no image in this row")
        return data

    def digest(self) -> str:
        """Hash of the tables' files, and of the pictures' where rows name them (remembered); of all pictures in order where there are none."""
        if self._files:
            images = [Path(self._images[i]) for i in sorted(self._images)]
            h = xxhash.xxh3_128(repr(sorted(self._images)).encode())
            h.update(files_digest([*map(Path, self._files), *images], about="\n".join(self._files)).encode())
            return str(h.hexdigest())
        h = xxhash.xxh3_128()
        with task("fingerprinting", len(self)) as t:
            for i in range(len(self)):
                try:
                    h.update(xxhash.xxh3_128_digest(self.read(i)))
                except DecodeError:
                    h.update(b"unreadable")
                t.advance()
        return str(h.hexdigest())


def build(spec: Spec, parts: Sequence[Part], names: Mapping[str, tuple[str, ...]]) -> ImageSet:
    """The image set of some tables. names: column -> class names, where the tables' card gives them.

    Raises DataError: no rows, no image column, labels that cannot be brought together, several splits that are no train, validation, test
    and none chosen; SpecError for an unknown column or split.
    """
    parts = _chosen(spec, [p for p in parts if len(p.table)])
    first = parts[0].table
    image, label = _image_column(spec, first), _label_column(spec, first)
    for part in parts:
        missing = [c for c in (image, label) if c is not None and c not in part.table.column_names]
        if missing:
            raise DataError(
                f"{spec.text}: its split {part.split!r} has no column {missing[0]!r}; choose a split with ?split=NAME"
            )
    raw = [_undecoded(part.table, image) for part in parts]
    split = np.repeat([part.split for part in parts], [len(part.table) for part in parts])
    ids = _ids(split)
    images, aside = _files_of_rows(parts, raw, image, ids)
    numbers, classes = labels_of(spec, [(p.split, p.table) for p in parts], label, names)
    keep = np.array([i not in aside for i in range(len(ids))], bool)
    if numbers is not None:
        for i in np.flatnonzero(keep & (numbers < 0) & (numbers != HIDDEN)):
            aside[int(i)] = "no label in this row"
        keep &= numbers >= 0
    rows = np.flatnonzero(keep).astype(np.int64)
    if not len(rows):
        raise DataError(
            f"{spec.text} has no row with an image"
            + (" and a label" if label else "")
            + "; choose columns with ?image= and ?label="
        )
    split_of = split[rows]
    declared = {
        s: np.flatnonzero(split_of == s).astype(np.int64) for s in sorted({*split_of.tolist()} & {*SPLITS.values()})
    }
    files = tuple(str(f.absolute()) for p in parts for f in p.files) if all(p.files for p in parts) else ()
    return ImageSet(
        name=spec.text,
        source=TableSource(tuple(raw), image, files, images),
        rows=rows,
        ids=tuple(ids[i] for i in rows),
        labels=None if numbers is None else numbers[rows],
        classes=classes,
        groups=_groups(spec, [p.table for p in parts], rows),
        declared=declared if len(declared) > 1 else {},
        quarantine=tuple(sorted((Quarantined(ids[i], why) for i, why in aside.items()), key=lambda q: q.id)),
    )


def _chosen(spec: Spec, parts: list[Part]) -> list[Part]:
    """The tables of the split that is asked for; without one, of train, validation and test, or of the only split there is."""
    if not parts:
        raise DataError(f"{spec.text} has no rows")
    known = list(dict.fromkeys(p.split for p in parts))
    if wanted := spec.options.get("split"):
        meant = [n for n in known if n in (wanted, SPLITS.get(wanted.lower(), wanted))]
        if not meant:
            raise unknown(f"split of {spec.name}:", wanted, [n for n in known if n])
        return [p for p in parts if p.split in meant]
    own = [n for n in known if n in SPLITS.values()]
    others = [n for n in known if n and n not in own]
    if own and others:
        note(f"splits: {', '.join(own)} are read, {', '.join(others)} are not (choose with ?split=NAME)")
        return [p for p in parts if p.split in own]
    if len(others) > 1:
        raise DataError(
            f"{spec.text} has the splits {', '.join(others)}, none of which is train, validation or test; choose one with ?split={others[0]}"
        )
    return parts


def _ids(split: np.ndarray) -> list[str]:
    """'train/000000' and so on, counted within each split."""
    count: dict[str, int] = {}
    ids = []
    for name in split.tolist():
        ids.append(f"{name or 'row'}/{count.get(name, 0):06d}")
        count[name] = count.get(name, 0) + 1
    return ids


def _undecoded(table: Any, column: str) -> Any:
    table = table.select_columns([column])
    return table.cast_column(column, Image(decode=False)) if isinstance(table.features[column], Image) else table


def _files_of_rows(
    parts: Sequence[Part], raw: Sequence[Any], column: str, ids: Sequence[str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Position -> file, of rows that name a file in place of bytes; position -> reason, of rows without a picture that can be used.

    A relative path is looked for where it leads from here, then beside the table.
    """
    images: dict[int, str] = {}
    aside: dict[int, str] = {}
    start = 0
    for part, table in zip(parts, raw, strict=True):
        empty, paths = _cells(table, column)
        for j in np.flatnonzero(empty):
            path = paths.get(int(j))
            if not path:
                aside[start + int(j)] = "no image in this row"
                continue
            places = [Path(path), *(f.parent / path for f in part.files[:1])]
            place = next((p for p in places if p.is_file()), places[0])
            wrong = problem(place)
            if wrong is not None:
                aside[start + int(j)] = f"{path}: {wrong}"
            else:
                images[start + int(j)] = str(place.absolute())
        start += len(table)
    return images, aside


def _cells(table: Any, column: str) -> tuple[np.ndarray, dict[int, str]]:
    """bool [n]: rows without bytes; row -> path of those that have one."""
    cells = table.data.column(column)
    if getattr(table, "_indices", None) is not None:
        cells = cells.take(table._indices.column(0))
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    if not pa.types.is_struct(cells.type):
        return np.asarray(pc.is_null(cells).to_numpy(zero_copy_only=False), bool), {}
    void = pc.is_null(cells)

    def field(name: str) -> Any:
        found = cells.type.get_field_index(name)
        return pc.struct_field(cells, name) if found >= 0 else pa.nulls(len(cells), pa.string())

    empty = np.asarray(pc.or_(void, pc.is_null(field("bytes"))).to_numpy(zero_copy_only=False), bool)
    paths = field("path").to_pylist() if empty.any() else []
    return empty, {int(j): paths[j] for j in np.flatnonzero(empty) if paths[j]}


def _image_column(spec: Spec, table: Any) -> str:
    names = table.column_names
    if wanted := spec.options.get("image"):
        if wanted not in names:
            raise unknown(f"column of {spec.name}:", wanted, names)
        return str(wanted)
    features = table.features
    typed = [n for n in names if isinstance(features[n], Image)]
    shaped = [n for n in names if isinstance(features[n], dict) and "bytes" in features[n]]
    plain = [n for n in names if getattr(features[n], "dtype", "") in ("binary", "large_binary")]
    found = typed or shaped or plain
    if not found:
        raise DataError(
            f"{spec.text} has no image column (columns: {', '.join(names[:8])}); name it with ?image=COLUMN"
        )
    return str("image" if "image" in found else found[0])


def _label_column(spec: Spec, table: Any) -> str | None:
    names = table.column_names
    if wanted := spec.options.get("label"):
        if wanted not in names:
            raise unknown(f"column of {spec.name}:", wanted, names)
        return str(wanted)
    typed = [n for n in names if isinstance(table.features[n], ClassLabel)]
    found = next((n for n in _LABEL_NAMES if n in typed), None) or (typed[0] if len(typed) == 1 else None)
    if found is None and len(typed) > 1:
        raise DataError(
            f"{spec.text} has several columns of labels, {', '.join(typed)}; choose one with ?label={typed[0]}"
        )
    found = found or next((n for n in _LABEL_NAMES if n in names), None)
    if found is not None and len(names) > 2:
        note(f"labels: column `{found}`" + (f" (of {', '.join(typed)})" if len(typed) > 1 else ""))
    return found


def _groups(spec: Spec, tables: list[Any], rows: np.ndarray) -> np.ndarray | None:
    """int64 [len(rows)]: the group of each row by ?groups=COLUMN, else by a column `group`; rows without one stand alone."""
    names = tables[0].column_names
    column = spec.options.get("groups", "group" if "group" in names else "")
    if not column:
        return None
    if any(column not in t.column_names for t in tables):
        raise unknown(f"column of {spec.name}:", column, names)
    values = [v for t in tables for v in t.select_columns([column])[column]]
    texts = {str(i): str(values[i]).strip() for i in rows if values[i] is not None}
    named = one_group({i: text for i, text in texts.items() if text.casefold() not in MISSING})
    known = [f"group {named[str(i)]}" if str(i) in named else f"row {i}" for i in rows]
    _, number = np.unique(np.array(known), return_inverse=True)
    note(f"groups: column `{column}`, {int(number.max()) + 1:,} of them over {len(rows):,} images")
    return number.astype(np.int64).ravel()
