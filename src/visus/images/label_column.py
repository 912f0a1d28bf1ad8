"""Which column of a label table holds the classes, which the splits and groups, and what classes cannot be read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from math import isfinite

from visus.errors import DataError
from visus.images.label_table import LabelTable
from visus.images.name_column import column_of, counts_up, shown, word
from visus.images.name_index import is_image_name
from visus.images.split_folders import meaning, split_names
from visus.progress import caution

LABELS = frozenset(
    [
        "label", "labels", "labelname", "labelid", "labelidx", "labelindex", "class", "classes", "classname", "classlabel", "classid",
        "classidx", "classindex", "target", "targets", "targetname", "targetid", "category", "categories", "categoryname", "categoryid",
        "diagnosis", "dx", "species", "speciesname", "breed", "y", "gt", "groundtruth", "truth", "disease", "finding", "findinglabels",
        "tag", "tags",
    ]
)  # fmt: skip
GROUPS = frozenset(
    [
        "group", "groups", "groupid", "patient", "patientid", "patientno", "subject", "subjectid", "participant", "participantid", "person",
        "personid", "individual", "individualid", "animalid", "case", "caseid", "lesion", "lesionid", "study", "studyid", "series",
        "seriesid", "session", "sessionid", "sequence", "sequenceid", "seqid", "video", "videoid", "scene", "sceneid", "artist",
        "artistid", "photographer", "author", "slide", "slideid", "plot", "plotid", "specimen", "specimenid",
    ]
)  # fmt: skip
_SPLITS = frozenset(["split", "splits", "set", "subset", "partition", "usage", "phase", "dataset", "datasplit"])
_FLAGS: Mapping[str, tuple[str, str]] = {  # header -> (split of a true row, of a false one)
    "istrain": ("train", "test"), "istraining": ("train", "test"), "istrainingimage": ("train", "test"),
    "istest": ("test", "train"), "isvalid": ("validation", "train"), "isval": ("validation", "train"),
    "isvalidation": ("validation", "train"),
}  # fmt: skip
_FOLDS = frozenset(["fold", "folds", "kfold"])
_PLACES = frozenset(
    [
        "x", "y", "w", "h", "x1", "y1", "x2", "y2", "xmin", "ymin", "xmax", "ymax", "cx", "cy", "left", "top", "right", "bottom", "width",
        "height", "imagewidth", "imageheight", "lat", "lon", "latitude", "longitude", "bbox", "size", "filesize", "md5", "hash",
    ]
)  # fmt: skip
_TRUE, _FALSE = frozenset(["1", "1.0", "true", "yes"]), frozenset(["", "0", "0.0", "-1", "-1.0", "false", "no"])
MISSING = frozenset(["", "nan", "<na>", "null"])
_QUANTITIES = frozenset(
    [
        "age", "ages", "year", "years", "birthyear", "month", "months", "boneage", "price", "cost", "score", "scores", "rating", "ratings",
        "weight", "height", "bmi", "count", "counts", "temperature", "distance", "depth", "area", "volume", "angle", "speed", "steering",
    ]
)  # fmt: skip
MANY = 10  # whole numbers up to which they are taken for classes without a word
FEW = 5  # rows from which values that never repeat are no classes
NAMED = 4  # examples in a message
_PAIRS = 500  # values that are held against each other


@dataclass(frozen=True)
class Columns:
    """Positions of columns. label: several for one-hot classes. ignored: what is used for nothing. split: row value -> split."""

    label: tuple[int, ...]
    split: int | None
    splits: Mapping[str, str]
    groups: int | None
    ignored: tuple[int, ...]


def columns_of(
    table: LabelTable,
    name: int,
    rows: Sequence[int],
    *,
    header: bool,
    label: str | None,
    groups: str | None,
    foldered: bool = False,
) -> Columns:
    """What the columns of a label table are for; name: the column of names; rows: those that name an image, without the header.

    foldered: folders give classes where the table has none, so that a table of splits or groups alone will do.
    Raises DataError where no column, or more than one, can hold the classes; SpecError for a column that is not there.
    """
    columns = [i for i in range(table.width) if i != name]
    cells = {i: [table.rows[r][1][i] for r in rows] for i in columns}
    grouped = column_of(table, groups) if groups is not None else None
    asked = column_of(table, label) if label is not None else None
    for what, at in (("--groups", grouped), ("--label-column", asked)):
        if at == name:
            raise DataError(f"{table.path}: {shown(table, name)} names the images; give {what} another column")
    words = {i: word(table.rows[0][1][i]) if header else "" for i in columns}
    split, splits = _split(table, {i: c for i, c in cells.items() if i != asked}, words)
    left = [i for i in columns if i not in (split, grouped)]
    if asked is not None:
        taken: tuple[int, ...] = (asked,)
    else:
        taken = _label(table, cells, words, left, none=foldered and (grouped is not None or bool(splits)))
    for i in left:
        if words[i] in _SPLITS and i not in taken:
            values = ", ".join(sorted(set(cells[i]))[:NAMED])
            caution(f"column {shown(table, i)} of {table.path.name} is not taken for splits: its values are {values}.")
    if len(taken) == 1:
        _check(table, taken[0], cells[taken[0]])
        _doubt(table, taken[0], cells[taken[0]], header=word(table.rows[0][1][taken[0]]))
    used = {*taken, split, grouped}
    return Columns(taken, split, splits, grouped, tuple(i for i in columns if i not in used))


def group_like(table: LabelTable, columns: Columns, rows: Sequence[int]) -> tuple[int, int] | None:
    """(column, values) of an unused column whose header is that of patients, artists, sessions ..., with several images each."""
    for at in columns.ignored:
        if word(table.rows[0][1][at]) not in GROUPS:
            continue
        cells = [table.rows[r][1][at] for r in rows]
        values = len(set(cells))
        one_class = len({tuple(table.rows[r][1][i] for i in columns.label) for r in rows}) == values
        if 1 < values < len(cells) and not one_class:
            return at, values
    return None


def _split(
    table: LabelTable, cells: Mapping[int, list[str]], words: Mapping[int, str]
) -> tuple[int | None, dict[str, str]]:
    found = {}
    for i, column in cells.items():
        values = set(column) - {""}
        if words[i] in _FLAGS and len(values) == 2 and {v.casefold() for v in values} <= _TRUE | _FALSE:
            yes, no = _FLAGS[words[i]]
            found[i] = {v: yes if v.casefold() in _TRUE else no for v in values}
            continue
        meant = split_names(values)
        # Under a header of splits other values may stand beside theirs: images of no split, which nobody trains on.
        headed = words[i] in _SPLITS and len(set(meant.values())) > 1 and "train" in meant.values()
        if headed or (values and len(meant) == len(values) and all(meaning(v)[1] for v in values)):
            found[i] = meant
    if len(found) > 1:
        named = {i: s for i, s in found.items() if words[i] == "split"}
        if len(named) != 1:
            raise DataError(f"{table.path}: columns {_list(table, found)} all hold splits; keep one of them")
        found = named
    at = next(iter(found), None)
    if at is None:
        return None, {}
    # One value alone splits nothing.
    return at, found[at] if len(set(found[at].values())) > 1 else {}


def _label(
    table: LabelTable, cells: Mapping[int, list[str]], words: Mapping[int, str], left: Sequence[int], *, none: bool
) -> tuple[int, ...]:
    placed = "x" in words.values()
    # 'y' alone is a label; 'y]' is what is left of a header like 'Spacing[x,y]'.
    y = {i for i in left if words[i] == "y" and (placed or table.rows[0][1][i].casefold() != "y")}
    usual = [i for i in left if words[i] in LABELS and i not in y]
    if usual:
        return (_one(table, usual, cells),)
    reasons = {i: _unfit(words[i], cells[i]) for i in left}
    two = [i for i in left if words[i] not in _FOLDS | _FLAGS.keys() | _SPLITS and _is_two(cells[i])]
    fit = [i for i in left if not reasons[i]]
    if len(two) > 1:
        varied = [i for i in two if set(map(is_true, cells[i])) != {True}]
        others = [i for i in fit if i not in two]
        for hot in (two, varied):
            if len(hot) > 1 and _one_each(hot, cells) and (len(hot) > 2 or not others):
                return tuple(hot)
        if len(two) > 2:
            ones = [sum(is_true(cells[i][r]) for i in two) for r in range(len(cells[two[0]]))]
            wrong = sum(n != 1 for n in ones)
            raise DataError(
                f"{table.path} is a multi-label table: {_list(table, two)} are 0 or 1, and {wrong:,} of {len(ones):,} rows have none or "
                "several of them; an image needs one class here: choose one column with --label-column"
            )
    if len(fit) > 1:
        fit = [i for i in fit if len(set(cells[i])) > 1] or fit
        # Beside a column whose values come again, one with another value in every row is none of classes, however few the rows are.
        fit = (
            [i for i in fit if len(set(cells[i])) < len(cells[i])] or [i for i in fit if not counts_up(cells[i])] or fit
        )
    if not fit and none:
        return ()
    if not fit:
        told = "; ".join(f"{shown(table, i)} {why}" for i, why in list(reasons.items())[:NAMED])
        if not told and len(cells) < 1:
            line, row = table.rows[0]
            raise DataError(f"{table.path}, line {line}: expected name,label but found {','.join(row)[:60]!r}")
        raise DataError(
            f"{table.path} has no column of classes{f' ({told})' if told else ''}; name one with --label-column"
        )
    return (_one(table, fit, cells),)


def _one(table: LabelTable, candidates: Sequence[int], cells: Mapping[int, list[str]]) -> int:
    """The single candidate, or, of several that say the same (numbers beside names), the one with names. Raises DataError otherwise."""
    first = candidates[0]
    if all(_same(cells[first], cells[i]) for i in candidates[1:]):
        return next((i for i in candidates if not all(_number(v) is not None for v in cells[i] if v)), first)
    raise DataError(
        f"{table.path}: {len(candidates)} columns may hold the classes, {_list(table, candidates)}; say which with --label-column"
    )


def _one_each(columns: Sequence[int], cells: Mapping[int, list[str]]) -> bool:
    """Whether every row has a 1 in exactly one of the columns."""
    return all(sum(map(is_true, row)) == 1 for row in zip(*(cells[i] for i in columns), strict=True))


def _same(a: Sequence[str], b: Sequence[str]) -> bool:
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def _unfit(header: str, cells: Sequence[str]) -> str:
    """Why a column that nobody asked for holds no classes; '' where it may."""
    values = {v for v in cells if v.casefold() not in MISSING}
    if header in _FOLDS or header in _SPLITS or header in _FLAGS:
        return "is about splits"
    if header in GROUPS:
        return "groups images; give it as --groups"
    if header in _PLACES:
        return "is a place or a size"
    if not values:
        return "is empty"
    if all(map(is_image_name, values)):
        return "names pictures"
    if header in ("", "index", "unnamed0") and counts_up(cells) and len(cells) > FEW:
        return "counts the rows"
    if len(values) == 1 and len(cells) >= FEW:
        return "has one value only"
    return _no_classes(cells)


def _no_classes(cells: Sequence[str]) -> str:
    full = [v for v in cells if v.casefold() not in MISSING]
    values = set(full)
    numbers = [n for n in map(_number, values) if n is not None]
    broken = len(numbers) == len(values) and any(n != int(n) for n in numbers if abs(n) < 1e15)
    if broken and (2 * len(values) > len(full) or len(values) > 50):
        return f"holds {len(values):,} different fractions: a number to be predicted, no class"
    if len(full) >= FEW and len(values) == len(full):
        return f"has another value in each of {len(full):,} rows"
    return ""


def _check(table: LabelTable, at: int, cells: Sequence[str]) -> None:
    """Raise DataError where the chosen column holds numbers to be predicted, names of the rows, or several labels in a cell."""
    if why := _no_classes([classes_in(c) for c in cells]):
        raise DataError(
            f"{table.path}: column {shown(table, at)} is no column of classes, it {why}; name another with --label-column"
        )
    if cell := _several(table.rows[0][1][at], cells):
        raise DataError(
            f"{table.path}: column {shown(table, at)} is multi-label ({cell[:60]!r}); an image needs one class here: keep the rows with "
            "one label, or name another column with --label-column"
        )


def _doubt(table: LabelTable, at: int, cells: Sequence[str], *, header: str) -> None:
    """Warn of numbers that are taken for classes and may be quantities: fractions, and many whole numbers that are not counted from 0 or 1."""
    full = [v for v in cells if v.casefold() not in MISSING]
    known = [_number(v) for v in full]
    values = {n for n in known if n is not None and isfinite(n)}
    if not values or len([n for n in known if n is not None and isfinite(n)]) < len(full):
        return
    k, low, high = len(values), min(values), max(values)
    broken = any(n != int(n) for n in values)
    counted, dense = low in (0, 1), k >= 0.5 * (high - low + 1)
    numbering = counted and k == high - low + 1
    rare = len(full) < 3 * k
    if broken or (k > MANY and (header in _QUANTITIES or (not numbering and (rare or (dense and not counted))))):
        caution(
            f"column {shown(table, at)} of {table.path.name} holds {k:,} different numbers from {low:g} to {high:g}: each is taken as a class of its "
            "own; if they are amounts (ages, scores), bring them to a few classes before."
        )


def classes_in(cell: str) -> str:
    """The class of a cell; of boxes as ImageNet lists them ('n01751748 111 108 230 366 n01751748 ...'), that of all its boxes."""
    parts = cell.split()
    if len(parts) < 5 or len(parts) % 5 or _number(parts[0]) is not None:
        return cell
    boxes = all(_number(p) is not None for i, p in enumerate(parts) if i % 5)
    names = set(parts[::5])
    return next(iter(names)) if boxes and len(names) == 1 else "|".join(sorted(names)) if boxes else cell


def _several(header: str, cells: Sequence[str]) -> str:
    """A cell that holds several labels, '' where none does."""
    values = sorted({unescape(classes_in(c)) for c in cells})
    for value in values:
        listed = value.startswith("[") and value.endswith("]") and "," in value
        if listed or any(m in value.strip("|;") for m in "|;"):
            return value
    tagged = word(header) in ("tags", "attributes", "keywords")
    for mark in (",", " "):
        lists = [frozenset(p.strip() for p in v.split(mark) if p.strip()) for v in values]
        several = [v for v, parts in zip(values, lists, strict=True) if len(parts) > 1]
        # Names of classes may consist of words as well, but of as many each, as a rule, and of words that no other has.
        if not several or len({len(parts) for parts in lists}) < 2:
            continue
        times = Counter(p for parts in lists for p in parts)
        nested = any(a < b for a in lists[:_PAIRS] for b in lists[:_PAIRS])
        shared = all(times[p] > 1 for parts in lists if len(parts) > 1 for p in parts)
        if (nested and len(values) > len(times)) or (mark == "," and shared) or (mark == " " and tagged):
            return several[0]
    return ""


def _is_two(cells: Sequence[str]) -> bool:
    values = {v.casefold() for v in cells}
    return bool(values) and values <= _TRUE | _FALSE and values != {""}


def is_true(cell: str) -> bool:
    return cell.casefold() in _TRUE


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _list(table: LabelTable, columns: Iterable[int]) -> str:
    columns = list(columns)
    more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
    return ", ".join(shown(table, i) for i in columns[:8]) + more
