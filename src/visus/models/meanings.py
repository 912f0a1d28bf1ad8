"""Which outputs of a classifier mean the classes of a set of images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError
from visus.models.labels import imagenet, imagenet_labels
from visus.wordnet import ids_of_imagenet

IMAGENET = 1000
ALIKE = 0.9  # share of ImageNet's names, in its order, from which on a classifier's outputs are ImageNet's


def class_targets(
    classes: Sequence[str], labels: Sequence[str], *, path: Path | None = None, ids: Sequence[str] = ()
) -> tuple[np.ndarray, ...] | None:
    """int64 positions in `labels` that mean each class, in order (empty where none does); None where no class is meant.

    In order: a user's JSON file of {class: [label, position or WordNet id, ...]}; the classes' WordNet ids (`ids`, '' of one without), where
    the labels are ImageNet's; labels that are the classes' names (case, spaces, underscores and hyphens do not count; of a label's
    synonyms any); for ImageNet's 1,000 labels the shipped maps of CIFAR-10 and STL-10, made from WordNet's hyponyms by
    tools/build_class_maps.py. Raises DataError for a file that names unknown classes or labels, or one label twice.
    """
    if path is not None:
        return _from_body(read_meanings(path), path, classes, labels, ids)
    wordnet = positions_of_ids(labels)
    if wordnet and any(i in wordnet for i in ids):
        return tuple(np.array([wordnet[i]] if i in wordnet else [], np.int64) for i in ids)
    by_name: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        for synonym in {_plain(part) for part in (label, *label.split(","))}:
            by_name.setdefault(synonym, []).append(position)
    named = [by_name.get(_plain(c), []) for c in classes]
    if all(len(at) == 1 for at in named):
        return tuple(np.array(at, np.int64) for at in named)
    if len(wordnet) == IMAGENET:  # of larger heads the maps hold too little
        for known in _shipped().values():
            if {_plain(c) for c in classes} == {_plain(c) for c in known}:
                wanted = {_plain(c): members for c, members in known.items()}
                return tuple(np.array(sorted(wordnet[i] for i in wanted[_plain(c)]), np.int64) for c in classes)
    return None


def described_by(
    path: Path, classes: Sequence[str], outputs: Mapping[str, Sequence[str]], *, ids: Sequence[str] = ()
) -> dict[str, tuple[np.ndarray, ...]]:
    """Targets (see class_targets) by model, of the models whose outputs a user's file describes; the others are not touched.

    path: JSON, {class: [label, position or WordNet id, ...]}, or {model: {class: [...]}}. outputs: labels by model. A model is described
    when every label that the file names is one of its outputs. Positions describe any model, so that among models with
    different outputs they need the file to say of which. Raises DataError: no model is described, or it cannot be told which.
    """
    body = read_meanings(path)
    if body and all(isinstance(v, Mapping) for v in body.values()):
        stray = [m for m in body if m not in outputs]
        if stray:
            raise DataError(
                f"{path} describes {stray[0]!r}, which is none of the models with classes: {', '.join(outputs) or 'there is none'}"
            )
        return {m: _from_body(body[m], path, classes, outputs[m], ids) for m in body}
    found: dict[str, tuple[np.ndarray, ...]] = {}
    refused: list[DataError] = []
    for model, labels in outputs.items():
        try:
            found[model] = _from_body(body, path, classes, labels, ids)
        except UndescribedError as error:
            refused.append(error)
    if not found:
        raise (
            refused[0] if refused else DataError(f"{path} describes outputs, and no model here has classes of its own")
        )
    listed = [w for wanted in body.values() for w in (wanted if isinstance(wanted, list) else [wanted])]
    if any(isinstance(w, int) for w in listed) and len({tuple(outputs[m]) for m in found}) > 1:
        raise DataError(
            f"{path} names outputs by position, and {' and '.join(found)} have different ones; write {{model: {{class: [position, ...]}}}}"
        )
    return found


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


def positions_of_ids(labels: Sequence[str]) -> Mapping[str, int]:
    """WordNet id -> position among a classifier's outputs, where these are ImageNet's (1k, with a background in front, 12k, 21k); else empty."""
    return _positions(tuple(labels))


@lru_cache(maxsize=8)
def _positions(labels: tuple[str, ...]) -> Mapping[str, int]:
    if len(labels) in (IMAGENET, IMAGENET + 1):
        start = len(labels) - IMAGENET
        own = [_plain(label.split(",")[0]) for label in labels[start:]]
        known = [_plain(label.split(",")[0]) for label in imagenet_labels(IMAGENET) or ()]
        # Libraries word some of them in their own way ('crane bird'); in another order hardly any would agree.
        if sum(a == b for a, b in zip(own, known, strict=True)) >= ALIKE * IMAGENET:
            return {name: i + start for i, name in enumerate(ids_of_imagenet())}
        return {}
    if tuple(labels) == imagenet_labels(len(labels)):
        return {name: i for i, name in enumerate(imagenet(len(labels)).label_names())}
    return {}


class UndescribedError(DataError):
    """A file of meanings names what is no output of a model."""


def read_meanings(path: Path) -> Mapping[str, Any]:
    """A user's file. Raises DataError for one that is no JSON of classes."""
    try:
        body: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a map of classes ({error}); write JSON: {{class: [label, ...]}}"
        ) from error
    if not isinstance(body, dict):
        raise DataError(f"{path} is no map of classes; write JSON: {{class: [label, ...]}}")
    return body


def _from_body(
    body: Mapping[str, Any], path: Path, classes: Sequence[str], labels: Sequence[str], ids: Sequence[str]
) -> tuple[np.ndarray, ...]:
    known = {i: k for k, i in enumerate(ids) if i} | {_plain(c): k for k, c in enumerate(classes)}
    positions = {_plain(synonym): i for i, label in enumerate(labels) for synonym in (label, *label.split(","))}
    wordnet = positions_of_ids(labels)
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
                raise UndescribedError(
                    f"{path} names {label!r} for {name}, which is no output of the model; give a label, its position or a WordNet id"
                )
            if owner.setdefault(at, name) != name:
                raise DataError(f"{path} gives {label!r} to both {owner[at]} and {name}; an answer can mean one class")
            found[known[_plain(name)]].append(at)
    return tuple(np.array(sorted(set(at)), np.int64) for at in found)
