"""What must be fetched: looked for in the local caches first, fetched only with permission, and never a hang without a network."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from visus.errors import OfflineError
from visus.paths import atomic_path

LONGEST = 400  # characters of a library's message that are passed on
PATIENCE = 3.0  # seconds for one connection; every offline answer must come within 5 s


def reachable(url: str, patience: float = PATIENCE) -> bool:
    """Whether the host of `url` (or the proxy that leads to it) accepts a connection within `patience` seconds.

    Name look-up has no timeout of its own, hence the thread.
    """
    target = urlparse(url)
    proxy = getproxies().get(target.scheme)
    if proxy:
        target = urlparse(proxy if "://" in proxy else f"http://{proxy}")
    answered: list[bool] = []

    def knock() -> None:
        try:
            port = target.port or (443 if target.scheme == "https" else 80)
            with socket.create_connection((target.hostname or "", port), timeout=patience):
                answered.append(True)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: sockets are switched off (tests, sandboxes)
            return

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(patience)
    return bool(answered)


def hub_url() -> str:
    """The Hugging Face endpoint in use."""
    return str(constants.ENDPOINT)


def allow(what: str, url: str, *, download: bool, place: str) -> None:
    """Return when `what` may and can be fetched from `url`; else raise OfflineError saying where to put it by hand."""
    if not download:
        raise OfflineError(f"{what} is not on this machine; add --download to fetch it, or put it {place}")
    if url == hub_url() and _hub_switched_off():
        raise OfflineError(f"{what} is not on this machine and HF_HUB_OFFLINE is set; unset it, or put it {place}")
    if not reachable(url):
        raise OfflineError(
            f"{what} must be fetched from {urlparse(url).hostname}, which cannot be reached; connect, or put it {place}"
        )


def _hub_switched_off() -> bool:
    return bool(constants.HF_HUB_OFFLINE)


def hub_cache() -> Path:
    """The folder of Hugging Face's cache."""
    return Path(constants.HF_HUB_CACHE)


def hub_file(repo: str, names: Sequence[str], *, download: bool, revision: str | None = None) -> Path:
    """The first of the files `names` of a Hugging Face repository, from the local cache or, with permission, the hub.

    Raises OfflineError when it is in neither.
    """
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    place = f"into the Hugging Face cache ({hub_cache()}), or give the path of a checkpoint folder instead"
    what = f"{names[0]} of {repo} (Hugging Face)"
    allow(what, hub_url(), download=download, place=place)
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=PATIENCE))
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise OfflineError(f"{what} could not be fetched: {first_line(error)}; put it {place}") from error
    raise OfflineError(f"{repo} holds none of {', '.join(names)}; put the weights {place}")


def url_file(url: str, folder: Path, *, download: bool) -> Path:
    """The file that `url` names, in `folder` or, with permission, fetched into it. Raises OfflineError."""
    target = folder / os.path.basename(urlparse(url).path)
    if target.is_file():
        return target
    allow(f"{target.name} ({url})", url, download=download, place=f"at {target}")
    digest = target.stem.rpartition("-")[2]  # torch's file names end in the first eight digits of their SHA-256
    prefix = digest if len(digest) == 8 and set(digest) <= set("0123456789abcdef") else None
    try:
        with atomic_path(target) as temporary:
            torch.hub.download_url_to_file(url, str(temporary), hash_prefix=prefix, progress=False)
    except (URLError, RuntimeError) as error:
        raise OfflineError(f"{url} could not be fetched: {first_line(error)}; put it at {target}") from error
    return target


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut where it goes on and on, for a message of one line."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
