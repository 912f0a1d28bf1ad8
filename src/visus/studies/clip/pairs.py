"""What a CLIP study looks at: images and texts in one space, of a model on a set, or made elsewhere and brought as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.errors import DataError
from visus.measures.rows import unit_rows
from visus.progress import note
from visus.studies.clip.texts import captions_of, text_keys, warn_of_cuts

if TYPE_CHECKING:
    from pathlib import Path

    from visus.images import ImageSet, Quarantined
    from visus.models.base import Backbone
    from visus.models.dual import DualEncoder

EMBEDDING = "embedding"
SCALE = 100.0
"""CLIP's trained inverse temperature, taken for embeddings that come without one."""


@dataclass(frozen=True)
class Subject:
    """Images and their texts.

    images, texts: float32 [n, d], not scaled to unit length, row i of both a pair; an image may stand in several pairs, and a text. said: the n texts
    (empty where only vectors came). keys: int64 [n], equal for equal texts. shown: int64 [n], equal for equal images (None: all differ).
    named: every text is its class's name alone. labels: int64 [n] into classes, bool [n, k] for several a picture, or None.
    weights: classifier [k, d] of unit rows by prompt set. pictures, rows: where the images are in their set, or None.
    scale, bias: what turns cosines into logits; sigmoid: trained on every pair by itself, with that bias.
    """

    name: str
    images: np.ndarray
    texts: np.ndarray | None
    said: tuple[str, ...]
    keys: np.ndarray
    ids: tuple[str, ...]
    named: bool = False
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    prompts: Mapping[str, int] = field(default_factory=dict)
    pictures: ImageSet | None = None
    rows: np.ndarray | None = None
    scale: float = SCALE
    bias: float = 0.0
    sigmoid: bool = False
    random: bool = False
    quarantine: tuple[Quarantined, ...] = ()
    warnings: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    shown: np.ndarray | None = None

    @cached_property
    def image_keys(self) -> np.ndarray:
        """int64 [n], from 0: equal for equal images."""
        return np.arange(len(self.images)) if self.shown is None else _codes(self.shown)

    @cached_property
    def text_keys(self) -> np.ndarray:
        """int64 [n], from 0: equal for equal texts."""
        return _codes(self.keys)

    @cached_property
    def partners(self) -> Any:
        """scipy.sparse CSR of bool [images, texts], by image_keys and text_keys: True where a pair joins the two."""
        from visus.measures.partners import partners

        return partners(self.image_keys, self.text_keys)

    @cached_property
    def groups(self) -> np.ndarray:
        """int64 [n]: pairs of two groups share no image, and no text unless the texts are class names."""
        from visus.measures.partners import connected_groups

        return self.image_keys if self.named else connected_groups(self.image_keys, self.text_keys)

    def each_image_once(self) -> Subject:
        """The same with the first pair of every image alone."""
        first = np.unique(self.image_keys, return_index=True)[1]
        if len(first) == len(self.images):
            return self
        first = np.sort(first)
        return replace(
            self,
            images=self.images[first],
            texts=None if self.texts is None else self.texts[first],
            said=tuple(self.said[int(i)] for i in first) if self.said else (),
            keys=self.keys[first],
            ids=tuple(self.ids[int(i)] for i in first),
            labels=None if self.labels is None else self.labels[first],
            rows=None if self.rows is None else self.rows[first],
            shown=None,
        )

    @property
    def single(self) -> bool:
        """One label a picture."""
        return self.labels is not None and self.labels.ndim == 1

    def logits(self, prompts: str, rows: slice = slice(None)) -> np.ndarray:
        """float32 [n, k]: the scale times cosines, plus the bias."""
        found: np.ndarray = self.scale * unit_rows(self.images[rows]) @ self.weights[prompts].T + self.bias
        return found


def _codes(keys: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return found


def as_backbone(encoder: DualEncoder) -> Backbone:
    """The image tower as a Backbone with one tap, its embedding: so that the store, the engines and the quarantine serve it as well."""
    from torch import Tensor, nn

    from visus.models.base import Backbone
    from visus.models.tap import Tap

    class ImageTower(nn.Module):
        """Normalised pictures -> embeddings, not scaled to unit length."""

        def __init__(self) -> None:
            super().__init__()
            self.clip = encoder.module
            self.embedding = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            # By this module's own tower: the engines run a copy of it, on another device.
            found: Tensor = self.embedding(encoder.image(self.clip, x))
            return found

    import torch

    module = ImageTower().eval()
    with torch.inference_mode():
        width = int(module(torch.zeros(1, encoder.preprocess.channels, *encoder.preprocess.size)).shape[1])
    tap = Tap(EMBEDDING, EMBEDDING, "vector", 1.0, (width,))
    return Backbone(encoder.spec, module, (tap,), {"late": EMBEDDING}, encoder.preprocess, random=encoder.random)


def embed(encoder: DualEncoder, imageset: ImageSet, *, device: str) -> tuple[np.ndarray, np.ndarray, Any, np.ndarray]:
    """(float32 [m, d] embeddings, int64 [m] their positions in the set, what was set aside, str [m] hashes of their pixels).

    Cached and resumed as features are.
    """
    from visus.features import extract

    found = extract(imageset, as_backbone(encoder), [EMBEDDING], device=device)
    return np.asarray(found[EMBEDDING]), np.asarray(found.rows), found.quarantine, found.pixels


def from_model(
    encoder: DualEncoder,
    imageset: ImageSet,
    *,
    prompts: Sequence[str],
    synonyms: Path | None,
    device: str,
    seed: int,
) -> Subject:
    """The test part of a set through both towers (all of it where it has no labels), and a classifier for each prompt set.

    A picture is a pair with each of its captions; without captions with its class in the first prompt of 'short'.
    Raises DataError for a set with neither.
    """
    from visus.models.dual_reading import warn_of_spelled
    from visus.models.prompts import template_set

    if imageset.labels is None and imageset.captions is None:
        raise DataError(
            f"{imageset.name} has neither labels nor captions: nothing says what its images show; give class subfolders, "
            "--labels, or a metadata.csv of captions, or look for something with --search"
        )
    classed = imageset.labels is not None and len(imageset.classes) > 1
    sets = {name: template_set(name, dataset=imageset.name) for name in prompts} if classed else {}
    meant = _meant(imageset.classes, synonyms, ids=imageset.wordnet) if classed else []
    for name, templates in sets.items():
        _check_classes(encoder, imageset.classes, meant, templates, name)
    rows = imageset.split(seed=seed).test if imageset.labels is not None else np.arange(len(imageset))
    said: tuple[str, ...] = ()
    if imageset.captions is not None:
        rows, said = captions_of(imageset, rows)
    pictures = np.unique(rows)
    images, kept, quarantine, pixels = embed(encoder, imageset.subset(pictures), device=device)
    shown = _pictures(pixels)
    at = np.full(len(imageset), -1)
    at[pictures[kept]] = np.arange(len(kept))
    here = at[rows] >= 0  # those that were not set aside
    said = tuple(t for t, read in zip(said, here, strict=True) if read) if said else ()
    rows = rows[here]
    images, shown = images[at[rows]], shown[at[rows]]
    labels = None if imageset.labels is None else imageset.labels[rows]
    named = False
    if imageset.captions is None:
        assert labels is not None
        (template,) = template_set("short")
        said = tuple(template.format(_spoken(imageset.classes[int(k)])) for k in labels)
        named = True
    what = "class names" if named else "captions"
    keys = text_keys(encoder, said, what)
    for texts_of, called in (([w for c in meant for w in c], "class names"), ([] if named else said, "captions")):
        warn_of_spelled(encoder.words, texts_of, called)
    distinct = sorted(set(said))
    place = {t: i for i, t in enumerate(distinct)}
    texts = encoder.encode_texts(distinct, unit=False, device=device)[[place[t] for t in said]]
    weights, used, warnings = {}, {}, warn_of_cuts(encoder, distinct, what)
    classes = imageset.classes if labels is not None else ()
    if classed:
        for name, templates in sets.items():
            warnings += warn_of_cuts(
                encoder, [t.format(c) for t in templates for w in meant for c in w], f"prompts of {name!r}"
            )
            weights[name] = encoder.zero_shot(meant, templates, device=device)
            used[name] = len(templates)
    return Subject(
        encoder.spec, images, texts, said, keys.astype(np.int64), tuple(imageset.ids[int(i)] for i in rows), named,
        labels, classes, weights, used, imageset, rows, encoder.logit_scale, encoder.logit_bias, encoder.sigmoid,
        encoder.random, (*imageset.quarantine, *quarantine), tuple(warnings), {"context, tokens": encoder.context}, shown,
    )  # fmt: skip


def _pictures(pixels: np.ndarray) -> np.ndarray:
    """int64 [n], in the order of first appearance: equal for pictures that are the same pixel for pixel."""
    _, first, code = np.unique(pixels, return_index=True, return_inverse=True)
    if len(first) < len(pixels):
        note(f"images: {len(pixels):,} are {len(first):,} different pictures, pixel for pixel; each counts once")
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    found: np.ndarray = place[code.reshape(-1)]
    return found


def _check_classes(
    encoder: DualEncoder,
    classes: Sequence[str],
    meant: Sequence[tuple[str, ...]],
    templates: Sequence[str],
    name: str,
) -> None:
    """Raise DataError where two classes are the same to the model in all prompts of a set."""
    from visus.models.dual_reading import same_classes

    same = same_classes(encoder.words, meant, templates)
    if same is not None:
        a, b, text, other = same
        cut = f", cut to the {encoder.context} tokens that it reads" if encoder.cut([text, other]) else ""
        raise DataError(
            f"the classes {classes[a]!r} and {classes[b]!r} are one text to the model in the prompts {name!r}{cut}; rename or join them, or "
            "give shorter prompts or --synonyms that tell them apart"
        )


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _meant(classes: Sequence[str], synonyms: Path | None, *, ids: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Wordings of every class: the user's, by its name or WordNet id (`ids`, '' of one without), or its name."""
    from visus.models.prompts import class_wordings

    if synonyms is None:
        return [(_spoken(c),) for c in classes]
    named = {i: c for i, c in zip(ids, classes, strict=False) if i}
    known: dict[str, tuple[str, ...]] = {}
    for key, words in class_wordings(synonyms).items():
        name = named.get(key, key)
        if name in known:
            raise DataError(f"{synonyms} has wordings for {name!r} twice, by its name and by its WordNet id; keep one")
        known[name] = words
    stray = sorted(set(known) - set(classes))
    if stray:
        raise DataError(
            f"{synonyms} has wordings for {stray[0]!r}, which is no class; the classes are {', '.join(classes)}"
        )
    return [known.get(c, (_spoken(c),)) for c in classes]
