"""Downloads: with checksum, resumed where they were cut off, with a progress bar, and never hanging without a network."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from filelock import FileLock

from visus.errors import OfflineError, StoreError
from visus.progress import log, task

ANSWER_SECONDS = 4.0  # all mirrors together must have answered by then (name lookup included)
READ_SECONDS = 30.0  # the longest silence in the midst of a download
_BLOCK = 1 << 18
_LOST = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Remote:
    """A file to fetch. name: as it is kept. md5: hex, of the whole file. urls: mirrors, in the order they are tried."""

    name: str
    md5: str
    urls: tuple[str, ...]


def fetch(remote: Remote, folder: Path) -> Path:
    """Download one file into `folder`; returns its path. What is there already is kept; a part is resumed (HTTP Range).

    Two processes take turns. Raises OfflineError, in under 5 s when nothing answers, with what to fetch by hand and where to
    put it; StoreError when the folder cannot be written, or when what came has the wrong checksum (it is then removed).
    """
    target = folder / remote.name
    part = folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{remote.name}.lock"):
            if target.exists():
                return target
            _download(remote, part, target)
            if (md5 := _md5(part)) != remote.md5:
                part.unlink()
                raise StoreError(
                    f"{remote.name} came with the wrong checksum ({md5}, not {remote.md5}) and was removed; run the command again"
                )
            part.replace(target)
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}; free some space or set VISUS_HOME"
        ) from error
    return target


def by_hand(remotes: Sequence[Remote], folder: Path) -> str:
    """What to fetch and where to put it, for an error's message."""
    return f"put {', '.join(r.urls[0] for r in remotes)} into {folder}"


def _download(remote: Remote, part: Path, target: Path) -> None:
    reasons = []
    for url in remote.urls:
        have = part.stat().st_size if part.exists() else 0
        answer = _ask(url, have, ANSWER_SECONDS / len(remote.urls))
        if isinstance(answer, Exception):
            if isinstance(answer, urllib.error.HTTPError) and answer.code == 416 and have:
                return  # nothing is left to fetch; the checksum will tell whether it is right
            reasons.append(_why(answer))
            continue
        resumed = have > 0 and answer.status == 206
        if resumed:
            log(f"resuming {remote.name} at {have / 1e6:.1f} MB")
        cut = _receive(answer, part, remote.name, append=resumed)
        if cut is None:
            return
        reasons.append(cut)
    raise OfflineError(
        f"cannot download {remote.name} ({'; '.join(dict.fromkeys(reasons))}); try again to resume, or "
        f"{by_hand([remote], target.parent)}"
    )


def _ask(url: str, have: int, seconds: float) -> Any:
    """The open answer, or the exception that came instead; after `seconds` a TimeoutError, even while a name is looked up."""
    box: Queue[Any] = Queue()

    def ask() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "visus", "Accept-Encoding": "identity"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            box.put(urllib.request.urlopen(request, timeout=seconds))
        except _LOST as error:
            box.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        return box.get(timeout=seconds)
    except Empty:
        return TimeoutError("no answer")


def _receive(answer: Any, part: Path, name: str, *, append: bool) -> str | None:
    """Write the answer's body to `part`; None when it is whole, else why it is not (what came is kept)."""
    left = answer.headers.get("Content-Length")
    total = int(left) if left and left.isdigit() else None
    came = 0
    sock = getattr(getattr(getattr(answer, "fp", None), "raw", None), "_sock", None)
    if sock is not None:
        sock.settimeout(READ_SECONDS)
    with answer, part.open("ab" if append else "wb") as file, task(f"downloading {name}", total) as t:
        while True:
            try:
                block = answer.read(_BLOCK)
            except _LOST as error:
                return _why(error)
            if not block:
                break
            file.write(block)
            came += len(block)
            t.advance(len(block))
    return None if total is None or came == total else f"the connection broke off after {came / 1e6:.1f} MB"


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    return str(getattr(reason, "strerror", None) or reason) or type(error).__name__


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def reachable(url: str) -> str | None:
    """None when something answers at `url` within ANSWER_SECONDS (any answer counts), else why not, in a few words."""
    answer = _ask(url, 0, ANSWER_SECONDS)
    if isinstance(answer, urllib.error.HTTPError):
        return None
    if isinstance(answer, Exception):
        return _why(answer)
    answer.close()
    return None
