"""How a dual encoder's texts become token ids: read whole, cut to the context, padded as its text tower was trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers

from visus.errors import DataError
from visus.models.hub import first_line

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Words:
    """Texts -> token ids.

    tokenizer: of the `tokenizers` library, or open_clip's SimpleTokenizer. whole: texts -> the ids of each, special tokens among
    them, not cut. context: tokens that the tower reads. vocabulary: tokens that it knows. pad: id of padding. ends: the last
    token is an end token, which a cut keeps. trims: padding behind a batch's longest text changes no embedding, and is left out.
    left: padding comes first.
    """

    tokenizer: Any
    whole: Callable[[Sequence[str]], list[list[int]]]
    context: int
    vocabulary: int
    pad: int
    ends: bool
    trims: bool
    left: bool = False

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, cut to the context. Raises DataError for an empty text or an id that the tower does not know."""
        if not all(t.strip() for t in texts):
            raise DataError("a text to encode is empty; write at least one word")
        rows = [self._cut(ids) for ids in self.whole(texts)]
        if max(max(ids) for ids in rows) >= self.vocabulary:
            raise DataError(
                f"the tokenizer has tokens beyond the {self.vocabulary:,} of the text tower; put the one it was trained with beside it"
            )
        return rows

    def _cut(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.context:
            return ids
        return [*ids[: self.context - 1], ids[-1]] if self.ends else ids[: self.context]

    def batch(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """int64 [n, t]: rows of ids with padding; t is the longest of them where the tower lets padding go, else the context."""
        width = max(len(ids) for ids in rows) if self.trims else self.context
        found = torch.full((len(rows), width), self.pad, dtype=torch.int64)
        for row, ids in zip(found, rows, strict=True):
            row[width - len(ids) if self.left else 0 :][: len(ids)] = torch.tensor(ids)
        return found


def simple_words(tokenizer: Any, *, vocabulary: int, trims: bool) -> Words:
    """The words of open_clip's SimpleTokenizer, which pads with zeros."""

    def whole(texts: Sequence[str]) -> list[list[int]]:
        return [[tokenizer.sot_token_id, *tokenizer.encode(t), tokenizer.eot_token_id] for t in texts]

    return Words(tokenizer, whole, int(tokenizer.context_length), vocabulary, 0, ends=True, trims=trims)


def json_words(
    folder: Path,
    *,
    context: int,
    vocabulary: int,
    trims: bool,
    end_pads: bool = False,
    pad: int | None = None,
    clean: Callable[[str], str] | None = None,
    without: str | None = None,
) -> Words:
    """The words of a folder's tokenizer.json, padded as its tokenizer_config.json says.

    end_pads: the end token itself pads (a tower that looks for the first one). pad: id of padding where the files say none.
    clean: runs over every text before. without: name of a special token that becomes 0 ('sep_token').
    Raises DataError for files that are missing or damaged.
    """
    tokenizer, settings = _read(folder)

    def special(name: str) -> int | None:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        found: int | None = None if token is None else tokenizer.token_to_id(str(token))
        return found

    probe = tokenizer.encode("a")
    ends = bool(probe.special_tokens_mask[-1:] == [1])
    kept = tokenizer.padding or {}
    choices = (probe.ids[-1] if end_pads and ends else None, special("pad_token"), kept.get("pad_id"), pad)
    chosen = next((c for c in choices if c is not None), None)
    if chosen is None:
        raise DataError(f'{folder} says no padding token; add "pad_token" to {SETTINGS}')
    left = settings.get("padding_side", kept.get("direction", "right")) in ("left", "Left")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    dropped = special(without) if without else None

    def whole(texts: Sequence[str]) -> list[list[int]]:
        batch = tokenizer.encode_batch([clean(t) for t in texts] if clean else [str(t) for t in texts])
        return [[0 if i == dropped else i for i in e.ids] if dropped is not None else e.ids for e in batch]

    return Words(tokenizer, whole, context, vocabulary, int(chosen), ends, trims, left and not trims)


def _read(folder: Path) -> tuple[Tokenizer, dict[str, Any]]:
    if not (folder / TOKENIZER).is_file():
        raise DataError(
            f"{folder} is no whole dual encoder: {TOKENIZER} is missing; save it again, its tokenizer with save_pretrained"
        )
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        settings = json.loads((folder / SETTINGS).read_text("utf-8")) if (folder / SETTINGS).is_file() else {}
        if str(settings.get("tokenizer_class")).startswith(
            "Siglip2"
        ):  # lower case lives in that class, not in the file
            steps = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
            tokenizer.normalizer = normalizers.Sequence(steps)
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        raise DataError(f"{folder} cannot be read as a dual encoder: {first_line(error)}") from error
    return tokenizer, settings
