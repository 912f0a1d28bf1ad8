"""Word vectors: what a text tower can know of words that no caption says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from tokenizers import AddedToken, Tokenizer

from visus.errors import DataError

RANKED = 0.05  # of the logarithm of a word's rank, beside its likeness to the captions' words
ALIKE = 5  # nearest words of the captions that count
PLAIN = re.compile(r"[a-z]+")
RARE = 1e-3  # a of Arora et al. 2017
PHRASE = (1, 3)  # words


@dataclass(frozen=True)
class WordVectors:
    """words: most frequent first. rows: float32 [n, d], centred on the mean of the words and of unit length."""

    name: str
    words: tuple[str, ...]
    rows: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Hash of words and rows."""
        h = xxhash.xxh3_128("\n".join(self.words).encode("utf-8", "surrogateescape"))
        h.update(np.ascontiguousarray(self.rows).tobytes())
        return str(h.hexdigest())

    @cached_property
    def index(self) -> dict[str, int]:
        """word -> row."""
        return {word: i for i, word in enumerate(self.words)}

    def meanings(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [m, d]: each text's words added up, rare ones weighing more, to unit length; zeros where no word is known.

        Weights a / (a + p(word)) (Arora et al. 2017, SIF), with p by Zipf's law from the word's rank.
        """
        found = np.zeros((len(texts), self.rows.shape[1]), np.float32)
        for row, text in zip(found, texts, strict=True):
            at = np.array([self.index[w] for w in PLAIN.findall(text.lower()) if w in self.index], np.int64)
            if len(at):
                frequency = 1 / ((at + 1) * np.log(len(self.words) + 1))
                row += (self.rows[at] * (RARE / (RARE + frequency))[:, None]).sum(axis=0)
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
        return found

    def nearest(self, captions: Iterable[str], n: int) -> tuple[str, ...]:
        """The n words that texts like these captions may say, most frequent first: the captions' own, and of the others those that are
        nearest to them in meaning, frequent ones before rare ones."""
        own = {self.index[w] for text in captions for w in PLAIN.findall(text.lower()) if w in self.index}
        if not own or n >= len(self.words):
            return self.words[:n]
        said = self.rows[np.array(sorted(own))]
        last = min(ALIKE, len(said))
        alike = np.concatenate(
            [
                -np.partition(-(part @ said.T), last - 1, axis=1)[:, :last].mean(axis=1)
                for part in np.array_split(self.rows, -(-len(self.rows) // 5000))
            ]
        )
        score = alike - RANKED * np.log(np.arange(len(self.words)) + 1)
        score[np.array(sorted(own))] = np.inf
        return tuple(self.words[i] for i in np.sort(np.argsort(-score, kind="stable")[:n]))


@dataclass(frozen=True)
class Meanings:
    """What a text tower learns of words. words: those with a token of their own. centre: float32 [d], what all captions mean."""

    vectors: WordVectors
    words: tuple[str, ...]
    centre: np.ndarray

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [m, d]: by what each text's meaning differs from what all captions share, of unit length; zeros where unknown.

        What is shared is most of a meaning, and tells no two texts apart (Arora et al. 2017 take it away as well).
        """
        found = self.vectors.meanings(texts)
        known = np.linalg.norm(found, axis=1, keepdims=True) > 0
        found = np.where(known, found - self.centre, 0.0)
        unit: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
        return unit.astype(np.float32)

    def phrases(self, n: int, generator: np.random.Generator) -> list[str]:
        """n phrases of one to three of the words."""
        lengths = generator.integers(PHRASE[0], PHRASE[1] + 1, n)
        return [" ".join(self.words[i] for i in generator.integers(0, len(self.words), k)) for k in lengths]


def meanings_for(vectors: WordVectors, names: Iterable[str], captions: Iterable[str], n: int) -> Meanings:
    """The n words nearest to the captions, and the centre of what the names mean. Raises DataError where no name has a known word."""
    found = vectors.meanings(sorted(set(names)))
    found = found[np.any(found, axis=1)]
    if not len(found):
        raise DataError(f"{vectors.name} knows no word of the captions; give vectors of their language")
    return Meanings(vectors, vectors.nearest(captions, n), found.mean(axis=0))


def read_vectors(path: Path) -> WordVectors:
    """Word vectors from a text file as GloVe and word2vec write them: a word and its numbers a line, most frequent first.

    Words of other letters than a to z are left out; a first line of two numbers is skipped. Raises DataError.
    """
    words: list[str] = []
    rows: list[np.ndarray] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and len(numbers) == 1:
                    continue
                if rows and len(numbers) != len(rows[0]):
                    raise DataError(
                        f"line {number} of {path} holds {len(numbers)} numbers, not {len(rows[0])}; mend it"
                    )
                if PLAIN.fullmatch(word):
                    words.append(word)
                    rows.append(np.array(numbers, np.float32))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as word vectors ({error}); give a text file, a word and its numbers a line"
        ) from error
    if len(words) < 2 or not rows[0].size:
        raise DataError(f"{path} holds no word vectors; give a text file, a word and its numbers a line")
    x = np.stack(rows)
    if not np.isfinite(x).all():
        raise DataError(f"{path} holds a number that is not finite; mend it")
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    x -= x.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    return WordVectors(path.name, tuple(words), x)


def add_words(tokenizer: Tokenizer, words: Iterable[str]) -> None:
    """A token for each word, beside the byte pairs."""
    tokenizer.add_tokens([AddedToken(w, single_word=True, lstrip=True, normalized=True) for w in words])


def start_from(clip: Any, tokenizer: Tokenizer, meanings: Meanings, *, seed: int) -> None:
    """Let the embeddings of whole words start as their vectors, as long as the others are on average.

    A table that is wide enough gets them in a random rotation, which keeps all angles; a narrower one their principal components.
    """
    table = clip.text_model.embeddings.token_embedding.weight
    vectors = meanings.vectors
    known = [(tokenizer.token_to_id(w), vectors.index[w]) for w in meanings.words]
    ids, rows = np.array([(t, i) for t, i in known if t is not None], np.int64).T
    x = vectors.rows[rows]
    d, width = x.shape[1], table.shape[1]
    if width < d:
        x = x @ np.linalg.svd(x, full_matrices=False)[2][:width].T
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    else:
        gaussian = np.random.default_rng([seed, 2]).standard_normal((width, width))
        x = x @ np.linalg.qr(gaussian)[0][:d]
    with torch.no_grad():
        table[torch.from_numpy(ids)] = torch.from_numpy(x.astype(np.float32)) * float(table.norm(dim=1).mean())
