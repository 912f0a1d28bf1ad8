"""Which file a name in a table means: relative, foreign or Windows paths, with or without ending, in either case."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

# How a name and a file are spelt to be compared, most faithful first: (case kept, ending kept).
_LEVELS = ((True, True), (True, False), (False, True), (False, False))
NUMBER = len(_LEVELS)  # the level of file names that are numbers: 7 or 7.0 for 007.png
_PICTURES = (
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


def is_picture_name(name: str) -> bool:
    """Whether a name ends like that of a picture."""
    return name.lower().endswith(_PICTURES)


def steps_of(name: str) -> tuple[str, ...]:
    """The parts of a path as it may stand in a table, in one Unicode form."""
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return tuple(s for s in name.split("/") if s not in ("", "."))


class NameIndex:
    """Files by the ways in which a table may name them."""

    def __init__(self, files: Sequence[str], root: Path) -> None:
        self._files = files
        self._steps = {file: steps_of(file) for file in files}
        self._root = steps_of(os.path.abspath(root).replace(os.sep, "/"))
        self._tables: dict[int, dict[str, list[str]]] = {}

    def find(self, name: str, *, numbers: bool = False) -> tuple[list[str], int]:
        """The files that a name may mean, and the level of the spelling; several: it cannot be told; none: nobody bears it.

        A name may say less than a file's relative path or more (a folder above); what both say must agree.
        """
        steps = steps_of(name)
        if not steps:
            return [], 0
        if numbers:
            return self._table(NUMBER).get(_number(steps[-1]), []), NUMBER
        for level in range(NUMBER):
            if found := self._at(level, steps):
                return found, level
        return [], 0

    def shared(self, name: str, file: str) -> int:
        """How many parts of the file's whole path, from its end, the name agrees with; the last one counts always."""
        said, path = [s.casefold() for s in steps_of(name)], [s.casefold() for s in (*self._root, *self._steps[file])]
        n = 1
        while n < min(len(said), len(path)) and said[-n - 1] == path[-n - 1]:
            n += 1
        return n

    def _at(self, level: int, steps: tuple[str, ...]) -> list[str]:
        table, spelt = self._table(level), _spelt(steps, level, named=True)
        for length in range(len(spelt), 0, -1):
            hits = table.get("/".join(spelt[-length:]))
            if hits:
                # Either all of the name stands in the file's path, or all of the file's path in the name.
                return hits if length == len(spelt) else [f for f in hits if len(self._steps[f]) == length]
        return []

    def _table(self, level: int) -> dict[str, list[str]]:
        if level not in self._tables:
            table: dict[str, list[str]] = {}
            for file, steps in self._steps.items():
                if level == NUMBER:
                    if number := _number(PurePosixPath(steps[-1]).stem):
                        table.setdefault(number, []).append(file)
                    continue
                spelt = _spelt(steps, level, named=False)
                for length in range(1, len(spelt) + 1):
                    table.setdefault("/".join(spelt[-length:]), []).append(file)
            self._tables[level] = table
        return self._tables[level]


def _spelt(steps: tuple[str, ...], level: int, *, named: bool) -> tuple[str, ...]:
    case, ending = _LEVELS[level]
    last = steps[-1]
    if not ending and (is_picture_name(last) or not named):
        last = PurePosixPath(last).stem
    steps = (*steps[:-1], last)
    return steps if case else tuple(s.casefold() for s in steps)


def _number(text: str) -> str:
    text = text.removesuffix(".0")
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else ""
