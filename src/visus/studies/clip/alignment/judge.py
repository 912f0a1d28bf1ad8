"""One space, or what an alignment makes of it, judged on some of its pairs: cosine, gap, retrieval and zero-shot accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visus.measures.alignment import Alignment, halves
from visus.measures.intervals import wilson
from visus.measures.retrieval import partner_ranks, recall_at
from visus.measures.rows import unit64
from visus.studies.clip.pairs import PairedEmbeddings

AT = (1, 5, 10)
RECALL, ACCURACY = "recall@1", "zero-shot accuracy"
JUDGED = 2000  # pairs on which a side is judged, at most


@dataclass(frozen=True)
class SideMeasures:
    """cosine: mean of pairs. distance: of centroids. to_text, to_image: recall at 1, 5, 10 (None where no more are to find among).
    accuracy: zero-shot, or None. n: pairs."""

    cosine: float
    distance: float
    to_text: tuple[float | None, ...]
    to_image: tuple[float | None, ...]
    accuracy: float | None
    n: int

    def score(self, what: str) -> float:
        """RECALL: at 1, of the text; ACCURACY: zero-shot. NaN where it is not known."""
        value = self.to_text[0] if what == RECALL else self.accuracy
        return float("nan") if value is None else value


@dataclass(frozen=True)
class Judged:
    """The measures of a side, and what they were counted from: found, right: bool [images], whether a text of its own came first, and whether the
    class was right (None where there are no classes). half_width: of the 95 % interval of a share of one half, of as many as were asked."""

    side: SideMeasures
    found: np.ndarray
    right: np.ndarray | None
    half_width: float


@dataclass(frozen=True)
class Sides:
    """Positions of pairs: to fit on, and as many of these and of the others to judge on (recall depends on how many there are to find among)."""

    used: np.ndarray
    inside: np.ndarray
    held: np.ndarray


def judge(pairs: PairedEmbeddings, rows: np.ndarray, alignment: Alignment | None) -> Judged:
    """Of the pairs at `rows`, after the alignment or without any."""
    images = alignment.images(pairs.images[rows]) if alignment else unit64(pairs.images[rows])
    texts = alignment.texts(pairs.texts[rows]) if alignment else unit64(pairs.texts[rows])
    image_keys, at = np.unique(pairs.image_keys[rows], return_index=True)
    text_keys, first = np.unique(pairs.text_keys[rows], return_index=True)
    partners = pairs.partners[image_keys][:, text_keys].tocsr()
    to_text = partner_ranks(images[at], texts[first], partners)
    to_image = partner_ranks(texts[first], images[at], partners.T.tocsr())
    classifier, right = pairs.classifier, None
    if classifier is not None:
        classes = alignment.texts(classifier) if alignment else classifier
        right = (images[at] @ np.asarray(classes).T).argmax(axis=1) == np.asarray(pairs.labels)[rows][at]
    asked = len(at) if pairs.texts_are_classes else min(len(at), len(first))
    low, high = wilson(asked / 2, asked)
    side = SideMeasures(
        cosine=float(np.einsum("nd,nd->n", images, texts).mean()),
        distance=float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0))),
        to_text=_recalls(to_text, len(first)),
        to_image=_recalls(to_image, len(at)),
        accuracy=None if right is None else float(right.mean()),
        n=len(rows),
    )
    return Judged(side, to_text < 1, right, float(0.5 * (high - low)))


def _recalls(ranks: np.ndarray, among: int) -> tuple[float | None, ...]:
    return tuple(recall_at(ranks, k) if k == 1 or k < among else None for k in AT)


def sides(n: int, size: int, groups: np.ndarray, *, seed: int) -> Sides:
    """`size` of n pairs to fit on, and the others. groups: int64 [n]; pairs of one group never stand on both sides."""
    used, others = halves(n, size, groups, seed=seed)
    judged = min(len(used), len(others), JUDGED)
    rng = np.random.default_rng(seed)
    inside, held = (np.sort(rng.permutation(side)[:judged]) for side in (used, others))
    return Sides(used, inside, held)
