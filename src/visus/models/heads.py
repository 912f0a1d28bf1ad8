"""How a classifier's outputs are read: classes of which one is meant, labels of which each stands alone, or numbers; and their names."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from visus.models.labels import imagenet_labels, numbered
from visus.progress import caution, note
from visus.wordnet import is_id, synonyms

Head = Literal["classes", "labels"]
UNREAD = "unread head"  # in Backbone.info: what the network ends in, where that is no classifier
PLACEHOLDER = re.compile(r"(?:label|class)?[ _-]?(\d+)", re.IGNORECASE)
BACKGROUND = 1001  # outputs of networks that were ported from TensorFlow: nothing, then ImageNet's
TAGS = "selected_tags.csv"  # what taggers of pictures bring beside their weights: a row for each output


def probabilities(logits: np.ndarray, head: Head) -> np.ndarray:
    """float64 [n, k] of logits [n, k]: softmax over classes, or of labels the sigmoid of each."""
    x = torch.from_numpy(np.asarray(logits, np.float64))
    found: np.ndarray = (x.softmax(dim=1) if head == "classes" else x.sigmoid()).numpy()
    return found


def two_sided(logits: torch.Tensor) -> torch.Tensor:
    """One logit z [b, 1] as two, [b, 2]: their softmax is 1 - sigmoid(z) and sigmoid(z), and each has a gradient."""
    return torch.cat([-logits / 2, logits / 2], dim=1)


def names_of(outputs: int, given: Sequence[str] | None, *, spec: str, sure: bool = False) -> tuple[str, ...]:
    """A name for every output; of one output two, for what it says no and yes to. What had to be guessed is said.

    given: as the model brings them. sure: outputs without names are ImageNet's if their number says so (a library's own weights).
    """
    known = None if given is None or _placeholders(given) else tuple(given)
    if outputs == 1:
        if known is not None and len(known) in (1, 2):
            return known if len(known) == 2 else (f"not {known[0]}", known[0])
        return ("class 0", "class 1")
    if known is not None and len(known) != outputs:
        caution(f"{spec} brings {len(known):,} names for {outputs:,} outputs: they are not used.")
        known = None
    if known is not None:
        return _described(known)
    labels = imagenet_labels(outputs)
    if labels is None and outputs == BACKGROUND:
        labels = ("background", *(imagenet_labels(BACKGROUND - 1) or ()))
    if labels is None:
        if not sure:
            note(f"{spec} has no names for its {outputs:,} outputs: they are numbered")
        return numbered(outputs)
    if not sure:
        note(f"{spec} has no names for its {outputs:,} outputs: by their number they are taken for ImageNet's")
    return labels


def _placeholders(names: Sequence[str]) -> bool:
    """Whether the names are but numbers in order: LABEL_0, LABEL_1 ..., or 0, 1 ..."""
    found = [PLACEHOLDER.fullmatch(str(name).strip()) for name in names]
    return all(m is not None and int(m.group(1)) == i for i, m in enumerate(found))


def _described(names: tuple[str, ...]) -> tuple[str, ...]:
    """WordNet ids among names in words, where all of them are known."""
    if not all(is_id(name) for name in names):
        return names
    words = [synonyms(name) for name in names]
    return tuple(w or n for w, n in zip(words, names, strict=True))


def declared(config: Mapping[str, Any]) -> Head | None:
    """What a config declares its outputs to be; None: numbers (a regression), no classes. One label that stands alone is a binary class."""
    kind = str(config.get("problem_type") or "")
    if kind == "regression":
        return None
    several = kind.startswith("multi_label") or config.get("multi_label") is True or config.get("multilabel") is True
    return "labels" if several else "classes"


def said(head: Head, outputs: int, *, spec: str, declared: bool = True) -> None:
    """Say how the outputs are read where it is not the usual way. declared: the model says what they are."""
    if outputs == 1 and not declared:
        caution(
            f"{spec} has one output and does not say what it is: read as the logit of a binary classifier (sigmoid). If it is a regression, "
            'its probabilities mean nothing: write "problem_type": "regression" into its config.json.'
        )
    elif head == "labels" and outputs > 1:
        note(f"{spec} has a multi-label head: each of its {outputs:,} outputs is a probability by itself (sigmoid)")
    elif outputs == 1:
        note(f"{spec} has one output: read as the logit of a binary classifier (sigmoid)")


def tags_beside(folder: Path, outputs: int) -> tuple[str, ...] | None:
    """The names in the list of tags that lies beside a tagger's weights, if there is one for every output."""
    try:
        with (folder / TAGS).open(encoding="utf-8-sig", newline="") as lines:
            names = tuple(row["name"] for row in csv.DictReader(lines) if row.get("name"))
    except (OSError, ValueError, csv.Error):
        return None
    return names if len(names) == outputs else None
