"""Answers of prompt sets, image by image: which images flip between sets, which are hardest, and how these look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.images.thumbnails import thumbnails
from visus.studies.clip.pairs import PairedEmbeddings

TOP = 5
SIDE = 96
SHOWN = 12


@dataclass(frozen=True)
class FlippedImage:
    """An image that some prompt set gets right and another wrong. answers: of every set; right: how many sets are."""

    id: str
    label: str
    answers: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class WrongAnswer:
    """p_answer, p_label: probability of the answer and of the label."""

    id: str
    label: str
    answer: str
    p_answer: float
    p_label: float


@dataclass(frozen=True)
class Pictures:
    """images: uint8 [n, h, w, 3]. groups: the row of each in a gallery, or None."""

    images: np.ndarray
    captions: tuple[str, ...]
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Answers:
    """One prompt set on all images: p float64 [n, k] (softmax over the classes), answers int64 [n], right bool [n], within bool [n]: the label is
    among the first five; labels int64 [n]."""

    prompts: str
    labels: np.ndarray
    p: np.ndarray
    answers: np.ndarray
    right: np.ndarray
    within: np.ndarray

    @property
    def p_labels(self) -> np.ndarray:
        """float64 [n]: the probability of each image's label."""
        found: np.ndarray = self.p[np.arange(len(self.labels)), self.labels]
        return found


def answer(pairs: PairedEmbeddings, prompts: str) -> Answers:
    """Classify the images by one prompt set, with the model's own temperature."""
    labels = np.asarray(pairs.labels)
    z = pairs.logits(prompts).astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    order = np.argsort(-z, axis=1, kind="stable")[:, :TOP]
    return Answers(
        prompts, labels, p, order[:, 0], order[:, 0] == labels, (order == labels[:, None]).any(axis=1)
    )  # fmt: skip


def flips_of(pairs: PairedEmbeddings, found: Sequence[Answers]) -> list[FlippedImage]:
    """Those first whose label gains the most probability from one set to another."""
    right = np.stack([a.right for a in found])
    own = np.stack([a.p_labels for a in found])
    flip = np.flatnonzero(right.any(axis=0) & ~right.all(axis=0))
    ordered = flip[np.argsort(-np.ptp(own[:, flip], axis=0), kind="stable")]
    return [
        FlippedImage(
            pairs.ids[i],
            pairs.classes[found[0].labels[i]],
            tuple(pairs.classes[a.answers[i]] for a in found),
            int(right[:, i].sum()),
        )
        for i in ordered
    ]


def order_wrong(first: Answers) -> np.ndarray:
    """int64: the wrong images, those with the least probability on their label first."""
    order = np.argsort(np.where(first.right, np.inf, first.p_labels), kind="stable")
    return order[: int((~first.right).sum())]


def wrong_of(pairs: PairedEmbeddings, first: Answers, i: int) -> WrongAnswer:
    return WrongAnswer(
        pairs.ids[i],
        pairs.classes[first.labels[i]],
        pairs.classes[first.answers[i]],
        float(first.p[i].max()),
        float(first.p_labels[i]),
    )


def hardest_of(pairs: PairedEmbeddings, first: Answers, worst: np.ndarray) -> Pictures | None:
    if pairs.imageset is None or pairs.rows is None or not len(worst):
        return None
    wrong = [wrong_of(pairs, first, int(i)) for i in worst]
    captions = tuple(f"{w.label}: said {w.answer} {100 * w.p_answer:.0f} %" for w in wrong)
    return Pictures(thumbnails(pairs.imageset, pairs.rows[worst], SIDE), captions)


def decided_of(pairs: PairedEmbeddings, a: Answers, b: Answers) -> Pictures | None:
    """Images that one of the first and last prompt set gets right and the other wrong."""
    if pairs.imageset is None or pairs.rows is None:
        return None
    chosen: list[int] = []
    groups, captions = [], []
    for one, other in ((a, b), (b, a)):
        gain = np.flatnonzero(one.right & ~other.right)
        more = one.p_labels[gain] - other.p_labels[gain]
        for i in gain[np.argsort(-more, kind="stable")][: SHOWN // 2]:
            chosen.append(int(i))
            groups.append(f"right with {one.prompts}, wrong with {other.prompts}")
            captions.append(f"{pairs.classes[one.labels[i]]}, then {pairs.classes[other.answers[i]]}")
    if not chosen:
        return None
    return Pictures(
        thumbnails(pairs.imageset, pairs.rows[np.array(chosen)], SIDE), tuple(captions), tuple(groups)
    )  # fmt: skip


def predictions_of(pairs: PairedEmbeddings, first: Answers) -> dict[str, np.ndarray]:
    classes = np.array(pairs.classes)
    return {
        "id": np.array(pairs.ids),
        "split": np.full(len(pairs), pairs.split),
        "label": classes[first.labels],
        "prediction": classes[first.answers],
        "confidence": first.p.max(axis=1),
    }
