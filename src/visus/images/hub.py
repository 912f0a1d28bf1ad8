"""Hugging Face data sets (`hf:owner/name`) and local Parquet or Arrow files, through `datasets`; pictures stay encoded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visus import paths
from visus.errors import DataError, OfflineError, SpecError
from visus.images.base import ImageSet, Quarantined
from visus.images.class_names import class_order
from visus.images.digest import files_digest
from visus.images.errors import DecodeError
from visus.images.reading import read_bytes
from visus.images.registry import source
from visus.progress import note, task
from visus.spec import Spec, check_options, unknown

_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
_OPTIONS = ("image", "label", "groups", "split", "config")
_LABEL_NAMES = ("label", "labels", "class", "fine_label", "category", "target", "y")
_ENDINGS = {".parquet": "parquet", ".arrow": "arrow"}


class TableSource:
    """Pictures in a column of tables, one table a split. Pickles by the tables' files."""

    def __init__(self, tables: tuple[Any, ...], column: str, files: tuple[str, ...]) -> None:
        self._tables, self._column, self._files = tables, column, files
        self._starts = np.cumsum([0, *(len(t) for t in tables)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, i: int) -> bytes:
        """The i-th picture's encoded bytes. Raises DecodeError when the row has none."""
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._bytes(self._tables[number][i - int(self._starts[number])][self._column])

    def digest(self) -> str:
        """Hash of the files where they are known (remembered), else of all pictures in order."""
        import xxhash

        if self._files:
            return files_digest([Path(f) for f in self._files], about="\n".join(self._files))
        h = xxhash.xxh3_128()
        with task("fingerprinting", len(self)) as t:
            for i in range(len(self)):
                try:
                    h.update(xxhash.xxh3_128_digest(self.read(i)))
                except DecodeError:
                    h.update(b"unreadable")
                t.advance()
        return str(h.hexdigest())

    @staticmethod
    def _bytes(cell: Any) -> bytes:
        if isinstance(cell, bytes):
            return cell
        if isinstance(cell, Mapping):
            if cell.get("bytes") is not None:
                return bytes(cell["bytes"])
            if path := cell.get("path"):
                return read_bytes(path)
        raise DecodeError("no image in this row")


@source("parquet:")
def load_tables(spec: Spec, *, labels: Path | None, download: bool) -> ImageSet:
    """A Parquet or Arrow file, or a folder of them (`parquet:PATH`); files or subfolders named train, validation, test are splits.

    Options: image=COLUMN, label=COLUMN, split=NAME. Raises DataError where there is no such path, no image column, no row.
    """
    check_options(spec, [o for o in _OPTIONS if o != "config"])
    root = Path(spec.name).expanduser()
    files = (
        [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.suffix.lower() in _ENDINGS and f.is_file())
    )
    if not files:
        what = "holds no .parquet or .arrow file" if root.is_dir() else "does not exist"
        raise DataError(f"{spec.name} {what}; check the path")
    return _build(spec, _load_files(root, files), files)


@source("hf:")
def load_hub(spec: Spec, *, labels: Path | None, download: bool) -> ImageSet:
    """A data set of the Hugging Face hub: from the caches of this machine, else downloaded when `download` is given.

    `hf:owner/name@revision`; options config=NAME, split=NAME, image=COLUMN, label=COLUMN. Splits named train, validation and test become
    declared ones. Raises OfflineError within 5 s when it is not here and may not or cannot be fetched.
    """
    check_options(spec, _OPTIONS)
    tables = _cached(spec)
    if tables is None:
        if not download:
            raise OfflineError(f"{spec.text} is not on this machine; pass --download, or {_by_hand(spec)}")
        tables = _downloaded(spec)
    return _build(spec, tables, [])


def _by_hand(spec: Spec) -> str:
    return f"fetch its Parquet files elsewhere and give their folder as parquet:PATH (hf download {spec.name} --repo-type dataset)"


def _load_files(root: Path, files: list[Path]) -> dict[str, Any]:
    from datasets import Dataset, concatenate_datasets
    from datasets.exceptions import DatasetGenerationError

    found: dict[str, list[Any]] = {}
    with task("reading tables", len(files)) as t:
        for file in files:
            try:
                if file.suffix.lower() == ".arrow":
                    table = Dataset.from_file(str(file))
                else:
                    table = Dataset.from_parquet(str(file), cache_dir=str(paths.home() / "datasets"))
            except (DatasetGenerationError, OSError, ValueError) as error:
                raise DataError(f"cannot read {file}: damaged or not a table; remove it or fetch it again") from error
            found.setdefault(_split_of(file, root), []).append(table)
            t.advance()
    return {name: concatenate_datasets(parts) if len(parts) > 1 else parts[0] for name, parts in found.items()}


def _split_of(file: Path, root: Path) -> str:
    """The split that a file's name or folder tells ('train-00000-of-00002.parquet', 'test/a.parquet'), else ''."""
    import re

    steps = [*file.relative_to(root).parts[:-1], re.split(r"[-_.]", file.stem)[0]] if file != root else []
    return next((_SPLITS[s.lower()] for s in reversed(steps) if s.lower() in _SPLITS), "")


def _cached(spec: Spec) -> dict[str, Any] | None:
    """From what `datasets` or the hub's client have kept on this machine; None when they have nothing. Asks no network."""
    from datasets import config
    from datasets.packaged_modules.cache.cache import Cache

    if spec.revision is None:
        try:
            builder = Cache(
                cache_dir=str(config.HF_DATASETS_CACHE), dataset_name=spec.name.rpartition("/")[2], repo_id=spec.name,
                config_name=spec.options.get("config"), version="auto", hash="auto",
            )  # fmt: skip
            return dict(builder.as_dataset())
        except (ValueError, OSError):
            pass  # not there, or several configurations: the other cache may know
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        root = Path(
            huggingface_hub.snapshot_download(
                spec.name, repo_type="dataset", revision=spec.revision, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise SpecError(f"{spec.text!r} is no name of the hub; write hf:owner/name") from error
    if wanted := spec.options.get("config"):
        root = root / wanted
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in _ENDINGS and f.is_file())
    return _load_files(root, files) if files else None


def _downloaded(spec: Spec) -> dict[str, Any]:
    import huggingface_hub.utils
    from datasets import DatasetDict, config, load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    from visus.images.download import reachable

    if config.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise OfflineError(
            f"{spec.text} is not on this machine and HF_HUB_OFFLINE forbids fetching it; unset it, or {_by_hand(spec)}"
        )
    if reason := reachable(config.HF_ENDPOINT):
        raise OfflineError(f"cannot fetch {spec.text} from {config.HF_ENDPOINT} ({reason}); {_by_hand(spec)}")
    # The hub's HTTP library has changed its name from one version to the next; its errors are no OSErrors.
    client = getattr(huggingface_hub.utils, "httpx", None)
    transport = (client.HTTPError,) if client is not None else ()
    try:
        loaded = load_dataset(spec.name, spec.options.get("config"), revision=spec.revision)
    except DatasetNotFoundError as error:
        raise SpecError(f"the hub has no data set {spec.name!r}, or it is not open to you; check the name") from error
    except (*transport, HfHubHTTPError, OSError) as error:
        raise OfflineError(
            f"fetching {spec.text} failed ({type(error).__name__}); try again to resume, or {_by_hand(spec)}"
        ) from error
    except (DatasetGenerationError, ValueError) as error:
        raise DataError(f"{spec.text}: {str(error).splitlines()[0][:200]}") from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}


def _build(spec: Spec, tables: dict[str, Any], files: list[Path]) -> ImageSet:
    from datasets import Image

    tables = {name: t for name, t in tables.items() if len(t)}
    if wanted := spec.options.get("split"):
        chosen = [n for n in tables if n == wanted or _SPLITS.get(n) == _SPLITS.get(wanted, wanted)]
        if not chosen:
            raise unknown(f"split of {spec.name}:", wanted, [n for n in tables if n])
        tables = {n: tables[n] for n in chosen}
    if not tables:
        raise DataError(f"{spec.text} has no rows")
    first = next(iter(tables.values()))
    image = _image_column(spec, first)
    label = _label_column(spec, first)
    for name, table in tables.items():
        missing = [c for c in (image, label) if c is not None and c not in table.column_names]
        if missing:
            raise DataError(
                f"{spec.text}: its split {name!r} has no column {missing[0]!r}; choose a split with ?split=NAME"
            )
    raw = [t.select_columns([image]) for t in tables.values()]
    raw = [t.cast_column(image, Image(decode=False)) if isinstance(t.features[image], Image) else t for t in raw]
    names = [name or "row" for name, t in tables.items() for _ in range(len(t))]
    ids = [f"{name or 'row'}/{i:06d}" for name, t in tables.items() for i in range(len(t))]
    empty = np.concatenate([_empty(t, image) for t in raw])
    numbers, classes = _labels(spec, list(tables.values()), label)
    aside = [Quarantined(ids[i], "no image in this row") for i in np.flatnonzero(empty)]
    keep = ~empty
    if numbers is not None:
        aside += [Quarantined(ids[i], "no label in this row") for i in np.flatnonzero(keep & (numbers < 0))]
        keep &= numbers >= 0
    rows = np.flatnonzero(keep).astype(np.int64)
    if not len(rows):
        raise DataError(
            f"{spec.text} has no row with an image"
            + (" and a label" if label else "")
            + "; choose columns with ?image= and ?label="
        )
    split_of = np.array([_SPLITS.get(names[i], "") for i in rows])
    declared = {str(s): np.flatnonzero(split_of == s).astype(np.int64) for s in sorted(set(split_of.tolist())) if s}
    return ImageSet(
        name=spec.text,
        source=TableSource(tuple(raw), image, tuple(str(f.absolute()) for f in files)),
        rows=rows,
        ids=tuple(ids[i] for i in rows),
        labels=None if numbers is None else numbers[rows],
        classes=classes,
        groups=_groups(spec, list(tables.values()), rows),
        declared=declared if len(declared) > 1 else {},
        quarantine=tuple(sorted(aside, key=lambda q: q.id)),
    )


def _image_column(spec: Spec, table: Any) -> str:
    from datasets import Image

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
    from datasets import ClassLabel

    names = table.column_names
    if wanted := spec.options.get("label"):
        if wanted not in names:
            raise unknown(f"column of {spec.name}:", wanted, names)
        return str(wanted)
    typed = [n for n in names if isinstance(table.features[n], ClassLabel)]
    return next(
        (n for n in _LABEL_NAMES if n in typed),
        typed[0] if typed else next((n for n in _LABEL_NAMES if n in names), None),
    )


def _groups(spec: Spec, tables: list[Any], rows: np.ndarray) -> np.ndarray | None:
    """int64 [len(rows)]: the group of each row by ?groups=COLUMN, else by a column `group`; rows without one stand alone."""
    names = tables[0].column_names
    column = spec.options.get("groups", "group" if "group" in names else "")
    if not column:
        return None
    if any(column not in t.column_names for t in tables):
        raise unknown(f"column of {spec.name}:", column, names)
    values = [v for t in tables for v in t.select_columns([column])[column]]
    known = [f"row {i}" if values[i] is None else f"group {values[i]}" for i in rows]
    _, number = np.unique(np.array(known), return_inverse=True)
    note(f"groups: column `{column}`, {int(number.max()) + 1:,} of them over {len(rows):,} images")
    return number.astype(np.int64).ravel()


def _empty(table: Any, column: str) -> np.ndarray:
    """bool [n]: rows without a picture (neither bytes nor a path)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = table.with_format("arrow")[:][column].combine_chunks() if len(table) < 1 else table.data.column(column)
    if getattr(table, "_indices", None) is not None:
        cells = cells.take(table._indices.column(0))
    if pa.types.is_struct(cells.type):
        void = pc.is_null(cells)
        present = [
            pc.is_valid(pc.struct_field(cells, n)) for n in ("bytes", "path") if cells.type.get_field_index(n) >= 0
        ]
        for field in present[1:]:
            present[0] = pc.or_(present[0], field)
        return np.asarray(pc.or_(void, pc.invert(present[0])).to_numpy(), bool)
    return np.asarray(pc.is_null(cells).to_numpy(), bool)


def _labels(spec: Spec, tables: list[Any], column: str | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """int64 [n] with -1 for rows without a label, and the class names."""
    from datasets import ClassLabel

    if column is None:
        return None, ()
    values = [v for t in tables for v in t.select_columns([column])[column]]
    feature = tables[0].features[column]
    if isinstance(feature, ClassLabel):
        return np.array([-1 if v is None else v for v in values], np.int64), tuple(feature.names)
    if any(not isinstance(v, str | int | bool | None) for v in values):
        raise DataError(
            f"{spec.text}: its column {column!r} holds no class names or numbers; choose one with ?label=COLUMN"
        )
    classes = class_order(str(v) for v in values if v is not None)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([-1 if v is None else number[str(v)] for v in values], np.int64), classes
