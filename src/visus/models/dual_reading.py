"""What a dual encoder's tokenizer makes of texts: which it cannot tell apart, which it spells letter by letter or does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.progress import caution

if TYPE_CHECKING:
    from visus.models.dual_text import Words

CHUNK = 4096
SHOWN = 40  # characters of a text that a caution names
HALF = 0.5  # of a text's letters, from which on it counts as spelled
LETTERS = 3  # a word of fewer letters is not held to be spelled where each is a token
# Characters that stand for a syllable or a word: one token for each is how vocabularies hold them.
_IDEOGRAPHIC = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")

_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")


@dataclass(frozen=True)
class Spelled:
    """Positions of texts, and the words in question. letters: those of which half and more is spelled by bytes or single letters. unknown: those with
    words that the vocabulary replaces by its unknown token."""

    letters: tuple[tuple[int, str], ...]
    unknown: tuple[tuple[int, str], ...]


def token_keys(words: Words, texts: Sequence[str]) -> np.ndarray:
    """int64 [n], from 0: equal for texts that are the same to the model, as the tokenizer lowers, normalises and cuts them.

    Raises DataError as `Words.rows` does.
    """
    codes: dict[tuple[int, ...], int] = {}
    found = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), CHUNK):
        for i, ids in enumerate(words.rows(list(texts[start : start + CHUNK])), start):
            found[i] = codes.setdefault(tuple(ids), len(codes))
    return found


def same_classes(
    words: Words, meant: Sequence[Sequence[str]], prompts: Sequence[str]
) -> tuple[int, int, str, str] | None:
    """Two classes whose texts are the same to the model under every prompt, with a text of each; None where all can be told apart.

    meant: wordings of each class. Prompt by prompt, of those classes alone that all prompts before left equal.
    """
    candidates = [list(range(len(meant)))]
    for prompt in prompts:
        still: list[list[int]] = []
        for group in candidates:
            texts = [prompt.replace("{}", w) for k in group for w in meant[k]]
            keys = iter(token_keys(words, texts).tolist())
            by_texts: dict[tuple[int, ...], list[int]] = {}
            for k in group:
                by_texts.setdefault(tuple(sorted({next(keys) for _ in meant[k]})), []).append(k)
            still += [g for g in by_texts.values() if len(g) > 1]
        candidates = still
    if not candidates or not prompts:
        return None
    a, b = candidates[0][:2]
    return a, b, prompts[0].replace("{}", meant[a][0]), prompts[0].replace("{}", meant[b][0])


def spelled(words: Words, texts: Sequence[str]) -> Spelled:
    """Texts that the vocabulary does not hold: a model knows little of what such words mean.

    A word is spelled where it takes more tokens than it has characters (bytes); of three letters and more of an alphabet also where it takes as
    many, and of one other than the Latin where it takes more than half as many.
    """
    parts = [_words(t) for t in texts]
    read = _read(words, sorted({w for ws in parts for w in ws}))
    letters, unknown = [], []
    for i, ws in enumerate(parts):
        by_letters = [w for w in ws if read[w][0]]
        if by_letters and sum(map(len, by_letters)) >= HALF * sum(map(len, ws)):
            letters.append((i, by_letters[0]))
        lost = next((w for w in ws if read[w][1]), None)
        if lost is not None:
            unknown.append((i, lost))
    return Spelled(tuple(letters), tuple(unknown))


def warn_of_spelled(words: Words, texts: Sequence[str], what: str) -> None:
    """Cautions where texts are spelled or hold words that the vocabulary does not know. what: 'captions', say."""
    distinct = list(dict.fromkeys(texts))
    found = spelled(words, distinct)
    for places, how in (
        (found.letters, "spelled letter by letter or byte by byte, for want of words of theirs in the vocabulary"),
        (found.unknown, "read with words left out that the vocabulary does not know"),
    ):
        if places:
            i, word = places[0]
            caution(
                f"{len(places):,} of {len(distinct):,} different {what} are {how} (the first: {distinct[i][:SHOWN]!r}, for {word[:SHOWN]!r}): "
                "the model may know nothing of them."
            )


def _words(text: str) -> list[str]:
    return [w for w in text.split() if any(c.isalpha() or ord(c) > 0x2000 for c in w)]


def _read(words: Words, distinct: Sequence[str]) -> dict[str, tuple[bool, bool]]:
    """Of every word: whether it is spelled, and whether a token of it is the unknown one."""
    if not distinct:
        return {}
    head, tail = _frame(words)
    lost = _unknown_token(words.tokenizer)
    found = {}
    for start in range(0, len(distinct), CHUNK):
        part = list(distinct[start : start + CHUNK])
        for word, ids in zip(part, words.whole(part), strict=True):
            inner = ids[head : len(ids) - tail]
            letters = sum(1 for c in word if not 0xFE00 <= ord(c) <= 0xFE0F and ord(c) != 0x200D)
            most = letters
            if letters >= LETTERS and not _IDEOGRAPHIC.search(word):
                foreign = not _LATIN.search(word) and any(c.isalpha() for c in word)
                most = letters // 2 if foreign else letters - 1 if word.isalpha() else letters
            found[word] = (len(inner) > most, lost in inner)
    return found


def _frame(words: Words) -> tuple[int, int]:
    """How many special tokens stand before and behind a text: what two texts of one token have in common."""
    a, b = words.whole(["a", "b"])

    def common(x: Iterable[int], y: Iterable[int]) -> int:
        count = 0
        for i, j in zip(x, y, strict=False):
            if i != j:
                break
            count += 1
        return count

    return common(a, b), common(reversed(a), reversed(b))


def _unknown_token(tokenizer: Any) -> int | None:
    """The id of the unknown token of a tokenizer of the `tokenizers` library; None where every byte is known."""
    if not hasattr(tokenizer, "to_str"):
        return None  # open_clip's SimpleTokenizer knows every byte
    model = json.loads(tokenizer.to_str()).get("model", {})
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    found: int | None = None if token is None else tokenizer.token_to_id(str(token))
    return found
