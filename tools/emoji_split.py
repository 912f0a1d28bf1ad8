"""Near-twins, the two splits and the capped class task of the emoji set. Nothing here is random: hashes decide ties."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from emoji_tables import CAPPED

NEAR = 6.0
SHARES = {"train": 0.70, "validation": 0.10, "test": 0.20}


def coarse(pixels: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [64, 64, 3] as float32 [n, 768]: means of 4 x 4 blocks, on the scale 0 to 255."""
    return np.stack([p.reshape(16, 4, 16, 4, 3).mean((1, 3)).ravel() for p in pixels]).astype(np.float32)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root mean square differences of coarse pictures, [n, m], on the scale 0 to 255."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0) / a.shape[1])


def rank(*parts: Hashable) -> str:
    """A fixed pseudo-random order: the SHA-256 of the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def join_near(
    concepts: Sequence[str], hexcodes: Sequence[str], hands: Sequence[str], small: np.ndarray
) -> dict[str, str]:
    """Concept of every hexcode after joining concepts whose pictures by one hand differ by less than NEAR.

    concepts, hexcodes, hands: one per picture; small: float32 [n, 768] from `coarse`. A joined concept is named after
    the alphabetically first of its members.
    """
    parent = {c: c for c in concepts}

    def root(c: str) -> str:
        while parent[c] != c:
            c = parent[c]
        return c

    for hand in sorted(set(hands)):
        at = np.flatnonzero(np.asarray(hands) == hand)
        for start in range(0, len(at), 1024):
            block = at[start : start + 1024]
            for i, j in zip(*np.nonzero(distances(small[block], small[at]) < NEAR), strict=True):
                a, b = sorted((root(concepts[block[i]]), root(concepts[at[j]])))
                parent[b] = a
    return {code: root(c) for code, c in zip(hexcodes, concepts, strict=True)}


def split_concepts(concept: dict[str, str], stratum: dict[str, str]) -> dict[str, str]:
    """Side of every hexcode: whole concepts, dealt within strata (class, else group) toward SHARES, large ones first.

    concept, stratum: by hexcode. A concept belongs to the stratum of most of its emoji.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for code, c in concept.items():
        members[c].append(code)
    home = {c: _most(stratum[code] for code in codes) for c, codes in members.items()}
    side: dict[str, str] = {}
    for s in sorted(set(home.values())):
        mine = sorted((c for c in members if home[c] == s), key=lambda c: (-len(members[c]), rank("concept", c)))
        total = sum(len(members[c]) for c in mine)
        filled = dict.fromkeys(SHARES, 0)
        for c in mine:
            # the side that stays furthest below its share once this concept is in it
            goes = min(SHARES, key=lambda k: (filled[k] + len(members[c])) / (SHARES[k] * total))
            filled[goes] += len(members[c])
            side |= dict.fromkeys(members[c], goes)
    return side


def _most(values: Iterable[str]) -> str:
    counts = Counter(values)
    return min(counts, key=lambda v: (-counts[v], v))


def choose_task(hexcodes: Sequence[str], classes: Sequence[str | None]) -> set[str]:
    """Hexcodes of the default class task: every emoji of an uncapped class; of a capped one whole emoji, those that most
    artists drew first, until the next one would pass the size of the largest uncapped class (in pictures)."""
    class_of = dict(zip(hexcodes, classes, strict=True))
    drawn = Counter(hexcodes)
    sizes = Counter(c for c in classes if c is not None)
    cap = max(n for c, n in sizes.items() if c not in CAPPED)
    task = {code for code, c in class_of.items() if c is not None and c not in CAPPED}
    for capped in CAPPED:
        taken = 0
        mine = (code for code, c in class_of.items() if c == capped)
        for code in sorted(mine, key=lambda code: (-drawn[code], rank("task", code))):
            if taken + drawn[code] > cap:
                break
            task.add(code)
            taken += drawn[code]
    return task
