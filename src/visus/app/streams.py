"""stdout and stderr of the command line: they take any text, and a reader that has gone stops nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from visus.plain import HANDLER

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST = 8  # columns: of COLUMNS=0 or 1 Rich prints nothing


def prepare() -> None:
    """Make stdout and stderr take any text, whatever their encoding; a closed one becomes a sink."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as by >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors=HANDLER))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def console(*, stderr: bool = False) -> Console:
    """A Rich console on stdout or stderr; of a terminal that says it has no width, one of 80 columns."""
    from rich.console import Console  # 80 ms that help does without

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """Rich would end the process with 1; whoever prints decides."""
            raise BrokenPipeError

    made = Patient(stderr=stderr)
    return made if made.width >= NARROWEST else Patient(stderr=stderr, width=80)


def last_words(text: str) -> None:
    """One line on stderr, if anybody can hear it."""
    try:
        sys.stderr.write(f"visus: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # closed, or on a full disk
        sys.stderr = open(os.devnull, "w", encoding="utf-8", errors=HANDLER)  # noqa: SIM115


def abandon() -> None:
    """Send the rest of stdout nowhere: its reader has gone, and flushing at exit would complain."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, number)
    os.close(sink)
