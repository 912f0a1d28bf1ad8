"""Progress on stderr: Rich bars in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from visus.progress import Reporter, reporting

QUIET_SECONDS = 10.0


class Bars:
    """Rich bars on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def start(self, description: str, total: int | None) -> int:
        from rich.markup import escape

        return int(self.progress.add_task(escape(description), total=total))

    def advance(self, task: int, steps: int) -> None:
        self.progress.advance(task, steps)  # type: ignore[arg-type]

    def finish(self, task: int) -> None:
        self.progress.remove_task(task)  # type: ignore[arg-type]

    def log(self, message: str) -> None:
        self.progress.console.print(message, markup=False, highlight=False)


class Lines:
    """Plain lines on stderr, at most one every ten seconds for a task: for logs and pipes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[int, list[float]] = {}
        self._names: dict[int, tuple[str, int | None]] = {}

    def start(self, description: str, total: int | None) -> int:
        with self._lock:
            handle = len(self._names)
            self._names[handle] = (description, total)
            self._tasks[handle] = [0.0, time.monotonic()]
        self.log(f"{description} ..." if total is None else f"{description} (0/{total:,}) ...")
        return handle

    def advance(self, task: int, steps: int) -> None:
        with self._lock:
            state = self._tasks[task]
            state[0] += steps
            due = time.monotonic() - state[1] >= QUIET_SECONDS
            if due:
                state[1] = time.monotonic()
            done = int(state[0])
        if due:
            description, total = self._names[task]
            self.log(f"{description} ({done:,}{'' if total is None else f'/{total:,}'})")

    def finish(self, task: int) -> None:
        return None

    def log(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def on_stderr() -> Iterator[None]:
    """Show the progress of the block on stderr."""
    if not sys.stderr.isatty():
        reporter: Reporter = Lines()
        with reporting(reporter):
            yield
        return
    bars = Bars()
    with bars.progress, reporting(bars):
        yield
