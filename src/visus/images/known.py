"""Known data sets in their original binary files: CIFAR-10 and -100, STL-10, MNIST, Fashion-MNIST.

Each is looked for in $VISUS_DATA (and its subfolder of the set's name), then in data_home()/NAME; as plain files or still packed
(tar.gz, gz). Packed files are unpacked once into data_home()/NAME, so that pixels can always be memory-mapped: loading reads
labels only, and a hundred thousand pictures take no memory.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np
import xxhash

from visus import paths
from visus.errors import DataError, OfflineError
from visus.images.arrays import Block, BlockSource
from visus.images.base import ImageSet
from visus.images.digest import files_digest
from visus.images.download import Remote, by_hand, fetch
from visus.images.formats import Part, cifar_binary, cifar_pickles, idx, stl_binary
from visus.images.reading import retrying
from visus.paths import expanded
from visus.progress import log, task
from visus.spec import Spec, check_options, unknown

_PARTS = ("train", "test")


@dataclass(frozen=True)
class FileLayout:
    """One way in which a set's files may lie about.

    files: split -> file names. also: files for both (class names). read: the files of a split -> Part. folders: subfolders to look in.
    """

    files: dict[str, tuple[str, ...]]
    also: tuple[str, ...]
    read: Callable[[list[Path], list[Path]], Part]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """A data set. remotes: the files to fetch. archive: names of the tar.gz that hold a layout's files. layouts: first one found."""

    name: str
    layouts: tuple[FileLayout, ...]
    remotes: tuple[Remote, ...]
    archives: tuple[str, ...] = ()
    classes: tuple[str, ...] = field(default=())


def _cifar(
    train: tuple[str, ...], test: str, *, python: tuple[str, str, str], binary: tuple[str, str, int]
) -> tuple[FileLayout, ...]:
    """python: folder, meta file, its key of class names. binary: folder, file of class names, label bytes a record."""
    return (
        FileLayout(
            {"train": train, "test": (test,)},
            (python[1],),
            lambda files, also: cifar_pickles(files, also, label=python[2]),
            (python[0],),
        ),
        FileLayout(
            {"train": tuple(f"{name}.bin" for name in train), "test": (f"{test}.bin",)},
            (binary[1],),
            lambda files, also: cifar_binary(files, also, label_bytes=binary[2]),
            (binary[0],),
        ),
    )


def _toronto(name: str, md5: str) -> tuple[Remote, ...]:
    return (Remote(name, md5, (f"https://www.cs.toronto.edu/~kriz/{name}",)),)


def _idx_layout(folders: tuple[str, ...]) -> FileLayout:
    return FileLayout(
        {
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        (),
        idx,
        folders,
    )


def _idx_remotes(mirrors: tuple[str, ...], md5: tuple[str, ...]) -> tuple[Remote, ...]:
    layout = _idx_layout(())
    names = [f"{n}.gz" for split in _PARTS for n in layout.files[split]]
    return tuple(Remote(n, m, tuple(base + n for base in mirrors)) for n, m in zip(names, md5, strict=True))


# Checksums are those of torchvision's data sets.
KNOWN = {
    "cifar10": Known(
        "cifar10",
        _cifar(
            tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test_batch",
            python=("cifar-10-batches-py", "batches.meta", "label_names"),
            binary=("cifar-10-batches-bin", "batches.meta.txt", 1),
        ),
        _toronto("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
    ),
    "cifar100": Known(
        "cifar100",
        _cifar(
            ("train",),
            "test",
            python=("cifar-100-python", "meta", "fine_label_names"),
            binary=("cifar-100-binary", "fine_label_names.txt", 2),
        ),
        _toronto("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
        ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
    ),
    "stl10": Known(
        "stl10",
        (
            FileLayout(
                {"train": ("train_X.bin", "train_y.bin"), "test": ("test_X.bin", "test_y.bin")},
                ("class_names.txt",),
                stl_binary,
                ("stl10_binary",),
            ),
        ),
        (Remote("stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb", ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",)),),
        ("stl10_binary.tar.gz",),
    ),
    "mnist": Known(
        "mnist",
        (_idx_layout(("MNIST/raw", "raw")),),
        _idx_remotes(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
        classes=tuple("0123456789"),
    ),
    "fashion-mnist": Known(
        "fashion-mnist",
        (_idx_layout(("FashionMNIST/raw", "raw")),),
        _idx_remotes(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
        classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}  # fmt: skip


def load_known(spec: Spec, *, download: bool) -> ImageSet:
    """A known data set, its train and test images declared as such; `?split=train` or `?split=test` gives one of the two.

    Ids are 'train/00000' and so on in the files' order. CIFAR's pickles are read without executing anything; labels and pixels share a
    file there, of which only the labels are read. STL-10's unlabelled images are left out.
    Raises OfflineError when the files are not here and `download` is not given, or nothing answers; DataError when they are
    damaged; SpecError for an unknown option or split.
    """
    check_options(spec, ["split"])
    wanted = spec.options.get("split")
    if wanted is not None and wanted not in _PARTS:
        raise unknown(f"split of {spec.name}:", wanted, _PARTS)
    known = KNOWN[spec.name]
    splits = _PARTS if wanted is None else (wanted,)
    layout, folder = find_files(known, splits) or _obtain(known, splits, download=download)
    also = [folder / f for f in layout.also]

    def read(split: str) -> Part:
        return layout.read([folder / f for f in layout.files[split]], also)

    try:
        parts = {s: retrying(partial(read, s), f"{spec.name} in {folder}") for s in splits}
    except OSError as error:
        raise DataError(f"cannot read {spec.name} in {folder}: {error.strerror or error}; check the files") from error
    return _build(spec, known, parts)


def _build(spec: Spec, known: Known, parts: dict[str, Part]) -> ImageSet:
    blocks: list[Block] = [b for p in parts.values() for b in p.blocks]
    labels = np.concatenate([p.labels for p in parts.values()])
    sizes = [len(p.labels) for p in parts.values()]
    first = np.cumsum([0, *sizes])
    classes = next((p.classes for p in parts.values() if p.classes), known.classes)
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise DataError(
            f"{known.name}: its files hold label {labels.max()} but {len(classes)} class names; fetch them again"
        )
    declared = (
        {s: np.arange(first[i], first[i + 1], dtype=np.int64) for i, s in enumerate(parts)} if len(parts) > 1 else {}
    )
    return ImageSet(
        name=spec.text,
        source=BlockSource(blocks),
        rows=np.arange(len(labels), dtype=np.int64),
        ids=tuple(f"{s}/{i:05d}" for s, n in zip(parts, sizes, strict=True) for i in range(n)),
        labels=labels.astype(np.int64),
        classes=classes,
        declared=declared,
    )


def _roots(known: Known) -> list[Path]:
    own = os.environ.get("VISUS_DATA")
    chosen = [expanded(own) / known.name, expanded(own)] if own else []
    return [*chosen, paths.data_home() / known.name]


def find_files(known: Known, splits: tuple[str, ...]) -> tuple[FileLayout, Path] | None:
    """Files of a layout that lie in one folder, unpacked first where they are packed; what $VISUS_DATA holds goes before the lab's own."""
    for root in _roots(known):
        for layout in known.layouts:
            needed = _needed(layout, splits)
            for folder in (root, *(root / f for f in layout.folders)):
                if all((folder / f).is_file() for f in needed) and not _outdated(folder, needed):
                    return layout, folder
                if all((folder / f).is_file() or (folder / f"{f}.gz").is_file() for f in needed):
                    return layout, _unpack_gz(known, folder, needed)
        for archive in known.archives:
            if (root / archive).is_file() and (found := _unpack_tar(known, root / archive, splits)):
                return found
    return None


def _outdated(folder: Path, needed: list[str]) -> bool:
    """Whether one of these files was unpacked here from a packed file that lies beside it and has changed since."""
    origins = _origins(folder)
    return any(
        name in origins
        and (folder / origins[name][0]).is_file()
        and _packed_digest(folder / origins[name][0]) != origins[name][1]
        for name in needed
    )


def _origins(folder: Path) -> dict[str, tuple[str, str]]:
    """File -> (name of the packed file that it came from, digest of that), of what was unpacked into a folder."""
    try:
        body = json.loads(_record(folder).read_text("utf-8"))
        return {str(name): (str(packed), str(digest)) for name, (packed, digest) in body.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _note_origins(folder: Path, names: Iterable[str], packed: Path) -> None:
    """Remember what these files were unpacked from."""
    digest = _packed_digest(packed)
    known = {**_origins(folder), **{name: (packed.name, digest) for name in names}}
    paths.write_text(_record(folder), json.dumps(known, indent=1) + "\n")


def _record(folder: Path) -> Path:
    """Where it is written down what the files of a folder came from."""
    return (
        paths.home()
        / "unpacked"
        / f"{xxhash.xxh3_64_hexdigest(str(folder.absolute()).encode('utf-8', 'surrogateescape'))}.json"
    )


def _packed_digest(packed: Path) -> str:
    return files_digest([packed], about=str(packed))


def _needed(layout: FileLayout, splits: tuple[str, ...]) -> list[str]:
    return [f for s in splits for f in layout.files[s]] + list(layout.also)


def _obtain(known: Known, splits: tuple[str, ...], *, download: bool) -> tuple[FileLayout, Path]:
    folder = paths.data_home() / known.name
    if not download:
        raise OfflineError(f"{known.name} is not on this machine; pass --download, or {by_hand(known.remotes, folder)}")
    for remote in known.remotes:
        fetch(remote, folder)
    found = find_files(known, splits)
    if found is None:
        raise DataError(
            f"the downloaded files of {known.name} in {folder} are incomplete; remove the folder and try again"
        )
    return found


def _unpack_gz(known: Known, folder: Path, names: list[str]) -> Path:
    """Put every file, unpacked, into data_home()/NAME; what lies there and came from the same content is kept."""
    target = paths.data_home() / known.name
    origins = _origins(target)
    for name in names:
        made, origin = target / name, folder / name
        packed = not origin.is_file()
        if packed:
            origin = folder / f"{name}.gz"
        if made.is_file() and (made == origin or origins.get(name, ("", ""))[1] == _packed_digest(origin)):
            continue
        log(f"unpacking {origin.name} into {target}, once")
        with paths.atomic_path(made) as temporary, temporary.open("wb") as out, _open(origin, packed=packed) as stream:
            _copy(stream, out, origin)
        _note_origins(target, [name], origin)
    return target


def _open(path: Path, *, packed: bool) -> IO[bytes]:
    try:
        return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _copy(packed: IO[bytes], out: IO[bytes], name: Path) -> None:
    try:
        shutil.copyfileobj(packed, out, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise DataError(f"{name} is damaged or incomplete; remove it and fetch it again") from error


def _unpack_tar(known: Known, archive: Path, splits: tuple[str, ...]) -> tuple[FileLayout, Path] | None:
    """Unpack what both splits need, by file name alone (no path of the archive is followed), into data_home()/NAME."""
    folder = paths.data_home() / known.name
    wanted = {f for layout in known.layouts for f in _needed(layout, _PARTS)}
    digest, origins = _packed_digest(archive), _origins(folder)
    for layout in known.layouts:
        needed = _needed(layout, splits)
        if all((folder / f).is_file() and origins.get(f, ("", ""))[1] == digest for f in needed):
            return layout, folder
    made = []
    log(f"unpacking {archive.name} into {folder}, once")
    try:
        with tarfile.open(archive, "r:gz") as tar, task(f"unpacking {archive.name}", None) as t:
            for member in tar:
                name = member.name.rpartition("/")[2]
                stream = tar.extractfile(member) if member.isreg() and name in wanted else None
                if stream is None:
                    continue
                with paths.atomic_path(folder / name) as temporary, temporary.open("wb") as out:
                    _copy(stream, out, archive)
                made.append(name)
                t.advance()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} is damaged or incomplete; remove it and fetch it again") from error
    _note_origins(folder, made, archive)
    for layout in known.layouts:
        if set(_needed(layout, splits)) <= set(made):
            return layout, folder
    raise DataError(f"{archive} lacks files of {known.name}; remove it and fetch it again")
