"""The texts of a CLIP study: what of them the model reads, which it takes for one, and what a reader must know of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from visus.errors import DataError
from visus.images import ImageSet
from visus.models.dual import DualEncoder
from visus.models.dual_reading import token_keys
from visus.progress import caution, note

OWN = "visus:"  # sets that ship with the lab
NAMED, LENGTH = 3, 60  # texts over the context that a warning names, and the characters that it shows of each
_FILE = re.compile(r"\S*\.(jpe?g|png|webp|gif|bmp|tiff?|heic|avif|dcm)", re.IGNORECASE)


def captions_of(imageset: ImageSet, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(rows, captions): a row of the set for every caption, several in a row for an image of several, as COCO and Flickr30k are judged.

    Of the lab's own sets the first alone, the name: the others are wordings of it, made for training. Raises DataError where no image has one; says
    how many have none, or several.
    """
    assert imageset.captions is not None
    texts = [list(dict.fromkeys(t.strip() for t in imageset.captions[int(i)] if t.strip())) for i in rows]
    worded = np.array([bool(t) for t in texts], bool)
    if not worded.any():
        raise DataError(f"the captions of {imageset.name} are all empty; write at least one word for each image")
    if not worded.all():
        first = imageset.ids[int(rows[~worded][0])]
        caution(
            f"{int((~worded).sum()):,} of {len(rows):,} images have no caption (the first: {first}) and are left out."
        )
    several = sum(len(t) > 1 for t in texts)
    if several:
        own = imageset.name.startswith(OWN)
        texts = [t[:1] for t in texts] if own else texts
        note(
            f"captions: {several:,} images have several; {'the first, the name, is taken' if own else 'each is a partner of its image'}"
        )
    captions = tuple(t for of in texts for t in of)
    pairs = np.repeat(rows, [len(of) for of in texts])
    ids = [imageset.ids[int(i)] for i in pairs]
    names = [
        t
        for t, i in zip(captions, ids, strict=True)
        if _FILE.fullmatch(t) or t in (i, PurePath(i).name, PurePath(i).stem)
    ]
    if 2 * len(names) > len(captions):
        caution(
            f"{len(names):,} of {len(captions):,} captions are names of files (the first: {_short(names[0])!r}), which say little of a picture."
        )
    return pairs, captions


def text_keys(encoder: DualEncoder, captions: Sequence[str], what: str) -> np.ndarray:
    """int64 [n]: equal for texts that are one to the model, with what must be known of them: all one, different ones that become one."""
    distinct, code = np.unique(np.array(captions), return_inverse=True)
    texts = distinct.tolist()
    keys = token_keys(encoder.words, texts)
    count = int(keys.max()) + 1
    if count < len(texts):
        a, b = np.flatnonzero(keys == keys[np.flatnonzero(np.bincount(keys)[keys] > 1)[0]])[:2]
        caution(
            f"{len(texts):,} different {what} are {count:,} to the model, which reads {encoder.context} tokens, as its tokenizer writes them: "
            f"{_ends(texts[a])!r} and {_ends(texts[b])!r} are one to it."
        )
    elif len(texts) == 1 and len(captions) > 1:
        caution(
            f"All {len(captions):,} {what} are the same ({_short(texts[0])!r}): every image finds its own, which says nothing."
        )
    if count == 1 and len(texts) > 1:
        caution(f"All {len(captions):,} {what} are one to the model: every image finds its own, which says nothing.")
    found_keys: np.ndarray = keys[code.reshape(-1)]
    return found_keys


def warn_of_cuts(encoder: DualEncoder, texts: Sequence[str], what: str) -> list[str]:
    """A warning where texts are longer than the context: which, and how they were cut."""
    cut = encoder.cut(texts)
    if not cut:
        return []
    named = ", ".join(f"{_short(texts[i])!r} ({tokens} tokens)" for i, tokens in cut[:NAMED])
    more = f" and {len(cut) - NAMED:,} more" if len(cut) > NAMED else ""
    read = f"{encoder.context - 1} and the end token" if encoder.words.ends else f"{encoder.context}"
    return [
        f"{len(cut):,} of the {what} are longer than the {encoder.context} tokens that the model reads, and cut to their first {read}: "
        f"{named}{more}."
    ]


def _short(text: str) -> str:
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"


def _ends(text: str) -> str:
    """A text with its end, where long ones differ."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH // 2]}…{text[1 - LENGTH // 2 :]}"
