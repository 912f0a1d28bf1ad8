"""Downloads against a server of our own on 127.0.0.1: resumed, checked, and quick to say that nothing answers."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from visus.errors import OfflineError, StoreError
from visus.images import download, known, load_images
from visus.images.download import Remote, fetch, reachable

DATA = np.random.default_rng(0).bytes(1_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; cuts the connection after `cut` bytes; remembers the ranges asked for."""

    daemon_threads = True
    files: dict[str, bytes]
    cut: int | None = None
    ranges: list[str | None]
    honours_range = True


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(asked[6:-1]) if asked and self.server.honours_range else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = len(data) if self.server.cut is None else start + self.server.cut
        self.wfile.write(data[start:stop])

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files, running.ranges = {"/file": DATA}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, **changes: str) -> Remote:
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    return replace(Remote("file", md5, (f"http://127.0.0.1:{server.server_port}/file",)), **changes)  # type: ignore[arg-type]


def test_fetched_once(server: Server, tmp_path: Path) -> None:
    assert fetch(remote(server), tmp_path / "new").read_bytes() == DATA
    assert fetch(remote(server), tmp_path / "new").read_bytes() == DATA
    assert server.ranges == [None]


@pytest.mark.parametrize("honours_range", [True, False])
def test_resumed_where_it_broke_off(server: Server, tmp_path: Path, honours_range: bool) -> None:
    server.cut, server.honours_range = 400_000, honours_range
    with pytest.raises(OfflineError, match=r"broke off.*try again to resume"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "file.part").stat().st_size == 400_000
    server.cut = None
    assert fetch(remote(server), tmp_path).read_bytes() == DATA
    assert server.ranges == [None, "bytes=400000-"]
    assert not (tmp_path / "file.part").exists()


def test_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    assert fetch(remote(server), tmp_path).read_bytes() == DATA


def test_wrong_checksum_is_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="wrong checksum"):
        fetch(remote(server, md5="0" * 32), tmp_path)
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()


def test_second_mirror(server: Server, tmp_path: Path) -> None:
    here = remote(server)
    twice = replace(here, urls=(here.urls[0] + "-gone", here.urls[0]))
    assert fetch(twice, tmp_path).read_bytes() == DATA
    with pytest.raises(OfflineError, match="the server answered 404"):
        fetch(replace(here, name="other", urls=(here.urls[0] + "-gone",)), tmp_path)


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_refused_connection(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(OfflineError, match=r"cannot download f .*refused.* put http://127.0.0.1") as caught:
        fetch(Remote("f", "0", (f"http://127.0.0.1:{closed_port()}/f",)), tmp_path)
    assert time.monotonic() - start < 5
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.ANSWER_SECONDS < 5
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/f"
        start = time.monotonic()
        with pytest.raises(OfflineError):
            fetch(Remote("f", "0", (url, url)), tmp_path)
        assert reachable(url)
        assert time.monotonic() - start < 3


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        fetch(remote(server), tmp_path / "blocked")


def test_a_known_set_is_downloaded_when_allowed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    remotes = []
    for split, n in (("train", 3), ("t10k", 2)):
        for name, body in (
            (f"{split}-images-idx3-ubyte.gz", struct.pack(">IIII", 0x803, n, 28, 28) + bytes(784 * n)),
            (f"{split}-labels-idx1-ubyte.gz", struct.pack(">II", 0x801, n) + bytes(range(n))),
        ):
            data = server.files[f"/{name}"] = gzip.compress(body)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            remotes.append(Remote(name, md5, (f"http://127.0.0.1:{server.server_port}/{name}",)))
    monkeypatch.setitem(known.KNOWN, "mnist", replace(known.KNOWN["mnist"], remotes=tuple(remotes)))
    with pytest.raises(OfflineError):
        load_images("mnist")
    assert server.ranges == []
    images = load_images("mnist", download=True)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert len(load_images("mnist")) == 5
    assert len(server.ranges) == 4
