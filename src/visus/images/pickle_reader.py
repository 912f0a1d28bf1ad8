"""A reader for CIFAR's pickles that executes nothing: it walks the opcodes and builds plain data only.

No name in the file is ever imported or called. The few that numpy's pickles need are known by their text, and stand for data; any
other opcode or name is refused. Source of the opcodes: Python's pickletools.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visus.errors import DataError

# Strings longer than this stay in the file and are given as their place in it.
LONG = 1 << 16


@dataclass(frozen=True)
class Raw:
    """A long byte string that was left in its file. offset, length: in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Pixels:
    """A uint8 array. shape: its shape. data: its bytes, or where they lie in the file."""

    shape: tuple[int, ...]
    data: Raw | bytes


class _Name(str):
    """A name that the pickle would import; here only text."""


class _Array(dict[str, Any]):
    """numpy's empty array, filled by the state that follows."""


_MARK = object()
_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_FROMBUFFER = {"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"}


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a CIFAR pickle: keys as text, uint8 arrays as `Pixels`, everything else as plain Python data.

    Raises DataError for a damaged file, and for one that holds anything but such data.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            found = _Walk(view).run()
    except (IndexError, KeyError, struct.error, ValueError, TypeError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path} is damaged or no pickle of CIFAR ({error}); remove it and fetch it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no pickle of CIFAR; remove it and fetch it again")
    return {_text(key): _finish(value) for key, value in found.items()}


class _Walk:
    def __init__(self, view: mmap.mmap) -> None:
        self.view, self.at = view, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise ValueError(f"opcode {code!r} has no place in such a file")
            step(self)

    def take(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.view):
            raise EOFError("it ends too early")
        self.at += n
        return self.view[self.at - n : self.at]

    def skip(self, n: int) -> None:
        self.take(n)

    def number(self, kind: str) -> int:
        return int(struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0])

    def line(self) -> str:
        end = self.view.find(b"\n", self.at)
        if end < 0:
            raise EOFError("it ends too early")
        return (self.take(end - self.at) + self.take(1))[:-1].decode("ascii")

    def string(self, length: int) -> bytes | Raw:
        if length <= LONG:
            return self.take(length)
        raw = Raw(self.at, length)
        if length < 0 or self.at + length > len(self.view):
            raise EOFError("it ends too early")
        self.at += length
        return raw

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def above_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def last(self, n: int) -> tuple[Any, ...]:
        if n > len(self.stack):
            raise ValueError("the stack is empty")
        found = tuple(self.stack[len(self.stack) - n :]) if n else ()
        del self.stack[len(self.stack) - n :]
        return found

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("items for something that is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise TypeError("entries for something that is no dictionary")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def global_(self, module: str, name: str) -> None:
        self.push(_Name(f"{module} {name}"))

    def call(self) -> None:
        name, arguments = self.last(2)
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that has no name")
        if name in _RECONSTRUCT:
            self.push(_Array())
        elif name in _FROMBUFFER:
            buffer, kind, shape, order = arguments
            self.push(_Array(shape=shape, dtype=kind, fortran=order != "C", data=buffer))
        elif name == "numpy dtype":
            self.push(("dtype", _text(arguments[0])))
        elif name == "_codecs encode" and [_text(a) for a in arguments[1:]] == ["latin1"]:
            text = arguments[0]
            self.push(
                (
                    self.view[text.offset : text.offset + text.length].decode("utf-8")
                    if isinstance(text, Raw)
                    else text
                ).encode("latin1")
            )
        else:
            raise ValueError(f"it asks for {name!s}, which such a file has no use for; refused")

    def build(self) -> None:
        target, state = self.last(2)
        if isinstance(target, _Array):
            _, shape, kind, fortran, data = state
            target.update(shape=shape, dtype=kind, fortran=fortran, data=data)
        elif not (isinstance(target, tuple) and target[:1] == ("dtype",)):
            raise TypeError("a state for something that is no array")
        self.push(target)


def _unicode(walk: _Walk, length: int) -> None:
    found = walk.string(length)
    walk.push(found if isinstance(found, Raw) else found.decode("utf-8"))


_STEPS: dict[bytes, Callable[[_Walk], None]] = {
    b"\x80": lambda w: w.skip(1),  # PROTO
    b"\x95": lambda w: w.skip(8),  # FRAME
    b"(": lambda w: w.push(_MARK),
    b"N": lambda w: w.push(None),
    b"\x88": lambda w: w.push(True),
    b"\x89": lambda w: w.push(False),
    b"K": lambda w: w.push(w.number("B")),
    b"M": lambda w: w.push(w.number("H")),
    b"J": lambda w: w.push(w.number("i")),
    b"\x8a": lambda w: w.push(int.from_bytes(w.take(w.number("B")), "little", signed=True)),
    b"U": lambda w: w.push(w.string(w.number("B"))),
    b"T": lambda w: w.push(w.string(w.number("i"))),
    b"C": lambda w: w.push(w.string(w.number("B"))),
    b"B": lambda w: w.push(w.string(w.number("I"))),
    b"\x8e": lambda w: w.push(w.string(w.number("Q"))),
    b"\x96": lambda w: w.push(w.string(w.number("Q"))),
    b"X": lambda w: _unicode(w, w.number("I")),
    b"\x8c": lambda w: _unicode(w, w.number("B")),
    b"\x8d": lambda w: _unicode(w, w.number("Q")),
    b"}": lambda w: w.push({}),
    b"]": lambda w: w.push([]),
    b")": lambda w: w.push(()),
    b"t": lambda w: w.push(tuple(w.above_mark())),
    b"\x85": lambda w: w.push(w.last(1)),
    b"\x86": lambda w: w.push(w.last(2)),
    b"\x87": lambda w: w.push(w.last(3)),
    b"a": lambda w: w.extend([*w.last(1)]),
    b"e": lambda w: w.extend(w.above_mark()),
    b"s": lambda w: w.update([*w.last(2)]),
    b"u": lambda w: w.update(w.above_mark()),
    b"q": lambda w: w.memo.__setitem__(w.number("B"), w.stack[-1]),
    b"r": lambda w: w.memo.__setitem__(w.number("I"), w.stack[-1]),
    b"\x94": lambda w: w.memo.__setitem__(len(w.memo), w.stack[-1]),
    b"h": lambda w: w.push(w.memo[w.number("B")]),
    b"j": lambda w: w.push(w.memo[w.number("I")]),
    b"c": lambda w: w.global_(w.line(), w.line()),
    b"\x93": lambda w: w.global_(*(_text(t) for t in w.last(2))),
    b"R": lambda w: w.call(),
    b"b": lambda w: w.build(),
}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, str):
        return str(value)
    raise TypeError("text was expected")


def _finish(value: Any) -> Any:
    """Arrays to Pixels, byte strings to text, all the way down."""
    if isinstance(value, _Array):
        if value.get("dtype") not in (("dtype", "u1"), ("dtype", "|u1")) or value["fortran"]:
            raise ValueError(f"an array of {value.get('dtype')} where pixels were expected")
        shape = tuple(int(n) for n in value["shape"])
        data = value["data"]
        if (data.length if isinstance(data, Raw) else len(data)) != int(np.prod(shape)):
            raise ValueError("an array whose size is not that of its data")
        return Pixels(shape, data)
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, list | tuple):
        return [_finish(v) for v in value]
    return value
