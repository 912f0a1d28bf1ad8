"""Two results side by side: text and structure alike, numbers within a tolerance, or to the last digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

RELATIVE, ABSOLUTE = 1e-4, 1e-6
# A number or a hash in a sentence; "early (layer1)" keeps its 1.
NUMBER = re.compile(r"(?<![\w.])[+−-]?(\d[\d.,]*(e[+-]?\d+)?)(?!\w)|\b[0-9a-f]{24,}\b")
# Embeddings in two dimensions turn with the last bit of the features: what is measured on them, and where they lie.
UNSTABLE = ("trust", "trustworthiness", "neighbours_kept")


def differences(expected: Any, found: Any, *, exact: bool) -> list[str]:
    """Where the two differ, a line each: the path and both values; an empty list where nowhere."""
    maps = frozenset() if exact else frozenset(_points(expected))
    return list(_different(expected, found, "", exact, maps))


def _points(value: Any) -> Iterator[str]:
    """Names of arrays that hold the points of maps."""
    if isinstance(value, dict):
        if isinstance(value.get("points"), str):
            yield value["points"]
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from _points(v)


def _different(a: Any, b: Any, at: str, exact: bool, maps: frozenset[str]) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            yield f"{at}: keys {list(a)} against {list(b)}"
        for k in (k for k in a if k in b):
            if not exact and (k in UNSTABLE or (k in ("mean", "std") and at.rpartition("/")[2] in maps)):
                continue
            yield from _different(a[k], b[k], f"{at}/{k}", exact, maps)
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{at}: {len(a)} against {len(b)} entries"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from _different(x, y, f"{at}/{i}", exact, maps)
    elif not same(a, b, exact=exact):
        yield f"{at}: {a!r} against {b!r}"


def same(a: Any, b: Any, *, exact: bool) -> bool:
    """Whether two cells are alike: True is not 1, sentences are compared without their numbers unless exactly."""
    if _number(a) and _number(b):
        return a == b if exact else abs(a - b) <= max(ABSOLUTE, RELATIVE * max(abs(a), abs(b)))
    if isinstance(a, str) and isinstance(b, str) and not exact:
        return NUMBER.sub("#", a) == NUMBER.sub("#", b)
    return type(a) is type(b) and a == b


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
