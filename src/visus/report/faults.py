"""What fails while a page is made costs itself alone: it is named, and everything else stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def attempt(what: str, make: Callable[[], T], faults: list[str]) -> T | None:
    """What `make` returns; None where it raises, and then a line for the page's warnings joins `faults`."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  # matplotlib and data that do not fit raise anything; all of it is said, none is swallowed
        reason = " ".join(str(error).split())[:200] or "no reason given"
        fault = f"{what[0].upper()}{what[1:]} could not be made ({type(error).__name__}: {reason}); its numbers are in result.json."
        if fault not in faults:
            faults.append(fault)
        return None
