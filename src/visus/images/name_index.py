"""Which file a name in a table means: relative, foreign or Windows paths, with or without ending, in either case."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

# How a name and a file are spelt to be compared, most faithful first: (case kept, ending kept).
_LEVELS = ((True, True), (True, False), (False, True), (False, False))
_MANY = 16  # files that end alike from which their folders are indexed
NUMBER = len(_LEVELS)  # the level of file names that are numbers: 7 or 7.0 for 007.png
_IMAGES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".heic",
    ".dcm",
    ".jxl",
)


def is_image_name(name: str) -> bool:
    """Whether a name ends like that of a picture."""
    return name.lower().endswith(_IMAGES)


def steps_of(name: str) -> tuple[str, ...]:
    """The parts of a path as it may stand in a table, in one Unicode form."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return tuple([s for s in name.strip().replace("\\", "/").split("/") if s and s != "."])


class NameIndex:
    """Files by the ways in which a table may name them."""

    def __init__(self, files: Sequence[str], root: Path, *, table: Path | None = None) -> None:
        """table: the file that names them; of several files that fit, the one that it names relative to its own folder is meant."""
        self._steps = {file: steps_of(file) for file in files}
        self._root = steps_of(os.path.abspath(root).replace(os.sep, "/"))
        own = steps_of(os.path.abspath(table.parent).replace(os.sep, "/")) if table is not None else ()
        self._own = own[len(self._root) :] if own[: len(self._root)] == self._root else ()
        self._tables: dict[int, dict[str, list[str]]] = {}
        self._deep: dict[tuple[int, str], dict[str, list[str]]] = {}

    def find(self, name: str, *, numbers: bool = False) -> tuple[list[str], int]:
        """The files that a name may mean, and the level of the spelling; several: it cannot be told; none: nobody bears it.

        A name may say less than a file's relative path or more (a folder above); what both say must agree.
        """
        steps = steps_of(name)
        if not steps:
            return [], 0
        if name in self._steps:
            return [name], 0
        if numbers:
            number = _number(steps[-1])
            return (self._table(NUMBER).get(number, []) if number else []), NUMBER
        for level in range(NUMBER):
            if found := self._at(level, steps):
                return self._beside_table(found, len(steps)), level
        # As addresses are written, with a query behind the path.
        plain = unquote(name.partition("?")[0] if "://" in name else name)
        return self.find(plain) if plain != name else ([], 0)

    def _beside_table(self, found: list[str], steps: int) -> list[str]:
        """The one of several files that lies `steps` below the table's folder, where there is one."""
        if len(found) < 2 or not self._own:
            return found
        n = len(self._own)
        near = [f for f in found if self._steps[f][:n] == self._own and len(self._steps[f]) == n + steps]
        return near if len(near) == 1 else found

    def shared(self, name: str, file: str) -> int:
        """How many parts of the file's whole path, from its end, the name agrees with; the last one counts always."""
        said, path = [s.casefold() for s in steps_of(name)], [s.casefold() for s in (*self._root, *self._steps[file])]
        n = 1
        while n < min(len(said), len(path)) and said[-n - 1] == path[-n - 1]:
            n += 1
        return n

    def _at(self, level: int, steps: tuple[str, ...]) -> list[str]:
        last = _last(steps[-1], level, named=True)
        alike = self._table(level).get(last)
        if not alike:
            return []
        if len(alike) > _MANY:
            hits, length = self._among_many(level, last, alike, (*steps[:-1], last))
        else:
            shared = {file: self._shared(level, steps, self._steps[file]) for file in alike}
            length = max(shared.values())
            hits = [file for file, n in shared.items() if n == length]
        # Either all of the name stands in the file's path, or all of the file's path in the name.
        return hits if length == len(steps) else [f for f in hits if len(self._steps[f]) == length]

    @staticmethod
    def _shared(level: int, said: tuple[str, ...], path: tuple[str, ...]) -> int:
        """How many parts two paths share from their ends, of which the last is known to be the same."""
        case, n = _LEVELS[level][0], 1
        while n < min(len(said), len(path)):
            a, b = said[-n - 1], path[-n - 1]
            if a != b and (case or a.casefold() != b.casefold()):
                break
            n += 1
        return n

    def _among_many(self, level: int, last: str, alike: list[str], said: tuple[str, ...]) -> tuple[list[str], int]:
        """As above, where very many files end alike (image.png in every folder): by their folders, once indexed."""
        case = _LEVELS[level][0]
        if (level, last) not in self._deep:
            deep: dict[str, list[str]] = {}
            for file in alike:
                path = [*self._steps[file][:-1], last]
                for n in range(1, len(path) + 1):
                    end = "/".join(path[-n:])
                    deep.setdefault(end if case else end.casefold(), []).append(file)
            self._deep[level, last] = deep
        for n in range(len(said), 0, -1):
            end = "/".join(said[-n:])
            if hits := self._deep[level, last].get(end if case else end.casefold()):
                return hits, n
        return [], 0

    def _table(self, level: int) -> dict[str, list[str]]:
        """The last part of the path, as it is spelt at a level -> files."""
        if level not in self._tables:
            table: dict[str, list[str]] = {}
            for file, steps in self._steps.items():
                last = _number(_stem(steps[-1])) if level == NUMBER else _last(steps[-1], level, named=False)
                if last:
                    table.setdefault(last, []).append(file)
            self._tables[level] = table
        return self._tables[level]


def _last(name: str, level: int, *, named: bool) -> str:
    case, ending = _LEVELS[level]
    if not ending and (not named or is_image_name(name)):
        name = _stem(name)
    return name if case else name.casefold()


def _stem(name: str) -> str:
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


def _number(text: str) -> str:
    text = text.removesuffix(".0")
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else ""
