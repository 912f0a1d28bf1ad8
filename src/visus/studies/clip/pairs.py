"""PairedEmbeddings: images and texts in one space, of a model on a set, or made elsewhere and brought as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from visus.images import ImageSet, Quarantined
from visus.measures.partners import connected_groups, partners
from visus.measures.rows import unit_rows

SCALE = 100.0
"""CLIP's trained inverse temperature, taken for embeddings that come without one."""


@dataclass(frozen=True, kw_only=True)
class PairedEmbeddings:
    """Images and their texts, row i of both a pair; an image may stand in several pairs, and a text.

    name: of the model, or of the file. images, texts: float32 [n, d], not scaled to unit length. image_keys, text_keys: int64 [n], from 0, equal
    for equal images and equal texts (`keys_of`). ids: names of the n images. captions: the n texts (empty where only vectors came).
    texts_are_classes: every text is its class's name alone.
    labels: int64 [n] into classes, bool [n, k] for several an image, or None. classifiers: float32 [k, d] of unit rows by prompt set;
    templates: how many prompts each was made of.
    imageset, rows: where the images stand in their set, or None. split: which images these are.
    scale, bias: what turns cosines into logits; sigmoid: trained on every pair by itself, with that bias. random: with random weights.
    """

    name: str
    images: np.ndarray
    texts: np.ndarray
    image_keys: np.ndarray
    text_keys: np.ndarray
    ids: tuple[str, ...]
    captions: tuple[str, ...] = ()
    texts_are_classes: bool = False
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    classifiers: Mapping[str, np.ndarray] = field(default_factory=dict)
    templates: Mapping[str, int] = field(default_factory=dict)
    imageset: ImageSet | None = None
    rows: np.ndarray | None = None
    split: str = "all"
    scale: float = SCALE
    bias: float = 0.0
    sigmoid: bool = False
    random: bool = False
    quarantine: tuple[Quarantined, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def first_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [images], int64 [texts]: the first pair of every different image, and of every different text, in the order of their keys."""
        at, first = (np.unique(keys, return_index=True)[1] for keys in (self.image_keys, self.text_keys))
        return at, first

    @cached_property
    def partners(self) -> Any:
        """scipy.sparse CSR of bool [images, texts], by image_keys and text_keys: True where a pair joins the two."""
        return partners(self.image_keys, self.text_keys)

    @cached_property
    def groups(self) -> np.ndarray:
        """int64 [n]: pairs of two groups share no image, and no text unless the texts are class names."""
        return self.image_keys if self.texts_are_classes else connected_groups(self.image_keys, self.text_keys)

    @property
    def single(self) -> bool:
        """One label an image."""
        return self.labels is not None and self.labels.ndim == 1

    @property
    def classifier(self) -> np.ndarray | None:
        """float32 [k, d] of the first prompt set, where there is one label an image; else None."""
        return next(iter(self.classifiers.values()), None) if self.single else None

    def logits(self, prompts: str) -> np.ndarray:
        """float32 [n, k]: the scale times cosines, plus the bias."""
        found: np.ndarray = self.scale * unit_rows(self.images) @ self.classifiers[prompts].T + self.bias
        return found

    def each_image_once(self) -> PairedEmbeddings:
        """The same with the first pair of every image alone."""
        first = np.sort(self.first_pairs[0])
        if len(first) == len(self):
            return self
        return replace(
            self,
            images=self.images[first],
            texts=self.texts[first],
            image_keys=np.arange(len(first)),
            text_keys=keys_of(self.text_keys[first]),
            ids=tuple(self.ids[int(i)] for i in first),
            captions=tuple(self.captions[int(i)] for i in first) if self.captions else (),
            labels=None if self.labels is None else self.labels[first],
            rows=None if self.rows is None else self.rows[first],
        )


def keys_of(codes: np.ndarray) -> np.ndarray:
    """int64 [n], from 0 and in their order: equal where the codes [n] are."""
    found: np.ndarray = np.unique(codes, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return found
