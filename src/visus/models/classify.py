"""Classifying pictures: decode, the model's own preprocessing, batches, softmax or sigmoid."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from visus.device import choose_device
from visus.errors import DataError
from visus.images.base import ImageSet, Quarantined
from visus.images.digest import pixel_digest
from visus.memory import halving
from visus.models.base import Backbone
from visus.models.heads import probabilities
from visus.progress import task

BATCH = 32


@dataclass(frozen=True)
class Classified:
    """rows: int64 [n], positions in the ImageSet of the pictures that could be decoded. probabilities: float32 [n, k].

    quarantine: pictures that could not. device: where the model ran. pixels: uint8 [n, 16], hashes of the decoded pictures.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    quarantine: tuple[Quarantined, ...]
    device: str
    pixels: np.ndarray


def classify_images(backbone: Backbone, imageset: ImageSet, *, device: str = "auto") -> Classified:
    """Probabilities of every picture: softmax over classes, sigmoid of labels that stand alone.

    Raises DataError when the model has no classifier, SpecError for an unknown device.
    """
    if backbone.labels is None:
        raise DataError(backbone.unclassified)
    chosen = choose_device(device)
    rows: list[int] = []
    blocks: list[np.ndarray] = []
    bad: list[Quarantined] = []

    pixels = np.zeros((len(imageset), 16), np.uint8)

    def one(i: int) -> np.ndarray | str:
        try:
            picture = imageset.decode(i)
            pixels[i] = np.frombuffer(pixel_digest(picture), np.uint8)
            return backbone.preprocess(picture)
        except DataError as error:
            return str(error)

    with task("classifying", len(imageset)) as progress, backbone.on(chosen), ThreadPoolExecutor(4) as pool:
        for positions in _batches(len(imageset)):
            pictures = list(pool.map(one, positions))
            good = [(i, p) for i, p in zip(positions, pictures, strict=True) if not isinstance(p, str)]
            bad += [
                Quarantined(imageset.ids[i], p) for i, p in zip(positions, pictures, strict=True) if isinstance(p, str)
            ]
            if good:
                raw = np.stack([p for _, p in good])

                def run(at: slice, raw: np.ndarray = raw) -> np.ndarray:
                    batch = torch.from_numpy(raw[at]).to(chosen)
                    logits: np.ndarray = backbone.classify(backbone.preprocess.normalize(batch)).float().cpu().numpy()
                    return logits

                for _, logits in halving(len(raw), BATCH, run, what="classifying"):
                    blocks.append(probabilities(logits, backbone.head).astype(np.float32))
                rows += [i for i, _ in good]
            progress.advance(len(pictures))
    found = np.concatenate(blocks) if blocks else np.zeros((0, len(backbone.labels)), np.float32)
    at = np.array(rows, np.int64)
    return Classified(at, found, tuple(bad), chosen, pixels[at])


def _batches(n: int) -> Iterator[range]:
    for start in range(0, n, BATCH):
        yield range(start, min(start + BATCH, n))


def top_classes(probabilities: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """float [n, k] -> the most probable classes int64 [n, t] and their probabilities [n, t], t = min(top, k); ties by index."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(probabilities, order, axis=1)
