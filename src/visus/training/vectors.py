"""Word vectors: what a text tower can know of words that no caption says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from visus.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


WORDS = 16_000  # the most frequent ones get a token of their own
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

    def phrases(self, n: int, generator: np.random.Generator) -> list[str]:
        """n phrases of one to three words, any of the WORDS most frequent."""
        known = min(WORDS, len(self.words))
        lengths = generator.integers(PHRASE[0], PHRASE[1] + 1, n)
        return [" ".join(self.words[i] for i in generator.integers(0, known, k)) for k in lengths]


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


def add_words(tokenizer: Tokenizer, vectors: WordVectors) -> None:
    """A token for each of the WORDS most frequent words, beside the byte pairs."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(w, single_word=True, lstrip=True, normalized=True) for w in vectors.words[:WORDS]])


def start_from(clip: Any, tokenizer: Tokenizer, vectors: WordVectors, *, seed: int) -> None:
    """Let the embeddings of whole words start as their vectors, in a random rotation, as long as the others are on average."""
    table = clip.text_model.embeddings.token_embedding.weight
    d, width = vectors.rows.shape[1], table.shape[1]
    gaussian = np.random.default_rng([seed, 2]).standard_normal((max(d, width),) * 2)
    turn = np.linalg.qr(gaussian)[0][:d, :width]  # keeps angles where the table is wide enough
    known = [(tokenizer.token_to_id(w), i) for i, w in enumerate(vectors.words[:WORDS])]
    ids, rows = np.array([(t, i) for t, i in known if t is not None], np.int64).T
    with torch.no_grad():
        length = float(table.norm(dim=1).mean())
        table[torch.from_numpy(ids)] = torch.from_numpy((vectors.rows[rows] @ turn).astype(np.float32)) * length
