"""Names of classes and groups: their order, and names that differ in case or in Unicode form only."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from visus.images.listing import show
from visus.progress import caution, note


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: whole numbers by value, anything else as plain text."""
    names = sorted(set(labels))
    return tuple(sorted(names, key=int)) if all(n.isascii() and n.isdigit() for n in names) else tuple(names)


def one_form(named: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Class name as found -> class name as taken, from (split, name) pairs; '' for no split. What was taken for one is said.

    Unicode forms (NFC, NFD) and spaces at the ends make no difference. Names that differ in case only are one class where no
    split holds both, as two classes would then be learned in one split and asked for in another; else two (letters, say).
    """
    splits: dict[str, set[str]] = {}
    for split, name in sorted(set(named)):
        splits.setdefault(name, set()).add(split)
    taken = {name: unicodedata.normalize("NFC", name).strip() for name in splits}
    forms: dict[str, set[str]] = {}
    for name, form in taken.items():
        forms.setdefault(form, set()).add(name)
    for form, names in forms.items():
        if len(names) > 1:
            caution(
                f"class names {_list(names)} differ in Unicode form or spaces only: taken as one class, {show(form)}."
            )
    alike: dict[str, list[str]] = {}
    for form in forms:
        alike.setdefault(form.casefold(), []).append(form)
    for same in alike.values():
        if len(same) < 2:
            continue
        where = {form: set.union(*(splits[n] for n in forms[form])) for form in same}
        if sum(map(len, where.values())) > len(set.union(*where.values())):
            caution(f"class names {_list(same)} differ in case only: taken as {len(same)} classes.")
            continue
        first = min(same, key=lambda form: ("train" not in where[form], form))
        caution(
            f"class names {_list(same)} differ in case only, and no split holds both: taken as one class, {show(first)}."
        )
        taken.update({name: first for name, form in taken.items() if form in same})
    return taken


def one_group(groups: Mapping[str, str]) -> dict[str, str]:
    """file -> group, with one form for names that differ in case or Unicode form only, and for 1 and 1.0 where all are whole numbers.

    Two groups taken for one cost a little balance; one taken for two would stand in train and in test. What was joined is said.
    """
    names = sorted(set(groups.values()))
    plain = {name: unicodedata.normalize("NFC", name).strip().casefold() for name in names}
    numbers = {name: whole_number(name) for name in names}
    forms: dict[str, str] = {}
    taken = {name: forms.setdefault(numbers[name] if all(numbers.values()) else plain[name], name) for name in names}
    if joined := sorted(name for name in names if taken[name] != name):
        note(
            f"groups: names that differ in spelling only are one, as {_list([taken[joined[0]], joined[0]])}: "
            f"{len(names):,} names, {len(forms):,} groups"
        )
    return {file: taken[name] for file, name in groups.items()}


def whole_number(text: str) -> str:
    """'3' for '3.0' and '3'; '' for anything else."""
    text = text.removesuffix(".0")
    return text if text.removeprefix("-").isdigit() and text.isascii() else ""


def _list(names: Iterable[str]) -> str:
    return " and ".join(show(repr(n)) for n in sorted(names))
