"""How well an image finds its own text among all of them, and a text its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visus.measures.intervals import grouped_wilson
from visus.measures.partners import connected_groups
from visus.measures.retrieval import chance_at, partner_ranks
from visus.measures.rows import unit_rows
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.common.proportion import Proportion

AT = (1, 5, 10)


@dataclass(frozen=True)
class Recall:
    """Share of queries that find one of their own among the first k, its interval by the design effect of queries that share an image or a
    text. chance: of a blind order; control: with random weights, or None."""

    k: int
    recall: Proportion
    chance: float
    control: float | None


@dataclass(frozen=True)
class Retrieval:
    """One way. recalls: at 1, 5 and 10, as far as there is more to find among. candidates: how many rows there are to find among.
    partners, most_partners: how many are right for a query, on average and at most."""

    way: str
    recalls: tuple[Recall, ...]
    candidates: int
    partners: float
    most_partners: int


@dataclass(frozen=True)
class Ranks:
    """ranks: int64 [n] of the best partner of each query among so many candidates. partners: int64 [n], how many are right for each.
    groups: int64 [n], queries that share a partner, or a partner's partner."""

    way: str
    ranks: np.ndarray
    candidates: int
    partners: np.ndarray
    groups: np.ndarray


def measure_retrieval(pairs: PairedEmbeddings, control: PairedEmbeddings | None = None) -> tuple[Retrieval, ...]:
    """Both ways over the whole set, each image and each text once; control: the same with random weights."""
    found = rank(pairs)
    beside: tuple[Ranks | None, ...] = (None, None) if control is None else rank(control)
    return tuple(_recalls(one, other) for one, other in zip(found, beside, strict=True))


def rank(pairs: PairedEmbeddings) -> tuple[Ranks, Ranks]:
    """From image to text and back; of several that belong to a query the first found counts."""
    at, first = pairs.first_pairs
    images, texts = unit_rows(pairs.images[at]), unit_rows(pairs.texts[first])
    groups = connected_groups(pairs.image_keys, pairs.text_keys)
    there, back = pairs.partners, pairs.partners.T.tocsr()
    return (
        Ranks("image to text", partner_ranks(images, texts, there), len(texts), _count(there), _tied(groups[at])),
        Ranks("text to image", partner_ranks(texts, images, back), len(images), _count(back), _tied(groups[first])),
    )


def _recalls(one: Ranks, control: Ranks | None) -> Retrieval:
    recalls = []
    for k in AT:
        if k == 1 or k < one.candidates:
            right = one.ranks < k
            share = Proportion(float(right.mean()), *grouped_wilson(right, one.groups), len(right))
            beside = None if control is None else float((control.ranks < k).mean())
            recalls.append(Recall(k, share, chance_at(one.partners, one.candidates, k), beside))
    return Retrieval(one.way, tuple(recalls), one.candidates, float(one.partners.mean()), int(one.partners.max()))


def _count(partners: Any) -> np.ndarray:
    found: np.ndarray = np.asarray(partners.sum(axis=1)).reshape(-1).astype(np.int64)
    return found


def _tied(groups: np.ndarray) -> np.ndarray:
    """The groups, or each query by itself where one group holds more than half: it says nothing about which queries go together."""
    return groups if 2 * int(np.bincount(groups).max()) <= len(groups) else np.arange(len(groups))
