"""Judging a network trained from nothing: shares on held-out images, beside chance and the untrained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visus.errors import DataError
from visus.images import ImageSet
from visus.measures.calibration import ece
from visus.measures.confusion import balanced_accuracy
from visus.measures.gap import Gap, modality_gap
from visus.measures.repeats import Repeats, repeats
from visus.measures.retrieval import ranks
from visus.models import Backbone
from visus.models.classify import classify_images
from visus.models.dual import DualEncoder
from visus.models.dual_new import square
from visus.models.dual_reading import same_classes
from visus.models.prompts import EMOJI
from visus.progress import caution
from visus.studies.clip.texts import text_keys
from visus.studies.common import repeated_images
from visus.studies.common.labels import labels_of
from visus.training.captioned import candidates, names_of, unseen
from visus.training.from_scratch import Plan
from visus.training.parts import Parts

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "short": ("a picture of a {}",),
    "variants": EMOJI,
}
RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class Score:
    """One share on held-out images: what was asked, hits among n, what chance gives, and the untrained network's share (or None)."""

    asked: str
    hits: int
    n: int
    chance: float
    untrained: float | None = None

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.hits / self.n


@dataclass(frozen=True)
class Judged:
    """scores: by name. balanced: macro recall by the same name, where classes were asked for. gaps: before and after training."""

    scores: Mapping[str, Score]
    balanced: Mapping[str, float]
    gaps: tuple[Gap, Gap] | None = None
    calibration: float | None = None
    warnings: tuple[str, ...] = ()


def judge_clip(
    imageset: ImageSet,
    parts: Parts,
    encoders: tuple[DualEncoder, DualEncoder],
    shown: tuple[ImageSet, np.ndarray] | None,
    learned: np.ndarray | None = None,
    *,
    seed: int,
) -> Judged:
    """Retrieval on the test part, zero-shot accuracy on `shown` (a set and positions in it, see `zero_shot_rows`), and the modality gap.

    encoders: the trained one and the same untrained. learned: uint8 [n, 16], hashes of the training and validation pictures, in that order
    (None: not known). seed: of the training.
    """
    trained, untrained = encoders
    names, keys = names_of(imageset)
    # Names that the tokenizer makes one (cut, lower case) are one to be found, the first of them.
    _, first, code = np.unique(text_keys(trained, names, "captions"), return_index=True, return_inverse=True)
    keys = first[code.reshape(-1)][keys]
    choice = candidates(keys, parts.test, parts.train)
    mine, own = np.searchsorted(choice, keys[parts.test]), np.unique(np.searchsorted(choice, keys[parts.test]))
    found, gaps = [], []
    pixels = np.zeros((len(parts.test), 16), np.uint8)
    for encoder in (trained, untrained):
        pictures = encoder.encode_images(imageset, parts.test, pixels=pixels)
        texts = encoder.encode_texts([names[k] for k in choice])
        found.append(
            (
                ranks(pictures, texts, mine, np.arange(len(choice))),
                ranks(texts[own], pictures, own, mine),
            )
        )
        gaps.append(modality_gap(pictures, texts[mine], keys=mine, seed=seed))
    scores: dict[str, Score] = {}
    for side, (asked, size) in enumerate(
        (
            (f"image to name, among {len(choice):,} names", len(choice)),
            (f"name to image, among {len(parts.test):,} images", len(parts.test)),
        )
    ):
        now, before = found[0][side], found[1][side]
        for k in RECALLS:
            scores[f"recall@{k}, {('image to name', 'name to image')[side]}"] = Score(
                asked, int(np.sum(now < k)), len(now), min(k / size, 1.0), float(np.mean(before < k))
            )
    twice, warnings = _twice(imageset, parts, learned, parts.test, pixels)
    if twice is not None and twice.count and not twice.test.all():
        now, before, left = found[0][0], found[1][0], ~twice.test
        for k in RECALLS:
            scores[f"recall@{k}, image to name, without repeats"] = Score(
                f"without {twice.count:,} test images that are training images too", int(np.sum(now[left] < k)), int(left.sum()),
                min(k / len(choice), 1.0), float(np.mean(before[left] < k)),
            )  # fmt: skip
    balanced: dict[str, float] = {}
    if shown is not None:
        zero_shot_scores(*shown, encoders, scores, balanced)
    return Judged(scores, balanced, (gaps[1], gaps[0]), warnings=warnings)


def _twice(
    imageset: ImageSet, parts: Parts, learned: np.ndarray | None, test: np.ndarray, pixels: np.ndarray
) -> tuple[Repeats | None, tuple[str, ...]]:
    """Which of the test pictures at positions `test` were learned from, and what to say of it; pixels: their hashes, uint8 [n, 16]."""
    if learned is None or not len(learned):
        return None, ()
    rows = np.concatenate([parts.train, parts.validation, test])
    hashes = np.array([h.tobytes().hex() for h in (*learned, *pixels)])
    n, m, place = len(parts.train), len(learned), np.arange(len(rows))
    labels = None if imageset.labels is None else np.asarray(imageset.labels)[rows]
    twice = repeats(hashes, labels, place[:m], place[m:], [(place[:n], place[n:m])])
    known = repeated_images.Rows([imageset.ids[i] for i in rows], place[m:], labels, imageset.classes)
    return twice, tuple(repeated_images.cautions(repeated_images.measure(twice, known, ())))


def zero_shot_rows(shown: ImageSet, imageset: ImageSet, plan: Plan) -> np.ndarray:
    """Positions in `shown` that zero-shot is judged on: its test part by the training's own seed, less what the training looks at.

    The set may hold the training's pictures under other names and in another split, so that pictures are compared and not names.
    Raises DataError, before anything is trained: no labels, or nothing left.
    """
    labels_of(shown)
    test = shown.split(seed=plan.recipe.seed).test
    seen = [(imageset, np.concatenate([plan.parts.train, plan.parts.validation]))]
    if plan.beside is not None:
        seen.append((plan.beside, np.arange(len(plan.beside))))
    rows = unseen(shown, test, seen, square(plan.sizes.image))
    if not len(rows):
        raise DataError(
            f"all {len(test):,} test images of {shown.name} are among those that the training looks at; give --zero-shot other images"
        )
    if len(rows) < len(test):
        caution(
            f"zero-shot: {len(test) - len(rows):,} of {len(test):,} test images of {shown.name} are left out, as the training looks at them"
        )
    return rows


def zero_shot_scores(
    shown: ImageSet,
    test: np.ndarray,
    encoders: tuple[DualEncoder, DualEncoder],
    scores: dict[str, Score],
    balanced: dict[str, float],
) -> None:
    """Accuracy on `shown` at positions `test`, by every set of prompts; added to scores and balanced."""
    trained, untrained = encoders
    y, k = labels_of(shown)[test], len(shown.classes)
    pictures, before = (e.encode_images(shown, test) for e in (trained, untrained))
    for name, prompts in PROMPTS.items():
        if same := same_classes(trained.words, [(c,) for c in shown.classes], prompts):
            caution(
                f"The classes {shown.classes[same[0]]!r} and {shown.classes[same[1]]!r} are one text to the model with {name} prompts: zero-shot "
                "cannot tell them apart."
            )
        said = (pictures @ trained.zero_shot(shown.classes, prompts).T).argmax(1)
        random = (before @ untrained.zero_shot(shown.classes, prompts).T).argmax(1)
        title = f"zero-shot, {name} prompts"
        asked = f"{k} classes, {len(prompts)} prompt{'s' if len(prompts) > 1 else ''}, {prompts[0]!r}"
        scores[title] = Score(asked, int(np.sum(said == y)), len(y), 1 / k, float(np.mean(random == y)))
        balanced[title] = balanced_accuracy(y, said, n_classes=k)


def judge_vit(
    imageset: ImageSet, parts: Parts, backbone: Backbone, learned: np.ndarray | None = None, *, device: str = "cpu"
) -> Judged:
    """Accuracy, macro recall and calibration on the test part; and, where some of it was learned from, the accuracy without these.

    learned: uint8 [n, 16], hashes of the training and validation pictures, in that order.
    """
    said = classify_images(backbone, imageset.subset(parts.test), device=device)
    y = np.asarray(imageset.labels)[parts.test][said.rows]
    guess = said.probabilities.argmax(1)
    k = len(imageset.classes)
    common = float(np.bincount(y, minlength=k).max() / len(y))
    asked = f"{k} classes; the commonest alone gives the chance"
    scores = {"accuracy": Score(asked, int(np.sum(guess == y)), len(y), common)}
    twice, warnings = _twice(imageset, parts, learned, parts.test[said.rows], said.pixels)
    if twice is not None and twice.count:
        left = ~twice.test
        if left.any():
            scores["accuracy without repeats"] = Score(
                f"without {twice.count:,} test images that are training images too",
                int(np.sum(guess[left] == y[left])), int(left.sum()), float(np.bincount(y[left], minlength=k).max() / left.sum()),
            )  # fmt: skip
    balanced = {"accuracy": balanced_accuracy(y, guess, n_classes=k)}
    return Judged(scores, balanced, None, ece(said.probabilities, y), warnings)
