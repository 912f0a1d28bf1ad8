"""Progress: library code reports how far it is; whoever runs it decides what to show (the app shows Rich bars on stderr).

Stands alone at the root, so that every room may report and none needs to know a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
