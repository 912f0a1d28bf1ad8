"""Progress: library code reports how far it is and what it took for what; whoever runs it decides what to show.

The app shows Rich bars on stderr, and keeps notes and cautions for the page. Stands alone at the root, so that every room may
report and none needs to know a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


class Reporter(Protocol):
    """What shows progress. `total` is None when the length of the work is unknown."""

    def start(self, description: str, total: int | None) -> int: ...
    def advance(self, task: int, steps: int) -> None: ...
    def finish(self, task: int) -> None: ...
    def log(self, message: str) -> None: ...


class Silent:
    """The default reporter: shows nothing."""

    def start(self, description: str, total: int | None) -> int:
        return 0

    def advance(self, task: int, steps: int) -> None:
        return None

    def finish(self, task: int) -> None:
        return None

    def log(self, message: str) -> None:
        return None


_SILENT = Silent()
_reporter: ContextVar[Reporter] = ContextVar("visus_reporter", default=_SILENT)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of everything inside to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def is_reported() -> bool:
    """Whether somebody has said who shows progress (see `reporting`)."""
    return _reporter.get() is not _SILENT


class Task:
    """A piece of work under way; made by `task`."""

    def __init__(self, reporter: Reporter, handle: int) -> None:
        self._reporter, self._handle = reporter, handle

    def advance(self, steps: int = 1) -> None:
        self._reporter.advance(self._handle, steps)


@contextmanager
def task(description: str, total: int | None = None) -> Iterator[Task]:
    """Report a piece of work: `with task("extracting", n) as t: ...; t.advance(64)`. Safe to advance from threads."""
    reporter = _reporter.get()
    handle = reporter.start(description, total)
    try:
        yield Task(reporter, handle)
    finally:
        reporter.finish(handle)


def log(message: str) -> None:
    """One line for the person who waits (a cache hit, a file set aside, a choice made)."""
    _reporter.get().log(message)


@dataclass
class Remarks:
    """What was said while something ran, each once, in order. notes: how the input was read. cautions: what to know before trusting."""

    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)


_remarks: ContextVar[Remarks | None] = ContextVar("visus_remarks", default=None)


@contextmanager
def collecting() -> Iterator[Remarks]:
    """Keep what `note` and `caution` say inside; the doors put it on the page. Of nested blocks the innermost keeps it."""
    remarks = Remarks()
    token = _remarks.set(remarks)
    try:
        yield remarks
    finally:
        _remarks.reset(token)


def note(message: str) -> None:
    """Say what something was taken for (a column for labels, a folder for a split, a layer's name): logged, and kept for the page.

    Call it from the thread that runs the study: a worker thread knows neither the reporter nor what is kept.
    """
    remarks = _remarks.get()
    _say(message, None if remarks is None else remarks.notes)


def caution(message: str) -> None:
    """Say what a reader must know before trusting a number: logged, and kept for the page's warnings. From the study's thread, as `note`."""
    remarks = _remarks.get()
    _say(message, None if remarks is None else remarks.cautions)


def _say(message: str, kept: list[str] | None) -> None:
    if kept is None:
        log(message)
    elif message not in kept:
        kept.append(message)
        log(message)
