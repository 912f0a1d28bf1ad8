"""What a network does beyond its weights: the code of classes that no package version names, and the plain attributes of its modules.

Weights alone do not tell two networks apart: a class of one's own may be edited between two runs, and `module.scale = 2` is in no state
dict. Code is hashed as it was loaded (bytecode and constants, with what it calls of one's own), so that comments change nothing.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
import xxhash

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
# Attributes that say how a module stands or where it came from, not what it does.
_PASSING = frozenset({"training", "name_or_path", "warnings_issued", "pretrained_cfg", "default_cfg"})


def own_code(roots: Iterable[Any]) -> str:
    """A text that changes when the code of one's own behind `roots` (classes, functions) changes; '' where all is of packages."""
    reader = _Reader()
    for root in roots:
        reader.visit(root)
    return "" if not reader.parts else xxhash.xxh3_128_hexdigest("\n".join(reader.parts).encode("utf-8", "replace"))


def attributes(module: torch.nn.Module) -> str:
    """The plain attributes (numbers, texts, switches, and tuples, lists and dicts of them) of a module and of all inside, what
    functions were put in place of its methods, and what hooks are on it."""
    lines = []
    for path, part in module.named_modules():
        if hooks := [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]:
            lines.append(f"{path} hooks {len(hooks)} {own_code(hooks)}")
        for name, value in sorted(vars(part).items()):
            if name.startswith("_") or name in _PASSING:
                continue
            if isinstance(value, FunctionType | MethodType):
                lines.append(f"{path}.{name}={own_code([value])}")
            elif (text := _plain(value)) is not None:
                lines.append(f"{path}.{name}={text}")
    return "\n".join(lines)


def packages(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the installed packages that the network's classes come from."""
    found = {type(part).__module__.partition(".")[0] for part in module.modules() if not is_own(type(part))}
    return tuple(sorted(found - {"builtins"}))


def is_own(thing: Any) -> bool:
    """Whether a class or function is of one's own: not of an installed package, nor of Python itself."""
    name = getattr(thing, "__module__", None) or ""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or (top in sys.stdlib_module_names and top != "__main__"):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or not _installed(file)


@lru_cache(maxsize=4096)
def _installed(file: str) -> bool:
    path = Path(file).resolve()
    homes = {sysconfig.get_paths()[k] for k in ("purelib", "platlib", "stdlib", "platstdlib")}
    return (
        any(path.is_relative_to(Path(h).resolve()) for h in homes)
        or "site-packages" in path.parts
        or "dist-packages" in path.parts
    )


def _plain(value: Any) -> str | None:
    """A text of numbers, texts and containers of them, the same in every process; None for anything else."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, tuple | list | set | frozenset):
        parts = [_plain(v) for v in value]
        if any(p is None for p in parts):
            return None
        return f"{type(value).__name__}{sorted(map(str, parts)) if isinstance(value, set | frozenset) else parts}"
    if isinstance(value, Mapping):
        pairs = [(_plain(k), _plain(v)) for k, v in value.items()]
        return None if any(None in pair for pair in pairs) else str(sorted(pairs, key=str))
    return None


class _Reader:
    """Walks through code of one's own, each piece once, and writes down what it is."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._seen: set[int] = set()

    def visit(self, thing: Any) -> None:
        """Take in a class, a function, or a value that code of one's own uses."""
        if isinstance(thing, MethodType):
            thing = thing.__func__
        if isinstance(thing, partial):
            for piece in (thing.func, thing.args, thing.keywords):
                self.visit(piece)
        elif not isinstance(thing, type | FunctionType) and callable(getattr(thing, "__wrapped__", None)):
            self.visit(thing.__wrapped__)  # of functools.cache and the like
        elif isinstance(thing, type | FunctionType):
            if id(thing) in self._seen or not is_own(thing):
                return
            self._seen.add(id(thing))
            self.parts.append(f"{type(thing).__name__} {thing.__qualname__}")
            if isinstance(thing, type):
                self._class(thing)
            else:
                self._function(thing)
        elif isinstance(thing, np.ndarray):
            self.parts.append(
                f"{thing.dtype}{thing.shape}{thing.tobytes().hex() if thing.dtype.kind in 'biufc' else ''}"
            )
        elif (text := _plain(thing)) is not None:
            self.parts.append(text)
        elif hasattr(thing, "detach") and hasattr(thing, "numpy"):
            self.visit(thing.detach().cpu().float().numpy())

    def _class(self, kind: type) -> None:
        for base in kind.__bases__:
            self.visit(base)
        for name, value in vars(kind).items():
            if name.startswith("__") and name not in ("__init__", "__call__", "__getattr__", "__getitem__"):
                continue
            self.parts.append(name)
            value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            for part in (value.fget, value.fset) if isinstance(value, property) else (value,):
                self.visit(part)

    def _function(self, function: FunctionType) -> None:
        names = self._code(function.__code__)
        for value in (function.__defaults__, function.__kwdefaults__, *_cells(function)):
            self.visit(value)
        for name in sorted(names):
            used = function.__globals__.get(name)
            if isinstance(used, ModuleType):
                for attribute in sorted(names):
                    self.visit(vars(used).get(attribute))
            elif used is not None:
                self.visit(used)

    def _code(self, code: CodeType) -> set[str]:
        """Write a code object down; the names that it looks up."""
        self.parts.append(code.co_code.hex())
        names = set(code.co_names)
        self.parts.append(str(code.co_names))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                names |= self._code(constant)
            else:
                self.parts.append(_plain(constant) or type(constant).__name__)
        return names


def _cells(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found
