"""Captions as a text tower reads them: a byte-pair tokenizer learned from them, and another wording every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from visus.models.dual_new import END, PAD, START

WORDS = (1, 4)  # of a list of keywords, one wording holds so many
LISTED = 3  # a caption with as many parts between commas is a list of keywords


def learn_tokenizer(captions: Iterable[str], *, size: int, context: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer (Sennrich et al. 2016; bytes as in GPT-2), lower case, of at most `size` tokens.

    Every text is read as START, its tokens, END, cut to `context`; no text is unknown, as every byte has a token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end, pad = (tokenizer.token_to_id(t) for t in (START, END, PAD))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(pad_id=pad, pad_token=PAD)
    return tokenizer


def keywords(captions: Sequence[str]) -> list[str]:
    """Those captions that are lists of keywords."""
    return [c for c in captions if c.count(", ") >= LISTED - 1]


def wording(captions: Sequence[str], generator: np.random.Generator, lists: float | None = None) -> str:
    """One of an image's captions; of a list of keywords a few, in any order.

    lists: how often it is a list of keywords, where the image has one (None: as often as any other caption).
    """
    listed = [] if lists is None else keywords(captions)
    if listed:
        others = [c for c in captions if c not in listed] or listed
        captions = listed if generator.random() < (lists or 0.0) else others
    text = captions[int(generator.integers(len(captions)))]
    parts = text.split(", ")
    if len(parts) < LISTED:
        return text
    n = int(generator.integers(WORDS[0], min(WORDS[1], len(parts)) + 1))
    return ", ".join(parts[i] for i in generator.permutation(len(parts))[:n])


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """int64 [n, longest]: the token ids of texts, padded to the longest."""
    return np.array([e.ids for e in tokenizer.encode_batch(list(texts))], np.int64)
