"""A dual encoder on a set of images: PairedEmbeddings with a classifier of unit rows for each prompt set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import DataError
from visus.features import extract
from visus.images import ImageSet, Quarantined
from visus.models.base import Backbone
from visus.models.dual import DualEncoder
from visus.models.dual_reading import same_classes, warn_of_spelled
from visus.models.prompts import class_wordings, template_set
from visus.models.tap import Tap
from visus.progress import note
from visus.studies.clip.pairs import PairedEmbeddings, keys_of
from visus.studies.clip.texts import captions_of, text_keys, warn_of_cuts

EMBEDDING = "embedding"


@dataclass(frozen=True)
class EmbeddedImages:
    """vectors: float32 [m, d]; rows: int64 [m], where they stand in their set; quarantine: what was set aside; pixels: str [m], hashes."""

    vectors: np.ndarray
    rows: np.ndarray
    quarantine: tuple[Quarantined, ...]
    pixels: np.ndarray


@dataclass(frozen=True)
class Prompting:
    """sets: names or files of prompt sets. synonyms: JSON file of wordings of classes, or None."""

    sets: tuple[str, ...]
    synonyms: Path | None = None


@dataclass(frozen=True)
class PairedTexts:
    """The texts of an image set. rows: int64 [n], the image of each of the n texts."""

    rows: np.ndarray
    texts: tuple[str, ...]
    are_classes: bool

    @property
    def what(self) -> str:
        """What they are called in warnings."""
        return "class names" if self.are_classes else "captions"


def as_backbone(encoder: DualEncoder) -> Backbone:
    """The image tower as a Backbone with one tap, its embedding: so that the store, the engines and the quarantine serve it as well."""

    # Its structure and, in a source checkout, its code are part of the keys of stored features: a change makes them anew.
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

    module = ImageTower().eval()
    with torch.inference_mode():
        width = int(module(torch.zeros(1, encoder.preprocess.channels, *encoder.preprocess.size)).shape[1])
    tap = Tap(EMBEDDING, EMBEDDING, "vector", 1.0, (width,))
    return Backbone(encoder.spec, module, (tap,), {"late": EMBEDDING}, encoder.preprocess, random=encoder.random)


def embed(encoder: DualEncoder, imageset: ImageSet, *, device: str) -> EmbeddedImages:
    """The images of a set in the encoder's space; cached and resumed as features are."""
    found = extract(imageset, as_backbone(encoder), [EMBEDDING], device=device)
    return EmbeddedImages(np.asarray(found[EMBEDDING]), np.asarray(found.rows), found.quarantine, found.pixels)


def from_model(
    encoder: DualEncoder, imageset: ImageSet, prompting: Prompting, *, device: str, seed: int
) -> PairedEmbeddings:
    """The test part of a set through both towers (all of it where it has no labels), and a classifier for each prompt set.

    An image is a pair with each of its captions; without captions with its class in the first prompt of 'short'.
    Raises DataError for a set with neither.
    """
    if imageset.labels is None and imageset.captions is None:
        raise DataError(
            f"{imageset.name} has neither labels nor captions: nothing says what its images show; give class subfolders, "
            "--labels, or a metadata.csv of captions, or look for something with --search"
        )
    classed = imageset.labels is not None and len(imageset.classes) > 1
    sets = {name: template_set(name, dataset=imageset.name) for name in prompting.sets} if classed else {}
    meant = wordings_of(imageset.classes, prompting.synonyms, ids=imageset.wordnet) if classed else []
    for name, templates in sets.items():
        _check_classes(encoder, imageset.classes, meant, templates, name)
    found, image_keys, paired = _embed_pairs(encoder, imageset, device, seed)
    keys = text_keys(encoder, paired.texts, paired.what)
    for texts, called in (
        ([w for c in meant for w in c], "class names"),
        (() if paired.are_classes else paired.texts, "captions"),
    ):
        warn_of_spelled(encoder.words, texts, called)
    distinct = sorted(set(paired.texts))
    place = {t: i for i, t in enumerate(distinct)}
    warnings = warn_of_cuts(encoder, distinct, paired.what)
    vectors = encoder.encode_texts(distinct, unit=False, device=device)[[place[t] for t in paired.texts]]
    classifiers = {}
    for name, templates in sets.items():
        prompts = [t.format(c) for t in templates for w in meant for c in w]
        warnings += warn_of_cuts(encoder, prompts, f"prompts of {name!r}")
        classifiers[name] = encoder.zero_shot(meant, templates, device=device)
    labels = None if imageset.labels is None else imageset.labels[paired.rows]
    return PairedEmbeddings(
        name=encoder.spec,
        images=found.vectors,
        texts=vectors,
        image_keys=image_keys,
        text_keys=keys_of(keys),
        ids=tuple(imageset.ids[int(i)] for i in paired.rows),
        captions=paired.texts,
        texts_are_classes=paired.are_classes,
        labels=labels,
        classes=() if labels is None else imageset.classes,
        classifiers=classifiers,
        templates={name: len(templates) for name, templates in sets.items()},
        imageset=imageset,
        rows=paired.rows,
        split="all" if labels is None else "test",
        scale=encoder.logit_scale,
        bias=encoder.logit_bias,
        sigmoid=encoder.sigmoid,
        random=encoder.random,
        quarantine=(*imageset.quarantine, *found.quarantine),
        warnings=tuple(warnings),
        provenance={"context, tokens": encoder.context},
    )


def _embed_pairs(
    encoder: DualEncoder, imageset: ImageSet, device: str, seed: int
) -> tuple[EmbeddedImages, np.ndarray, PairedTexts]:
    """The image of every pair, keys of equal images int64 [n], and the texts, without the pairs of images that were set aside."""
    rows = imageset.split(seed=seed).test if imageset.labels is not None else np.arange(len(imageset))
    texts: tuple[str, ...] | None = None
    if imageset.captions is not None:
        rows, texts = captions_of(imageset, rows)
    images = np.unique(rows)
    found = embed(encoder, imageset.subset(images), device=device)
    keys = _equal_images(found.pixels)
    at = np.full(len(imageset), -1)
    at[images[found.rows]] = np.arange(len(found.rows))
    decoded = at[rows] >= 0
    if texts is None:
        (template,) = template_set("short")
        labels = np.asarray(imageset.labels)[rows[decoded]]
        paired = PairedTexts(
            rows[decoded], tuple(template.format(_spoken(imageset.classes[int(k)])) for k in labels), True
        )
    else:
        paired = PairedTexts(rows[decoded], tuple(t for t, read in zip(texts, decoded, strict=True) if read), False)
    place = at[paired.rows]
    return (
        EmbeddedImages(found.vectors[place], paired.rows, found.quarantine, found.pixels[place]),
        keys_of(keys[place]),
        paired,
    )


def _equal_images(pixels: np.ndarray) -> np.ndarray:
    """int64 [n], in the order of first appearance: equal for images that are the same pixel for pixel."""
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


def wordings_of(classes: Sequence[str], synonyms: Path | None, *, ids: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Wordings of every class: the user's, by its name or WordNet id (`ids`, '' of one without), or its name."""
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
