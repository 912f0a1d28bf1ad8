"""Which outputs of a classifier mean the classes of a set of images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.models.labels import imagenet_labels

IMAGENET = 1000


def class_targets(
    classes: Sequence[str], labels: Sequence[str], *, path: Path | None = None
) -> tuple[np.ndarray, ...] | None:
    """int64 positions in `labels` that mean each class, in order (empty where none does); None where no class is meant.

    In order: a user's JSON file of {class: [label, position or WordNet id, ...]}; labels that are the classes' names (case, spaces,
    underscores and hyphens do not count; of a label's synonyms any); for ImageNet's 1,000 labels the shipped maps of CIFAR-10 and STL-10,
    made from WordNet's hyponyms by tools/build_class_maps.py. Raises DataError for a file that names unknown classes or labels, or one label twice.
    """
    if path is not None:
        return _from_file(path, classes, labels)
    by_name: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        for synonym in {_plain(part) for part in (label, *label.split(","))}:
            by_name.setdefault(synonym, []).append(position)
    named = [by_name.get(_plain(c), []) for c in classes]
    if all(len(at) == 1 for at in named):
        return tuple(np.array(at, np.int64) for at in named)
    if len(labels) == IMAGENET and tuple(labels) == imagenet_labels(IMAGENET):
        for known in _shipped().values():
            if {_plain(c) for c in classes} == {_plain(c) for c in known}:
                ids = {_plain(c): wanted for c, wanted in known.items()}
                return tuple(np.array(sorted(_wordnet()[i] for i in ids[_plain(c)]), np.int64) for c in classes)
    return None


def means_label(top1: np.ndarray, y: np.ndarray, targets: Sequence[np.ndarray]) -> np.ndarray:
    """bool [n]: whether the output at position top1 (int64 [n]) is among those that mean the class y (int64 [n])."""
    largest = max([int(top1.max(initial=0)), *(int(t.max(initial=0)) for t in targets)])
    meant = np.zeros((len(targets), largest + 1), bool)
    for row, positions in zip(meant, targets, strict=True):
        row[positions] = True
    found: np.ndarray = meant[y, top1]
    return found


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-]+", " ", text).strip().lower()


@cache
def _shipped() -> Mapping[str, Mapping[str, Sequence[str]]]:
    body = json.loads((files("visus") / "data" / "imagenet_maps.json").read_text("utf-8"))
    sets: Mapping[str, Mapping[str, Sequence[str]]] = body["sets"]
    return sets


@cache
def _wordnet() -> Mapping[str, int]:
    """WordNet id -> position among ImageNet-1k's outputs."""
    from timm.data import ImageNetInfo

    return {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def _from_file(path: Path, classes: Sequence[str], labels: Sequence[str]) -> tuple[np.ndarray, ...]:
    try:
        body: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a map of classes ({error}); write JSON: {{class: [label, ...]}}"
        ) from error
    if not isinstance(body, dict):
        raise DataError(f"{path} is no map of classes; write JSON: {{class: [label, ...]}}")
    known = {_plain(c): k for k, c in enumerate(classes)}
    positions = {_plain(synonym): i for i, label in enumerate(labels) for synonym in (label, *label.split(","))}
    wordnet = _wordnet() if len(labels) == IMAGENET else {}
    found: list[list[int]] = [[] for _ in classes]
    owner: dict[int, str] = {}
    for name, wanted in body.items():
        if _plain(name) not in known:
            raise DataError(
                f"{path} names {name!r}, which is no class of the images; known: {', '.join(list(classes)[:5])} ..."
            )
        for label in wanted if isinstance(wanted, list) else [wanted]:
            at = label if isinstance(label, int) and 0 <= label < len(labels) else None
            at = wordnet.get(str(label), positions.get(_plain(str(label)))) if at is None else at
            if at is None:
                raise DataError(
                    f"{path} names {label!r} for {name}, which is no output of the model; give a label, its position or a WordNet id"
                )
            if owner.setdefault(at, name) != name:
                raise DataError(f"{path} gives {label!r} to both {owner[at]} and {name}; an answer can mean one class")
            found[known[_plain(name)]].append(at)
    return tuple(np.array(sorted(set(at)), np.int64) for at in found)
