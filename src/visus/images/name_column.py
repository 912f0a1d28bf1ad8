"""Which column of a label table names the images, and whether its first line is a header: by what matches the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from visus.errors import DataError
from visus.images.label_table import LabelTable
from visus.images.name_index import NameIndex, is_image_name, steps_of
from visus.spec import unknown

SAMPLE = 500  # rows on which columns and delimiters are tried
NAMES = frozenset(
    [
        "name", "names", "file", "files", "filename", "fname", "path", "filepath", "image", "images", "imagename", "imagepath", "imagefile",
        "img", "imgname", "imgpath", "id", "imageid", "imgid", "imageindex", "idcode", "isicid", "picture", "photo", "key", "uri",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A column read as names. at: its position. files: for every row the files that may be meant. level: mean level of the spelling."""

    at: int
    files: tuple[tuple[str, ...], ...]
    level: float

    @property
    def matched(self) -> int:
        """How many different images it names."""
        return len({f for found in self.files if len(found) == 1 for f in found})


def word(header: str) -> str:
    """A header cell as it is compared: 'Image ID' is imageid."""
    return "".join(c for c in header.casefold() if c.isalnum())


def name_column(
    tables: Sequence[LabelTable], index: NameIndex, *, wanted: str | None = None
) -> tuple[LabelTable, Named]:
    """The reading of a label file, and its column, that name most images; ties go to the more faithful spelling, then to the usual header.

    wanted: the column that the user says. Raises DataError where two columns name different images as well as each other.
    """
    best: tuple[LabelTable, list[Named]] | None = None
    for table in tables:
        columns = range(table.width) if wanted is None else [column_of(table, wanted)]
        found = _tried(table, columns, index)
        if found and (best is None or found[0].matched > best[1][0].matched):
            best = (table, found)
    if best is None:
        table = tables[0]
        return table, Named(0, ((),) * len(table.rows), 0.0)
    table, found = best
    first = found[0]
    for other in found[1:]:
        rival = other.matched * 2 >= first.matched and other.level <= first.level and not _counts(table, other.at)
        # Whole numbers that repeat are labels which happen to be the names of some files too.
        rival &= other.level == 0 or other.matched == sum(map(bool, other.files))
        if rival and other.files != first.files and _odd(table, first.at) >= _odd(table, other.at):
            a, b = (shown(table, n.at) for n in (first, other))
            raise DataError(
                f"{table.path}: columns {a} and {b} both name images; say which with ?name=COLUMN behind the folder"
            )
    return table, first


def column_of(table: LabelTable, wanted: str) -> int:
    """The position of a column by its header, in any case, or by its number from 1. Raises SpecError, listing those that are there."""
    header = table.rows[0][1]
    for same in (
        lambda h: h == wanted,
        lambda h: h.casefold() == wanted.casefold(),
        lambda h: word(h) == word(wanted) != "",
    ):
        at = [i for i, h in enumerate(header) if same(h)]
        if len(at) == 1:
            return at[0]
        if at:
            raise DataError(f"{table.path} has {len(at)} columns {wanted!r}; rename one")
    if wanted.isdigit() and 1 <= int(wanted) <= table.width:
        return int(wanted) - 1
    raise unknown(f"column of {table.path.name}:", wanted, [h for h in header if h])


def shown(table: LabelTable, at: int) -> str:
    """A column as it is called in text: `dx`, or `column 2` where its header is empty."""
    return f"`{table.rows[0][1][at] or f'column {at + 1}'}`"


def has_header(table: LabelTable, named: Named, labels: frozenset[str]) -> bool:
    """Whether the first line names columns. Where it might be a row all the same, its name is that of no image, and nothing is lost."""
    cells = [word(c) for c in table.rows[0][1]]
    if cells[named.at] in NAMES and any(c in labels for i, c in enumerate(cells) if i != named.at):
        return True
    if not cells[named.at] and not table.rows[0][1][named.at]:
        return True
    if named.files[0] or is_image_name(table.rows[0][1][named.at]) or "/" in table.rows[0][1][named.at]:
        return False
    rest = [(i, c) for i, c in enumerate(table.rows[0][1]) if i != named.at and c]
    if cells[named.at] in NAMES or any(c in labels for c in cells):
        return True
    # A number, or a value that comes again below it, is no name of a column.
    return not any(_is_number(c) or c in table.column(i)[1:] for i, c in rest)


def _tried(table: LabelTable, columns: Sequence[int] | range, index: NameIndex) -> list[Named]:
    """The columns that name any image, best first; numbers are names only where nothing else is."""
    rows = range(len(table.rows))
    some = rows if len(rows) <= SAMPLE else rows[:: len(rows) // SAMPLE]
    for numbers in (False, True):
        hopeful = [c for c in columns if any(_names(table, c, some, index, numbers))]
        if not hopeful and len(some) < len(rows):
            hopeful = [c for c in columns if any(_names(table, c, rows, index, numbers))]
        found = [_named(table, c, index, numbers) for c in hopeful]
        if found:
            return sorted(found, key=lambda n: (_counts(table, n.at), -n.matched, n.level, _odd(table, n.at), n.at))
    return []


def _named(table: LabelTable, at: int, index: NameIndex, numbers: bool) -> Named:
    cells = table.column(at)
    looked = [index.find(c, numbers=numbers) for c in cells]
    prefix = _prefix(cells)
    if prefix and sum(len(f) == 1 for f, _ in looked) < len(cells) - 1:
        # All names lie below one foreign folder, and the images below another: what differs is that folder alone.
        bare = [index.find("/".join(steps_of(c)[len(prefix) :]), numbers=numbers) for c in cells]
        if len({f[0] for f, _ in bare if len(f) == 1}) > len({f[0] for f, _ in looked if len(f) == 1}):
            looked = bare
    levels = [level for found, level in looked if found]
    return Named(at, tuple(tuple(f) for f, _ in looked), sum(levels) / max(len(levels), 1))


def _names(table: LabelTable, at: int, rows: range, index: NameIndex, numbers: bool) -> list[bool]:
    cells = [table.rows[i][1][at] for i in rows]
    prefix = _prefix(cells)
    return [
        bool(index.find(c, numbers=numbers)[0] or (prefix and index.find("/".join(steps_of(c)[len(prefix) :]))[0]))
        for c in cells
    ]


def _prefix(cells: Sequence[str]) -> tuple[str, ...]:
    """The folders in which all names lie, but for the first line, which may be a header."""
    folders = [steps_of(c)[:-1] for c in cells[1:] or cells]
    if not folders:
        return ()
    low, high = min(folders), max(folders)  # what the first and the last in order share, all share
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))


def _counts(table: LabelTable, at: int) -> bool:
    """Whether a column is an index as pandas writes it: without a name, counting up."""
    cells = table.column(at)
    if word(cells[0]) not in ("", "index", "unnamed0") or len(cells) < 2:
        return False
    return counts_up(cells[1:])


def counts_up(cells: Sequence[str]) -> bool:
    """Whether cells are whole numbers, each one more than the last, from 0 or 1."""
    if not cells or not all(c.isascii() and c.isdigit() for c in cells):
        return False
    numbers = [int(c) for c in cells]
    return numbers[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(numbers))


def _odd(table: LabelTable, at: int) -> bool:
    """Whether the header is none of the usual ones for names."""
    return word(table.rows[0][1][at]) not in NAMES


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
