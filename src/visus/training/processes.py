"""One training in one process or several: all get the same work, the first one's progress is shown, and none outlives the others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import cloudpickle
import torch

from visus import paths
from visus.errors import StoreError, VisusError
from visus.progress import Task, caution, log, note, task
from visus.training.devices import Devices, repeatable
from visus.training.exchange import LOADED, TROUBLE, WORK

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WAIT = 600.0  # seconds that a process waits for the others in anything they do together
LOOK_EVERY = 0.1
GRACE = 3.0  # seconds between asking a process to end and ending it


class ProcessError(VisusError):
    """One of several training processes ended before its time; the message says which, and how."""


def with_fabric(work: Callable[[Fabric], None], devices: Devices) -> None:
    """Run `work` in one process a device: here when there is one, else in processes that leave their results in files."""
    if devices.count == 1:
        with repeatable(devices.kind):
            work(devices.fabric())
    else:
        spread(work, devices)


def spread(work: Callable[[Fabric], None], devices: Devices) -> None:
    """Run `work` in `devices.count` processes of their own, each on its device, and wait for all.

    work: sent as bytes, its arrays as files that the processes share. Progress and remarks of the first process appear here. When a
    process fails or is killed, or this one is interrupted, all end. Raises what the process raised if it is a VisusError, else
    ProcessError.
    """
    root = paths.home() / "training"
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".processes-", dir=root))
    except OSError as error:
        raise StoreError(f"cannot write in {root}: {error.strerror}; free some space or set VISUS_HOME") from error
    children: list[subprocess.Popen[bytes]] = []
    try:
        pack(work, devices, folder)
        children += [_start(folder, rank) for rank in range(devices.count)]
        _watch(children, folder)
    finally:
        _end(children)
        shutil.rmtree(folder, ignore_errors=True)


def pack(work: Callable[[Fabric], None], devices: Devices, folder: Path) -> None:
    """Write the work to `folder`: its code and small things in one file, every large array in one of its own. Raises StoreError."""
    buffers: list[Any] = []
    try:
        body = cloudpickle.dumps((work, devices, torch.get_num_threads(), WAIT), 5, buffer_callback=buffers.append)
    except (TypeError, AttributeError, ValueError) as error:
        raise ProcessError(
            f"this training cannot be sent to other processes ({str(error)[:160]}); write --devices 1"
        ) from error
    try:
        for k, buffer in enumerate(buffers):
            (folder / f"array-{k}").write_bytes(buffer.raw())
        (folder / WORK).write_bytes(body)
    except OSError as error:
        raise StoreError(f"cannot write in {folder}: {error.strerror}; free some space or set VISUS_HOME") from error


def _start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    # Not multiprocessing: it imports the main script again, which notebooks and scripts without a main guard do not survive.
    search = os.pathsep.join(p for p in sys.path if p)
    with (folder / f"stderr-{rank}").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "visus.training.rank", str(folder), str(rank)],
            stdin=subprocess.PIPE,  # it ends when this end is closed, by whatever ends this process
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": search},
        )


def _watch(children: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """Show what the first process says until all have ended well. Raises what went wrong."""
    said: SimpleQueue[bytes] = SimpleQueue()
    stream: Any = children[0].stdout

    def listen() -> None:
        for line in stream:
            said.put(line)

    Thread(target=listen, name="visus-listen", daemon=True).start()
    show = _Relay()
    try:
        while True:
            codes = [child.poll() for child in children]
            _drain(said, show, wait=LOOK_EVERY)
            if len(list(folder.glob(f"{LOADED}-*"))) == len(children):
                for array in folder.glob("array-*"):
                    array.unlink()  # mapped by then; nothing is left behind if this process is killed
            if any(codes):
                _settle(children)
                raise _cause(children, folder)
            if all(code == 0 for code in codes):
                _drain(said, show, wait=LOOK_EVERY)
                return
    finally:
        show.close()


def _drain(said: SimpleQueue[bytes], show: _Relay, *, wait: float) -> None:
    try:
        show(said.get(timeout=wait))
        while True:
            show(said.get_nowait())
    except Empty:
        return


class _Relay:
    """The first process's progress, as this process's own."""

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[AbstractContextManager[Task], Task]] = {}

    def __call__(self, line: bytes) -> None:
        kind, *rest = json.loads(line)
        if kind == "start":
            block = task(rest[1], rest[2])
            self._tasks[rest[0]] = (block, block.__enter__())
        elif kind == "advance":
            self._tasks[rest[0]][1].advance(rest[1])
        elif kind == "finish":
            self._tasks.pop(rest[0])[0].__exit__(None, None, None)
        else:
            {"log": log, "note": note, "caution": caution}[kind](rest[0])

    def close(self) -> None:
        for block, _ in self._tasks.values():
            block.__exit__(None, None, None)
        self._tasks.clear()


def _settle(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let the others notice: whoever failed first has written why, and the rest end by themselves or are ended."""
    end = time.monotonic() + GRACE
    while time.monotonic() < end and any(child.poll() is None for child in children):
        time.sleep(LOOK_EVERY)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what still runs, and wait for it: neither a process nor a zombie stays."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    end = time.monotonic() + GRACE
    for child in children:
        try:
            child.wait(max(end - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _cause(children: Sequence[subprocess.Popen[bytes]], folder: Path) -> VisusError:
    """What ended it: a user's error, a kill, an end without a word, the earliest of other errors; the rest is their echo."""
    n = len(children)
    told = sorted((json.loads(f.read_text("utf-8")) for f in folder.glob(f"{TROUBLE}-*.json")), key=lambda t: t["at"])
    for trouble in told:
        if trouble["module"]:
            kind: type[VisusError] = getattr(import_module(trouble["module"]), trouble["kind"], ProcessError)
            return kind(trouble["message"])
    for rank, child in enumerate(children):
        code = child.returncode
        if code is not None and code < 0:
            why = " (often for lack of memory)" if -code == signal.SIGKILL else ""
            return ProcessError(
                f"process {rank + 1} of {n} was ended by {signal.Signals(-code).name}{why}; the others were stopped, what was finished is "
                "kept: run the same command again, or with fewer --devices"
            )
    for rank, child in enumerate(children):
        if child.returncode and not any(t["rank"] == rank for t in told):
            lines = (folder / f"stderr-{rank}").read_text("utf-8", "replace").strip().splitlines() or [
                "it said nothing"
            ]
            return ProcessError(
                f"process {rank + 1} of {n} ended with code {child.returncode}: {lines[-1][:200]}; the others were stopped"
            )
    first = told[0]
    return ProcessError(
        f"process {first['rank'] + 1} of {n} failed with {first['kind']}: {first['message']}; the others were stopped; "
        "the same command with --devices 1 says more"
    )
