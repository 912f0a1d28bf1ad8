"""The binary formats of the known data sets: where in each file the pictures lie, and their labels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visus.errors import DataError
from visus.images.arrays import Block, expect_size
from visus.images.pickle_reader import Pixels, Raw, read_pickle

_CIFAR = 3 * 32 * 32
_STL = 3 * 96 * 96


@dataclass(frozen=True)
class Part:
    """One split. blocks: its pictures. labels: int64 [n] from 0. classes: names, or empty where the files have none."""

    blocks: tuple[Block, ...]
    labels: np.ndarray
    classes: tuple[str, ...] = ()


def cifar_pickles(files: list[Path], also: list[Path], *, label: str) -> Part:
    """CIFAR's python version. label: the key of the class names in the meta file. Raises DataError on damaged files."""
    names = read_pickle(also[0]).get(label)
    if not isinstance(names, list):
        raise DataError(f"{also[0]} has no {label}; fetch it again")
    key = "fine_labels" if label.startswith("fine") else "labels"
    blocks, labels = [], []
    for path in files:
        batch = read_pickle(path)
        pixels, found = batch.get("data"), batch.get(key)
        if not isinstance(pixels, Pixels) or not isinstance(found, list) or pixels.shape != (len(found), _CIFAR):
            raise DataError(f"{path} lacks data or {key}, or they do not match; fetch it again")
        raw = pixels.data
        held = None if isinstance(raw, Raw) else np.frombuffer(raw, np.uint8)
        offset = raw.offset if isinstance(raw, Raw) else 0
        blocks.append(Block(str(path), offset, len(found), _CIFAR, (3, 32, 32), (1, 2, 0), held))
        labels.append(np.asarray(found, np.int64))
    return Part(tuple(blocks), np.concatenate(labels), tuple(str(n) for n in names))


def cifar_binary(files: list[Path], also: list[Path], *, label_bytes: int) -> Part:
    """CIFAR's binary version: records of label_bytes labels (the last one is the fine class) and 3,072 pixels."""
    stride = label_bytes + _CIFAR
    blocks, labels = [], []
    for path in files:
        n = path.stat().st_size // stride
        if n == 0:
            raise DataError(f"{path} holds no picture; fetch it again")
        expect_size(path, n * stride)
        records = np.memmap(path, np.uint8, "r", 0, (n, stride))
        labels.append(np.asarray(records[:, label_bytes - 1], np.int64))
        blocks.append(Block(str(path), label_bytes, n, stride, (3, 32, 32), (1, 2, 0)))
    return Part(tuple(blocks), np.concatenate(labels), class_names(also[0]))


def stl_binary(files: list[Path], also: list[Path]) -> Part:
    """STL-10: pixels in columns, colour by colour; labels from 1."""
    pixels, labels = files
    found = np.fromfile(labels, np.uint8).astype(np.int64) - 1
    if not len(found):
        raise DataError(f"{labels} holds no label; fetch it again")
    expect_size(pixels, len(found) * _STL)
    return Part((Block(str(pixels), 0, len(found), _STL, (3, 96, 96), (2, 1, 0)),), found, class_names(also[0]))


def idx(files: list[Path], also: list[Path]) -> Part:
    """MNIST's idx files: big-endian header, then bytes. Raises DataError for a wrong magic number or length."""
    images, labels = files
    n, height, width = _idx_header(images, 0x803, 3)
    (m,) = _idx_header(labels, 0x801, 1)
    if n != m or n == 0:
        raise DataError(f"{images} holds {n} pictures and {labels} {m} labels; fetch them again")
    expect_size(images, 16 + n * height * width)
    expect_size(labels, 8 + m)
    found = np.fromfile(labels, np.uint8, offset=8).astype(np.int64)
    return Part((Block(str(images), 16, n, height * width, (height, width), (0, 1)),), found)


def class_names(path: Path) -> tuple[str, ...]:
    """One name a line."""
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _idx_header(path: Path, magic: int, dimensions: int) -> tuple[int, ...]:
    with path.open("rb") as file:
        head = file.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or struct.unpack(">I", head[:4])[0] != magic:
        raise DataError(f"{path} is no idx file of the expected kind; remove it and fetch it again")
    return tuple(struct.unpack(f">{dimensions}I", head[4:]))
