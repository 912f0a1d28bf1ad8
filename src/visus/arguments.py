"""Arguments as people give them: by the annotations of a function each is turned into what it reads, or refused in one line.

One string is one item of a list; paths, devices, numpy scalars and numbers where a text of numbers is meant are understood. Stands
alone at the root, so that the doors and every public loader ask the same.
"""

from __future__ import annotations

import functools
import inspect
import io
import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from visus.errors import DataError
from visus.spec import unknown

P = ParamSpec("P")
R = TypeVar("R")

# scikit-learn and numpy's old generators take 32 bits, and some seeds are counted on by a few.
LARGEST_SEED = 2**32 - 4
MANY = 10**9


@dataclass(frozen=True)
class Range:
    """low <= value <= high; open_low: low itself is too little."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def words(self, whole: bool) -> str:
        """'a whole number from 1 to 4,096', 'a number above 0'."""
        number = "a whole number" if whole else "a number"
        low = f"above {self.low:,g}" if self.open_low else f"from {_written(self.low)}"
        return f"{number} {low}" + (
            f" to {_written(self.high)}"
            if self.high < MANY or self.high == LARGEST_SEED
            else ""
            if self.open_low
            else " up"
        )


# By the name of the argument, which means the same at every door. Relations between arguments are the studies' own.
RANGES: Mapping[str, Range] = {
    "seed": Range(0, LARGEST_SEED),
    "limit": Range(1, math.inf),
    "threads": Range(1, 4096),
    "epochs": Range(1, MANY),
    "scratch_epochs": Range(1, MANY),
    "batch": Range(1, MANY),
    "accumulate": Range(1, MANY),
    "size": Range(1, 4096),
    "views": Range(0, 1000),
    "seeds": Range(1, 1000),
    "devices": Range(1, 1024),
    "masked": Range(1, MANY),
    "shown": Range(1, MANY),
    "top": Range(1, MANY),
    "words": Range(1, MANY),
    "patch": Range(1, 4096),
    "width": Range(1, 65_536),
    "layers": Range(1, 1000),
    "text_width": Range(1, 65_536),
    "text_layers": Range(1, 1000),
    "latent": Range(1, 65_536),
    "warmup": Range(0, MANY),
    "samples": Range(1, MANY),
    "importance": Range(1, MANY),
    "workers": Range(1, 4096),
    "shard_rows": Range(1, MANY),
    "lr": Range(0, open_low=True),
    "weight_decay": Range(0),
    "drop": Range(0, 0.9),
    "beta": Range(0),
    "free_bits": Range(0),
    "variance": Range(0, open_low=True),
}


def _written(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def settle(
    function: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    flags: bool = False,
) -> inspect.BoundArguments:
    """Bind arguments to a signature whose annotations are texts, with every default applied and every value as the function reads it.

    flags: arguments are named as on the command line (--scratch-epochs). Raises SpecError for an unknown name, with the nearest, and
    DataError, in one line that says what was given and what is accepted.
    """
    known = signature.parameters
    for name in kwargs:
        if name not in known:
            raise unknown(f"argument of {function}:", name, known)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise DataError(f"{function}: {error}; its arguments are {', '.join(known)}") from None
    for name, value in bound.arguments.items():
        parameter = known[name]
        option = flags and parameter.default is not inspect.Parameter.empty
        shown = "--" + name.replace("_", "-") if option else name
        bound.arguments[name] = read(value, parameter.annotation, name, shown=shown)
    bound.apply_defaults()
    seed, seeds = (bound.arguments.get(name) for name in ("seed", "seeds"))
    if isinstance(seed, int) and isinstance(seeds, int) and seed + seeds - 1 > LARGEST_SEED:
        raise DataError(
            f"{'--' if flags else ''}seed {seed} leaves no room for {seeds} seeds below {LARGEST_SEED:,}; give a lower one"
        )
    return bound


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose arguments are settled first. Raises what `settle` does."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = settle(function.__name__, signature, args, kwargs)
        return function(*bound.args, **bound.kwargs)

    return call


def read(value: Any, annotation: Any, name: str, *, shown: str | None = None) -> Any:
    """One value as its annotation, such as 'list[str] | None', reads it. name: of the argument; shown: how a message names it."""
    shown = shown or name
    kinds = [kind.strip() for kind in str(annotation).split("|")]
    value = _plain(value)
    if value is None:
        if "None" in kinds:
            return None
        raise _refused(shown, value, kinds, name)
    for kind in kinds:
        found = _READ[kind](value, name, shown) if kind in _READ else value if _is(value, kind) else None
        if found is not None:
            if isinstance(found, int | float) and not isinstance(found, bool):
                _within(found, name, shown)
            return found
    raise _refused(shown, value, kinds, name)


def _plain(value: Any) -> Any:
    """A numpy or torch scalar as Python's own; anything else as it is."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def _is(value: Any, kind: str) -> bool:
    """Whether it is an instance of the class of this name; asked by name, so that no class has to be imported."""
    return any(base.__name__ == kind for base in type(value).__mro__)


def _bool(value: Any, name: str, shown: str) -> bool | None:
    return value if isinstance(value, bool) else None


def _int(value: Any, name: str, shown: str) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):  # len(x) * 0.1 is a float, and 100.0 can only mean 100
        return int(value) if value.is_integer() else None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _float(value: Any, name: str, shown: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def _str(value: Any, name: str, shown: str) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum of texts its text, not its name
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else os.fsdecode(path)
    if name == "device" and _is(value, "device"):
        return str(value)
    return _numbers(value, name) if name in _OF_NUMBERS else None


def _numbers(value: Any, name: str) -> str | None:
    """Numbers where the function reads a text of them: 600 seconds, 1e-4, (28, 20), [50, 200]."""
    if name == "budget":
        if isinstance(value, timedelta):
            value = value.total_seconds()
        number = _float(value, name, name)
        return None if number is None else f"{number:.6f}s"
    items = [value] if isinstance(value, numbers.Real) else list(value) if _listed(value) else []
    found = [_plain(item) for item in items]
    if not found or any(_float(v, name, name) is None for v in found):
        return None
    return _OF_NUMBERS[name].join(repr(int(v)) if float(v).is_integer() else repr(float(v)) for v in found)


# Texts of numbers, and what stands between two.
_OF_NUMBERS: Mapping[str, str] = {"budget": "", "lr": ",", "keep": ",", "pairs": ",", "size": "x"}


def _list(value: Any, name: str, shown: str) -> list[str] | None:
    one = _str(value, name, shown)
    if one is not None:
        value = [one]
    if not _listed(value):
        return None
    found = [_str(_plain(item), name, shown) for item in value]
    if any(item is None for item in found):
        return None
    if not found or any(not str(item).strip() for item in found):
        raise DataError(f"{shown} is empty; name one at least, or leave it out")
    return [str(item) for item in found]


def _listed(value: Any) -> bool:
    """Things in an order: a list, a tuple, one axis of an array or a table's column, what a glob yields. Not a text, a set, a dict or a file."""
    if hasattr(value, "ndim"):
        return bool(value.ndim == 1) and isinstance(value, Iterable)
    ordered = isinstance(value, Sequence | Iterator | KeysView | ValuesView)
    return ordered and not isinstance(value, str | bytes | bytearray | memoryview | io.IOBase)


def _path(value: Any, name: str, shown: str) -> Path | None:
    text = _str(value, name, shown)
    return None if text is None else Path(text)


_READ: Mapping[str, Callable[[Any, str, str], Any]] = {
    "bool": _bool, "int": _int, "float": _float, "str": _str, "list[str]": _list, "Sequence[str]": _list, "Path": _path,
}  # fmt: skip
_WORDS = {
    "bool": "True or False", "str": "a text", "list[str]": "{} or a list of them", "Sequence[str]": "{} or a list of them", "Path": "a path",
    "ImageSet": "an ImageSet, as visus.load_images makes it", "Backbone": "a Backbone, as visus.load_backbone makes it",
}  # fmt: skip
# What a text says, where it is more than any text.
_SPECS = {
    "model": "a model's spec or path, as visus:effnet-lite0", "images": "a spec or path of images, as folder:photos",
    "spec": "a spec or path, as visus:effnet-lite0 or folder:photos", "image": "a file, folder or spec of images",
    "device": "auto, cpu, cuda or cuda:N", "out": "a folder's path", "labels": "a file's path", "embeddings": "a file's path",
}  # fmt: skip


def _within(value: float, name: str, shown: str) -> None:
    if name in RANGES and value not in RANGES[name]:
        raise DataError(f"{shown} is {value!r}; give {RANGES[name].words(isinstance(value, int))}")


def _refused(shown: str, value: Any, kinds: list[str], name: str) -> DataError:
    accepted = []
    for kind in kinds:
        if kind in ("int", "float"):
            accepted.append(RANGES.get(name, Range(-math.inf)).words(kind == "int") if name in RANGES else
                            "a whole number" if kind == "int" else "a number")  # fmt: skip
        elif kind != "None":
            text = _SPECS.get(name, "a text")
            accepted.append(text if kind == "str" else _WORDS.get(kind, kind).format(text))
            if kind == "str" and name in _OF_NUMBERS:
                accepted.append("numbers")
    return DataError(f"{shown} is {described(value)}; give {' or '.join(dict.fromkeys(accepted))}")


def described(value: Any) -> str:
    """A value in a few words, never its contents at length: '3.5', 'a list of 2', 'an ndarray of shape [2, 3]', 'a Backbone'."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in "aeiou" or kind == "ndarray" else "a"
    if getattr(value, "shape", None) is not None:
        return f"{article} {kind} of shape {list(value.shape)}"
    if isinstance(value, list | tuple | set | frozenset | dict):
        inside = f", the first {described(next(iter(value)))}" if value and not isinstance(value, dict) else ""
        return f"{article} {kind} of {len(value)}{inside}"
    name = getattr(value, "spec", None)
    return f"{article} {kind}" + (f" ({name})" if isinstance(name, str) else "")
