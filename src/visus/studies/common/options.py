"""What arguments of the command line hold: lists by commas, one word of several, which images. Light: help imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from visus.errors import SpecError
from visus.spec import unknown

T = TypeVar("T")


@dataclass(frozen=True)
class ImageOptions:
    """Which images, and what is known of them, as of `visus.load_images`. limit: at most so many."""

    spec: str
    labels: str | None = None
    label_column: str | None = None
    groups: str | None = None
    limit: int | None = None


def split_commas(given: str | Sequence[str] | None) -> list[str]:
    """The words of a repeatable argument, each of which may hold several by commas: ['a,b', 'c'] -> ['a', 'b', 'c']; None gives none."""
    texts = [given] if isinstance(given, str) else given or ()
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def split_numbers(given: str | Sequence[str] | None, kind: Callable[[str], T], *, wrong: str) -> list[T]:
    """The same as numbers. Raises SpecError with the line `wrong` where a part is none."""
    try:
        return [kind(part) for part in split_commas(given)]
    except ValueError as error:
        raise SpecError(wrong) from error


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise SpecError when an argument is none of the known words."""
    if value not in known:
        raise unknown(f"--{name}", value, known)
