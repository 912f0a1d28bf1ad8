"""Classes that are WordNet ids (ImageNet and its subsets) get their names, once, at the set: every study sees 'tench', not n01440764."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visus.images.base import ImageSet
from visus.progress import caution, note
from visus.wordnet import is_id, names_for, synonyms

# What ImageNet's releases, Kaggle's, Tiny ImageNet's and torch's lay beside the pictures.
BESIDE = (
    "LOC_synset_mapping.txt", "synset_words.txt", "words.txt", "map_clsloc.txt", "Labels.json", "imagenet_class_index.json", "class_index.json",
)  # fmt: skip
INDEXED = ("imagenet_class_index.json", "class_index.json")  # {"0": ["n01440764", "tench"], ...}
IMAGENET = 1000
LEVELS = 4  # Kaggle's pictures lie in ILSVRC/Data/CLS-LOC/train, and the words at the top
LINE = re.compile(r"(n\d{8})[\s,:]+(?:\d+\s+)?(\S.*)")
WITH_NAME = re.compile(r"(n\d{8})[-_. ]+(\S.*)")  # Stanford Dogs: n02085620-Chihuahua


def with_names(images: ImageSet, place: Path | None = None) -> ImageSet:
    """The set with words for its WordNet ids, which are kept in `wordnet`; other sets as they are.

    place: the folder of the pictures, beside or above which a list of words may lie; it goes before WordNet's own.
    """
    parts = _numbers(images.classes, place) or [_parts(c) for c in images.classes]
    ids = [i for i, _ in parts if i]
    if not ids or len(set(ids)) < len(ids):
        return images
    words = _beside(place, set(ids)) if place is not None else {}
    own = {i: name for i, name in parts if i and name}
    known = {**{i: w for i in ids if (w := synonyms(i))}, **words, **own}
    plain = [i or c for (i, _), c in zip(parts, images.classes, strict=True)]
    classes = names_for(plain, known)
    unknown = [i for i in ids if i not in known]
    if len(unknown) < len(ids):
        first = next(k for k, p in enumerate(plain) if p in known)
        source = "their folders" if own else "the list beside the pictures" if words else "WordNet"
        note(
            f"classes: {len(ids) - len(unknown):,} WordNet ids, named by {source} ({plain[first]} is {classes[first]})"
        )
    if unknown:
        more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
        caution(
            f"{len(unknown):,} of {len(ids):,} WordNet ids have no words ({', '.join(unknown[:3])}{more}): they keep their ids; put a "
            f"{BESIDE[0]} with them beside the pictures."
        )
    return replace(images, classes=classes, wordnet=tuple(i or "" for i, _ in parts))


def _numbers(classes: Sequence[str], place: Path | None) -> list[tuple[str, str]] | None:
    """WordNet ids of classes that are numbers (ImageNet-V2's folders), by a list of {number: [id, words]} in their folder.

    None for others, and without such a list: numbers may be anybody's. All of ImageNet's 1,000 are said.
    """
    if place is None or not classes or not all(c.isascii() and c.isdigit() for c in classes):
        return None
    for text in _texts([place], INDEXED):  # not from above, where it may be meant for other pictures
        index = {int(k): v for k, v in _pairs(text) if k.isascii() and k.isdigit() and _indexed(v)}
        if all(int(c) in index for c in classes):
            note(f"classes: {len(classes):,} numbers, read as the positions in the list of WordNet ids in their folder")
            return [(str(index[int(c)][0]), "") for c in classes]
    if sorted(map(int, classes)) == list(range(IMAGENET)):
        caution(
            f"the {IMAGENET:,} classes are numbers, 0 to {IMAGENET - 1}, and stay so: what they show is not known. If they are ImageNet's outputs in "
            f"their order (ImageNet-V2), put {INDEXED[0]} into their folder."
        )
    return None


def _indexed(value: Any) -> bool:
    """Whether a list's entry is [id, words]."""
    return isinstance(value, list) and len(value) == 2 and is_id(str(value[0]))


def _parts(name: str) -> tuple[str, str]:
    """(WordNet id or '', the name that stands behind it or '')."""
    if is_id(name):
        return name, ""
    found = WITH_NAME.fullmatch(name)
    # A comma parts synonyms; in a folder's name it is a part of the name.
    return (found.group(1), found.group(2).replace("_", " ").replace(",", " ").strip()) if found else ("", "")


def _beside(place: Path, ids: set[str]) -> dict[str, str]:
    """Words for these ids from the first list that has any, in the folder or above it."""
    for text in _texts([place, *place.absolute().parents][:LEVELS], BESIDE):
        # JSON is an object here, which no line of words begins with.
        found = {
            i: words
            for i, words in (_from_json(text) if text.lstrip().startswith("{") else _from_lines(text))
            if i in ids
        }
        if found:
            return found
    return {}


def _texts(folders: Sequence[Path], names: Sequence[str]) -> Iterator[str]:
    """What files of these names hold, folder by folder."""
    for folder in folders:
        for name in names:
            try:
                yield (folder / name).read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                continue


def _pairs(text: str) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON object; none of what is no object."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        return
    yield from body.items() if isinstance(body, Mapping) else ()


def _from_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        found = LINE.fullmatch(line.strip())
        if found:
            yield found.group(1), found.group(2).replace("_", " ")


def _from_json(text: str) -> Iterator[tuple[str, str]]:
    """{id: words}, {id: [words]} or {position: [id, words]}."""
    for key, value in _pairs(text):
        parts = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        if is_id(str(key)):
            yield str(key), ", ".join(parts).replace("_", " ")
        elif len(parts) == 2 and is_id(parts[0]):
            yield parts[0], parts[1].replace("_", " ")
