"""WordNet ids (n01440764) and their words, as ImageNet and its subsets use them: timm brings a table of all 21,843."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ID = re.compile(r"n\d{8}")
# Two synsets of ImageNet-1k have but one word, and the same: named as Radford et al. (2021) do.
ALIKE = {"n02012849": "crane bird", "n03126707": "construction crane"}


def is_id(text: str) -> bool:
    """Whether a text is a WordNet id of a noun."""
    return ID.fullmatch(text) is not None


@cache
def _table() -> dict[str, str]:
    found = find_spec("timm")  # without importing it, and torch with it
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        lines = (Path(place) / "data" / "_info" / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
        return dict(line.split("\t", 1) for line in lines if "\t" in line)
    return {}


def synonyms(wordnet_id: str) -> str | None:
    """'n01440764' -> 'tench, Tinca tinca'; None for an id that ImageNet does not have."""
    return _table().get(wordnet_id)


@cache
def ids_of_imagenet() -> tuple[str, ...]:
    """The ids of ImageNet-1k's 1,000 classes in the order of every classifier's outputs."""
    found = find_spec("timm")
    for place in list(found.submodule_search_locations or ()) if found else []:
        return tuple((Path(place) / "data" / "_info" / "imagenet_synsets.txt").read_text("utf-8").split())
    return ()


def names_for(ids: Sequence[str], words: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """A name for each id, no two alike: its first word; where that is another's too, the next one; at last the word with the id.

    words: synonyms by id that lie beside the pictures, before WordNet's. An id without words stays as it is.
    """
    choices = []
    for i in ids:
        text = (words or {}).get(i) or synonyms(i) or i
        own = [ALIKE[i]] if i in ALIKE else []
        choices.append([*own, *(w.strip() for w in text.split(",") if w.strip())] or [i])
    picked = [c[0] for c in choices]
    for depth in range(1, max(map(len, choices), default=1)):
        often = Counter(p.casefold() for p in picked)
        picked = [
            c[depth] if often[p.casefold()] > 1 and len(c) > depth else p for p, c in zip(picked, choices, strict=True)
        ]
    often = Counter(p.casefold() for p in picked)
    return tuple(f"{p} ({i})" if often[p.casefold()] > 1 and p != i else p for p, i in zip(picked, ids, strict=True))
