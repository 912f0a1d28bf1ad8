"""What one of several processes runs: python -m visus.training.rank FOLDER RANK, started by processes.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

from visus.errors import VisusError
from visus.progress import collecting, reporting
from visus.training.exchange import TROUBLE

FAILED = 1


def main(folder: Path, rank: int) -> int:
    """Load the work of `folder`, meet the others, do it; the exit code."""
    try:
        with collecting() as remarks, reporting(JsonReporter(_channel() if rank == 0 else None, remarks)):
            # Only now: what a library prints as it is imported must not stand among the reports, and where it fails the others are told.
            from visus.training.worker import work_of

            work_of(folder, rank)
        return 0
    except BaseException as error:  # noqa: BLE001 - the end of a process: whatever it is, the first process tells it
        kind = type(error)
        ours = isinstance(error, VisusError)
        lines = str(error).strip().splitlines() or [""]
        body = {
            "rank": rank,
            "module": kind.__module__ if ours else "",
            "kind": kind.__name__,
            "message": str(error) if ours else lines[0][:200],
            "at": time.time_ns(),
        }
        file = folder / f"{TROUBLE}-{rank}"
        file.write_text(json.dumps(body), "utf-8")
        file.rename(f"{file}.json")
        traceback.print_exc()
        return FAILED


class JsonReporter:
    """A reporter that writes what it hears as JSON, a line each, where there is somebody to read it."""

    def __init__(self, channel: IO[str] | None, remarks: Any) -> None:
        self._channel, self._remarks = channel, remarks
        self._lock, self._tasks = threading.Lock(), 0

    def start(self, description: str, total: int | None) -> int:
        with self._lock:
            self._tasks += 1
            handle = self._tasks
        self._say("start", handle, description, total)
        return handle

    def advance(self, task: int, steps: int) -> None:
        self._say("advance", task, steps)

    def finish(self, task: int) -> None:
        self._say("finish", task)

    def log(self, message: str) -> None:
        kind = "note" if message in self._remarks.notes else "caution" if message in self._remarks.cautions else "log"
        self._say(kind, message)

    def _say(self, *parts: object) -> None:
        if self._channel is not None:
            with self._lock:
                self._channel.write(json.dumps(parts) + "\n")
                self._channel.flush()


def _channel() -> IO[str]:
    """Standard output for reports alone; whatever a library prints goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(FAILED)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one
    threading.Thread(target=_end_with_parent, name="visus-parent", daemon=True).start()
    if sys.platform == "linux":
        # All processes are on this machine: by the name of its network card they would not meet where that name is unknown.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a collective that hangs in a thread must not keep the process
