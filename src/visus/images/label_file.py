"""Label files: a table in which a row says the class of an image, and perhaps its split and its group."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visus.errors import DataError
from visus.images.class_names import one_group, whole_number
from visus.images.label_column import LABELS, MISSING, NAMED, Columns, classes_in, columns_of, group_like, is_true
from visus.images.label_table import LabelTable, readings
from visus.images.listing import looks_like_an_image, show
from visus.images.name_column import has_header, name_column, shown
from visus.images.name_index import NameIndex
from visus.images.split_folders import meaning
from visus.progress import caution, note


@dataclass(frozen=True)
class Labelling:
    """What a label file says. label, split, group: by file (split and group only of files that have one). missing: names that no file
    bears. ambiguous: names that several files bear. blank: files whose label is empty."""

    label: Mapping[str, str]
    missing: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    split: Mapping[str, str] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)


def read_labels(
    path: Path,
    files: Sequence[str],
    root: Path,
    *,
    name: str | None = None,
    label: str | None = None,
    groups: str | None = None,
    foldered: bool = False,
) -> Labelling:
    """Match the rows of a label file with `files` (POSIX paths relative to root), and say what was taken for what.

    Any delimiter, with or without a header; UTF-8, or UTF-16 with its mark. The column of names is the one that names most images:
    by relative, foreign or Windows path, with or without ending, in either case and Unicode form, where one file fits.
    The column of classes is `label`, else the one of a usual header (label, class, target, diagnosis ...), else the only one that may
    hold classes, or a set of columns with one 1 a row. A column whose values are train, val, test declares splits.
    name, label, groups: headers, or numbers from 1. foldered: folders give classes, where the table has splits or groups alone; then
    every label is ''. Raises DataError: unreadable, no or several columns of classes, several labels
    an image; SpecError: no such column.
    """
    tables, problem = readings(path)
    index = NameIndex(files, root, table=path)
    table, named = name_column(tables, index, wanted=name)
    if problem is not None and not named.matched:
        raise problem
    if table.width < 2:
        line, cells = table.rows[0]
        raise DataError(f"{path}, line {line}: expected name,label but found {','.join(cells)[:60]!r}")
    header = has_header(table, named, LABELS)
    found = named.files
    if not header:
        table, found = LabelTable(path, ((0, [""] * table.width), *table.rows)), ((), *found)
    rows = [r for r in range(1, len(table.rows)) if table.rows[r][1][named.at]]
    if nameless := next((line for line, cells in table.rows[1:] if not cells[named.at]), None):
        raise DataError(f"{path}, line {nameless}: the name is empty; write name,label")
    claims = _claims(table, named.at, rows, found, index)
    if not claims and not any(found):
        first = table.rows[rows[0]][1][named.at] if rows else ""
        there = next(filter(looks_like_an_image, files), "nothing")
        raise DataError(
            f"{root} holds no usable image: no row of {path.name} names one (the first names {first[:60]!r}, the folder holds {show(there)!r})"
        )
    columns = columns_of(
        table, named.at, list(claims) or rows, header=header, label=label, groups=groups, foldered=foldered
    )
    result = _labelling(table, named.at, columns, rows, found, claims)
    _say(table, named.at, columns, list(claims), len(rows), result, files)
    return result


def _claims(
    table: LabelTable, at: int, rows: Sequence[int], found: Sequence[tuple[str, ...]], index: NameIndex
) -> Mapping[int, str]:
    """Row -> the file it names. Of rows that fit one file, those whose folders agree with more of its path; the others mean files elsewhere."""
    of_file: dict[str, list[int]] = {}
    for r in rows:
        if len(found[r]) == 1:
            of_file.setdefault(found[r][0], []).append(r)
    claims: dict[int, str] = {}
    for file, claiming in of_file.items():
        if len({table.rows[r][1][at] for r in claiming}) > 1:
            shared = {r: index.shared(table.rows[r][1][at], file) for r in claiming}
            claiming = [r for r in claiming if shared[r] == max(shared.values())]
        claims.update(dict.fromkeys(claiming, file))
    return dict(sorted(claims.items()))


def _labelling(
    table: LabelTable,
    at: int,
    columns: Columns,
    rows: Sequence[int],
    found: Sequence[tuple[str, ...]],
    claims: Mapping[int, str],
) -> Labelling:
    said: dict[str, tuple[str, str, str]] = {}
    missing: list[str] = []
    ambiguous: list[str] = []
    for r in rows:
        line, cells = table.rows[r]
        if r not in claims:
            (ambiguous if len(found[r]) > 1 else missing).append(cells[at])
            continue
        file, split, group = claims[r], "", ""
        if columns.split is not None:
            split = columns.splits.get(cells[columns.split], "")
        if columns.groups is not None:
            group = unicodedata.normalize("NFC", cells[columns.groups])
        here = (_class(table, columns, cells), split, group)
        before = said.setdefault(file, here)
        for what, one, two in zip(("labels", "splits", "groups"), before, here, strict=True):
            if one != two:
                raise DataError(
                    f"{table.path}, line {line}: {cells[at]!r} has two {what}, {one!r} and {two!r}; keep one"
                )
    label = {file: text for file, (text, _, _) in said.items() if text}
    if not columns.label:
        label = dict.fromkeys(said, "")
    whole = {text: whole_number(text) for text in set(label.values())}
    if all(whole.values()):  # 1.0 is class 1
        label = {file: whole[text] or text for file, text in label.items()}
    return Labelling(
        label,
        tuple(dict.fromkeys(missing)),
        tuple(dict.fromkeys(ambiguous)),
        tuple(file for file, (text, _, _) in said.items() if not text and columns.label),
        {file: split for file, (_, split, _) in said.items() if split},
        one_group({file: group for file, (_, _, group) in said.items() if group.casefold() not in MISSING}),
    )


def _class(table: LabelTable, columns: Columns, cells: Sequence[str]) -> str:
    if not columns.label:
        return ""
    if len(columns.label) > 1:
        at = next((i for i in columns.label if is_true(cells[i])), None)
        return "" if at is None else unicodedata.normalize("NFC", table.rows[0][1][at] or f"column {at + 1}")
    text = unicodedata.normalize("NFC", classes_in(cells[columns.label[0]]))
    return "" if text.casefold() in MISSING else text


def _say(
    table: LabelTable,
    at: int,
    columns: Columns,
    hits: Sequence[int],
    rows: int,
    result: Labelling,
    files: Sequence[str],
) -> None:
    """What was taken, counted; what was not, with examples."""
    file = table.path.name
    if not columns.label:
        what = "by the folders; rows"
    elif len(columns.label) == 1:
        what = f"column {shown(table, columns.label[0])}"
    else:
        ends = f"{shown(table, columns.label[0])} to {shown(table, columns.label[-1])}"
        what = f"the one of {len(columns.label)} columns that is 1, {ends}"
    ignored = [shown(table, i) for i in columns.ignored]
    left = f"; ignored: {', '.join(ignored[:12])}{' ...' if len(ignored) > 12 else ''}" if ignored else ""
    note(f"labels: {what} of {show(file)}, {len(hits):,} of {rows:,} rows matched by {shown(table, at)}{left}")
    if columns.split is not None and columns.splits:
        values = ", ".join(f"{value} is {split}" for value, split in sorted(columns.splits.items()))
        note(f"splits: column {shown(table, columns.split)} of {show(file)} ({values})")
        others = Counter(table.rows[r][1][columns.split] for r in hits)
        none = {value: n for value, n in sorted(others.items()) if value not in columns.splits}
        if none and "train" in columns.splits.values():
            listed = _some([f"{value or 'empty'} ({n:,} rows)" for value, n in none.items()])
            caution(
                f"column {shown(table, columns.split)} of {show(file)} holds values that are no split, whose images are not used: {listed}."
            )
    if columns.groups is not None:
        n = len(set(result.group.values()))
        alone = len(result.label) - len(result.group)
        rest = f"; {alone:,} images without one stand alone" if alone > 0 else ""
        note(
            f"groups: column {shown(table, columns.groups)} of {show(file)}, {n:,} of them over {len(result.group):,} images{rest}"
        )
    elif (like := group_like(table, columns, hits)) is not None:
        caution(
            f"column {shown(table, like[0])} has {like[1]:,} values for {len(hits):,} images: images of one may stand in train and in test; "
            f"--groups {table.rows[0][1][like[0]]} keeps them together."
        )
    if result.missing:
        few = len(hits) * 2 < rows
        (caution if few else note)(
            f"{len(result.missing):,} rows of {show(file)} name no image: {_some(result.missing)}"
        )
    if result.ambiguous:
        caution(
            f"{len(result.ambiguous):,} names in {show(file)} fit several images, which are left out: {_some(result.ambiguous)}."
        )
    without = [f for f in files if f not in result.label and looks_like_an_image(f)]
    if without and hits:
        caution(
            f"{len(without):,} images have no label in {show(file)} and are left out: {_some(without)}.{_other_tables(table.path)}"
        )


def _other_tables(path: Path) -> str:
    """What to do where the table is one of a train.csv and a test.csv; '' where it is not."""
    if not meaning(path.stem)[0]:
        return ""
    others = sorted(p.name for p in path.parent.glob(f"*{path.suffix}") if p.name != path.name and meaning(p.stem)[0])
    return (
        f" {_some(others)} beside it is not read: put the rows into one table, with a column `split`." if others else ""
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(show, names[:NAMED])) + (" ..." if len(names) > NAMED else "")
