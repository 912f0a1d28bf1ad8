"""Two results side by side: text and structure alike, numbers within a tolerance, or to the last digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RELATIVE, ABSOLUTE = 1e-4, 1e-6
# Fits of few pairs in many dimensions, p-values by permutation and a share of 20 images move further than that on another processor
# (up to 3.2 % of a run's numbers where all libraries were held to the instructions of 2008; no text and no shape changed).
STRAY = 0.05
# A number or a hash in a sentence; "early (layer1)" keeps its 1.
NUMBER = re.compile(r"(?<![\w.])[+−-]?(\d[\d.,]*(e[+-]?\d+)?)(?!\w)|\b[0-9a-f]{24,}\b")
# Embeddings in two dimensions turn with the last bit of the features: what is measured on them, and where they lie.
UNSTABLE = ("trust", "trustworthiness", "neighbours_kept")


@dataclass(frozen=True)
class Apart:
    """What differs between two results: lines of text and structure, and of numbers; n: how many numbers there are."""

    shape: list[str]
    numbers: list[str]
    n: int

    @property
    def lines(self) -> list[str]:
        return [*self.shape, *self.numbers]

    def bad(self, *, exact: bool) -> bool:
        return bool(self.shape) or len(self.numbers) > (0 if exact else STRAY * self.n)


def differences(expected: Any, found: Any, *, exact: bool) -> Apart:
    """Where the two differ, a line each: the path and both values."""
    maps = frozenset() if exact else frozenset(_points(expected))
    shape: list[str] = []
    numbers: list[str] = []
    for line, of_numbers in _different(expected, found, "", exact, maps):
        (numbers if of_numbers else shape).append(line)
    return Apart(shape, numbers, sum(1 for _ in _numbers(expected)))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from _numbers(v)
    elif _number(value):
        yield value


def _points(value: Any) -> Iterator[str]:
    """Names of arrays that hold the points of maps."""
    if isinstance(value, dict):
        if isinstance(value.get("points"), str):
            yield value["points"]
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from _points(v)


def _different(a: Any, b: Any, at: str, exact: bool, maps: frozenset[str]) -> Iterator[tuple[str, bool]]:
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            yield f"{at}: keys {list(a)} against {list(b)}", False
        for k in (k for k in a if k in b):
            if not exact and (k in UNSTABLE or (k in ("mean", "std") and at.rpartition("/")[2] in maps)):
                continue
            yield from _different(a[k], b[k], f"{at}/{k}", exact, maps)
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{at}: {len(a)} against {len(b)} entries", False
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from _different(x, y, f"{at}/{i}", exact, maps)
    elif not same(a, b, exact=exact):
        yield f"{at}: {a!r} against {b!r}", _number(a) and _number(b)


def same(a: Any, b: Any, *, exact: bool) -> bool:
    """Whether two cells are alike: True is not 1, sentences are compared without their numbers unless exactly."""
    if _number(a) and _number(b):
        return a == b if exact else abs(a - b) <= max(ABSOLUTE, RELATIVE * max(abs(a), abs(b)))
    if isinstance(a, str) and isinstance(b, str) and not exact:
        return NUMBER.sub("#", a) == NUMBER.sub("#", b)
    return type(a) is type(b) and a == b


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
