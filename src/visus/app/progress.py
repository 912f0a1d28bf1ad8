"""Progress: Rich bars in a terminal, one line in a notebook's cell, a line now and then on stderr elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from visus.app.streams import console
from visus.progress import is_reported, reporting

QUIET_SECONDS = 10.0
NOTEBOOK_SECONDS = 0.25


class Bars:
    """Rich bars on stderr."""

    def __init__(self) -> None:
        # Not at the top: whoever asks for help, or works in a notebook, draws no bars.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console(stderr=True), transient=True)

    def start(self, description: str, total: int | None) -> int:
        return int(self.progress.add_task(description, total=total))

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
        if sys.stderr is None:
            return
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # its reader has gone, or it was closed: the work goes on
            return


class Notebook:
    """One line in the output of a notebook's cell, written over as the work goes on."""

    def __init__(self) -> None:
        from IPython.display import display  # where this runs, a kernel has it

        self._lock = threading.Lock()
        self._tasks: dict[int, tuple[str, int | None, int, float]] = {}
        self._count, self._shown, self._start = 0, 0.0, time.monotonic()
        self._handle = display({"text/plain": "visus ..."}, raw=True, display_id=True)

    def start(self, description: str, total: int | None) -> int:
        with self._lock:
            self._count += 1
            self._tasks[self._count] = (description, total, 0, time.monotonic())
            handle = self._count
        self._draw()
        return handle

    def advance(self, task: int, steps: int) -> None:
        with self._lock:
            description, total, done, since = self._tasks[task]
            self._tasks[task] = (description, total, done + steps, since)
        self._draw(every=NOTEBOOK_SECONDS)

    def finish(self, task: int) -> None:
        with self._lock:
            self._tasks.pop(task, None)

    def log(self, message: str) -> None:
        self._draw(message, every=NOTEBOOK_SECONDS)

    def end(self, text: str) -> None:
        """The line that stays."""
        self._show(f"{text}, {time.monotonic() - self._start:.0f} s")

    def _draw(self, message: str = "", *, every: float = 0.0) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._shown < every:
                return
            self._shown = now
            line = " · ".join(_line(*task, now) for task in self._tasks.values())
        self._show(" · ".join(part for part in (line, message) if part) or "visus ...")

    def _show(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)


def _line(description: str, total: int | None, done: int, since: float, now: float) -> str:
    """'encoding images 120/400, 12 s left'."""
    if total is None:
        return f"{description} {done:,}" if done else f"{description} ..."
    left = f", {(now - since) * (total - done) / done:.0f} s left" if 0 < done < total else ""
    return f"{description} {done:,}/{total:,}{left}"


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this (Jupyter, VS Code, Colab), found without importing IPython."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = find() if find is not None else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def in_terminal() -> bool:
    """Whether stderr is a terminal that can draw over its own lines."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


@contextmanager
def on_stderr() -> Iterator[None]:
    """Show the progress of the block on stderr."""
    if not in_terminal():
        with reporting(Lines()):
            yield
        return
    bars = Bars()
    with bars.progress, reporting(bars):
        yield


@contextmanager
def where_watched(name: str) -> Iterator[None]:
    """Show the progress of a study called from Python where somebody watches: in a notebook's cell or a terminal.

    Nothing is shown in a script whose output goes elsewhere, nor where the caller has said who reports (`visus.progress.reporting`).
    """
    if is_reported():
        yield
    elif in_notebook():
        line = Notebook()
        with reporting(line):
            try:
                yield
            except BaseException:
                line.end(f"visus {name} stopped")
                raise
        line.end(f"visus {name} finished")
    elif in_terminal():
        with on_stderr():
            yield
    else:
        yield
