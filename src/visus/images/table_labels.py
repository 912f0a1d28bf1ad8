"""Labels of several tables as one list of classes: by class name, never by number, since each table may count in an order of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel

from visus.errors import DataError
from visus.images.class_names import class_order, one_form
from visus.progress import note
from visus.spec import Spec

MISSING, HIDDEN = (
    -1,
    -2,
)  # a row without a label; a row of a split whose labels are withheld, which is said once for all


def labels_of(
    spec: Spec, tables: Sequence[tuple[str, Any]], column: str | None, card: Mapping[str, tuple[str, ...]]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """int64 [n], MISSING or HIDDEN where a row has no class, and the class names.

    tables: (split, table). card: column -> class names that the data set's card gives. Raises DataError: no names or numbers, or tables
    whose labels cannot be brought together (numbers without names beside names).
    """
    if column is None:
        return None, ()
    columns = [(split, t.select_columns([column])[column][:], _names(t.features[column])) for split, t in tables]
    plain = [v for _, values, names in columns for v in values if names is None and v is not None]
    if any(not isinstance(v, str | int | bool) for v in plain):
        raise DataError(
            f"{spec.text}: its column {column!r} holds no class names or numbers; choose one with ?label=COLUMN"
        )
    named = column in card and all(isinstance(v, int) and -1 <= v < len(card[column]) for v in plain)
    if named and plain:
        columns = [(split, values, names or card[column]) for split, values, names in columns]
    _check(spec, column, columns)
    hidden = _hides(columns)
    texts = [_texts(values, names, hidden=hidden) for _, values, names in columns]
    if len({names for _, _, names in columns}) > 1 or any(names is None for _, _, names in columns):
        said = {(split, t) for (split, _, _), own in zip(columns, texts, strict=True) for t in own if t is not None}
        form = one_form(said)  # but not of one list of names, whose author has told them apart
        texts = [[None if t is None else form[t] for t in own] for own in texts]
        columns = [(s, v, names and tuple(form.get(n, n) for n in names)) for s, v, names in columns]
    classes = _classes(columns, texts)
    number = {name: i for i, name in enumerate(classes)}
    found = []
    for (split, _, _), own in zip(columns, texts, strict=True):
        here = np.array([MISSING if t is None else number[t] for t in own], np.int64)
        if len(here) and len(columns) > 1 and (here < 0).all():
            note(
                f"labels: those of {split or 'one table'} are hidden (-1 or empty in all {len(here):,} rows), so it is left out"
            )
            here[:] = HIDDEN
        found.append(here)
    return np.concatenate(found), classes


def _names(feature: Any) -> tuple[str, ...] | None:
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None


Column = tuple[str, Sequence[Any], tuple[str, ...] | None]


def _check(spec: Spec, column: str, columns: Sequence[Column]) -> None:
    """Raise DataError where one table counts its classes and another names them: which number is which name, nobody says."""
    kinds: dict[str, str] = {}
    for split, values, names in columns:
        some = [v for v in values if v is not None]
        if not some or all(v == -1 for v in some):
            continue
        counted = names is not None and all(n == str(i) for i, n in enumerate(names))
        if names is not None and not counted:
            kinds.setdefault("names", split)
        elif all(isinstance(v, str) for v in some) and names is None:
            digits = all(v.strip().lstrip("-").isdigit() for v in some)
            kinds.setdefault("numbers" if digits else "names", split)
        else:
            kinds.setdefault("numbers", split)
    if len(kinds) > 1:
        raise DataError(
            f"{spec.text}: column {column!r} holds class names in {kinds['names'] or 'one table'} and numbers without names in "
            f"{kinds['numbers'] or 'another'}, so that classes cannot be matched; choose one with ?split=NAME"
        )
    orders = list(dict.fromkeys(names for _, _, names in columns if names is not None))
    if len(orders) > 1:
        note(
            f"labels: tables list their classes in {len(orders)} different ways, and are brought together by class name"
        )


def _hides(columns: Sequence[Column]) -> bool:
    """Whether -1 stands for a label that is withheld; it is a class only where numbers without names are -1 and 1."""
    bare = {
        v
        for _, values, names in columns
        if names is None
        for v in values
        if isinstance(v, int) and not isinstance(v, bool)
    }
    return bare != {-1, 1}


def _texts(values: Sequence[Any], names: tuple[str, ...] | None, *, hidden: bool) -> list[str | None]:
    def one(value: Any) -> str | None:
        if value is None or value == "":
            return None
        if names is not None:
            return names[value] if 0 <= value < len(names) else None
        if value == -1 and hidden and not isinstance(value, bool):
            return None
        return str(value)

    return [one(v) for v in values]


def _classes(columns: Sequence[Column], texts: Sequence[Sequence[str | None]]) -> tuple[str, ...]:
    """Names in the order in which the training split lists them, then those that only others list; else sorted."""
    order = {"train": 0, "validation": 1, "test": 2}
    listed = [
        n for _, _, names in sorted(columns, key=lambda c: order.get(c[0], 3)) if names is not None for n in names
    ]
    if listed:
        return tuple(dict.fromkeys([*listed, *(t for own in texts for t in own if t is not None)]))
    return class_order(t for own in texts for t in own if t is not None)
