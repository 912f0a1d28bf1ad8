"""Terminals of any encoding and width, pipes that close, streams that are not there; and progress where somebody watches."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from visus.app.api import door
from visus.app.progress import Bars, Lines, in_notebook, in_terminal, where_watched
from visus.plain import plain
from visus.progress import Silent, log, reporting, task
from visus.result import Result

# The real entry point with a study that has every sign of ours, names in other scripts and undecodable bytes, and takes no time.
PROGRAM = """
import sys
from visus.app import cli
from visus.errors import DataError
from visus.progress import log, task
from visus.result import Column, Finding, Result, Section, Table
def door(**arguments):
    if "--refuse" in sys.argv:
        raise DataError("there is no file none.npz; check the path")
    with task("reading • caf\\u00e9/\\udcff.png", 3) as t:
        t.advance(3)
    log("labels: column „dx“ — 987 of 1,000 ± 2 \\udcff")
    columns = (Column("name", "name"), Column("share", "≥ 95", "share"))
    table = Table(key="a", title="Accuracy – by class", columns=columns, rows=(("na\\u00efve \\u732b \\udce9", 0.015), ("x", None)))
    findings = (Finding("90 % ± 2 → \\U0001f431"), Finding("caf\\u00e9 \\udcff.png"), Finding("c …", kind="caution"))
    section = Section(key="s", title="?", source="visus.studies.s", findings=findings, tables=(table,))
    return Result(study="s", title="t • \\u043a\\u043e\\u0448\\u043a\\u0430", sections=(section,), warnings=("w …",), provenance={"seed": 1})
cli.app = lambda **_: cli.execute(door, as_json="--json" in sys.argv, arguments={"out": "out"})
cli.main()
""".encode("ascii", "backslashreplace").decode()  # a source that every locale reads
ENVIRONMENTS = {
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "narrow": {"COLUMNS": "12", "PYTHONIOENCODING": "ascii"},
    "no width": {"COLUMNS": "0", "LINES": "none"},
    "dumb": {"TERM": "dumb", "NO_COLOR": "1"},
}


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    base = {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "LC_ALL", "LANG", "COLUMNS", "TERM")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, env={**base, **environment}, capture_output=True, check=False)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_encoding_width_or_terminal_crashes(name: str) -> None:
    done = run(environment=ENVIRONMENTS[name])
    assert done.returncode == 0, done.stderr.decode("latin-1")
    assert b"Traceback" not in done.stderr
    said = done.stdout.replace(b"\n", b" ")
    assert b"the page:" in said
    assert b"90" in said
    assert b"labels: column" in done.stderr.replace(b"\n", b" ")
    if "ascii" in name or name == "POSIX":
        done.stdout.decode("ascii")
        done.stderr.decode("ascii")
        assert name != "ascii" or (b"* 90 % +- 2 -> \\U0001f431" in said and b"\\xe9" in said)
    if name == "utf-8":
        said = done.stdout.decode("utf-8")
        assert "• 90 % ± 2 → 🐱" in said
        assert "! w …" in said
        assert "! c …" in said
        assert "≥ 95, %" in said
        assert "│ 1.5" in said


@pytest.mark.parametrize("name", ["ascii", "POSIX"])
def test_json_is_ascii_and_nothing_else_is_on_stdout(name: str) -> None:
    done = run("--json", environment=ENVIRONMENTS[name])
    assert done.returncode == 0
    body = json.loads(done.stdout.decode("ascii"))
    assert body["title"] == "t • кошка"
    assert [f["text"] for f in body["sections"][0]["findings"]] == ["90 % ± 2 → 🐱", "café \\udcff.png", "c …"]


def test_a_reader_that_goes_or_a_stream_that_is_closed_stops_nothing() -> None:
    shell = f'"{sys.executable}" -c "$PROGRAM"'
    environment = {**os.environ, "PROGRAM": PROGRAM}

    def sh(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], env=environment, capture_output=True, text=True, check=False
        )

    gone = sh(f"{shell} | true")
    assert gone.returncode == 0, gone.stderr
    assert "Traceback" not in gone.stderr
    assert "BrokenPipe" not in gone.stderr
    assert "Exception ignored" not in gone.stderr
    for line in (
        f"{shell} >&-",
        f"{shell} 2>&-",
        f"{shell} >&- 2>&-",
        f"{shell} 2>&1 >/dev/null | true",
    ):
        done = sh(line)
        assert done.returncode == 0, (line, done.stderr)
        assert "Traceback" not in done.stderr
    if Path("/dev/full").exists():
        full = sh(f"{shell} > /dev/full")
        assert full.returncode == 2
        assert full.stderr.splitlines()[-1].startswith("visus: stdout cannot be written")
        deaf = sh(f"{shell} --refuse 2> /dev/full")
        assert (deaf.returncode, deaf.stdout) == (2, "")


def test_signs_are_spelled_where_an_encoding_lacks_them_and_only_there() -> None:
    assert plain("• ≥ 95 % ± 2 …", "ascii") == "* >= 95 % +- 2 ..."
    assert plain("é ±", "latin-1") == "é ±"
    assert plain("é \udcff", "utf-8") == "é \\udcff"
    assert plain("猫", None) == "猫"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_dumb_terminal_gets_lines_and_any_other_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    assert in_terminal()
    for term in ("dumb", "unknown"):
        monkeypatch.setenv("TERM", term)
        assert not in_terminal()
    monkeypatch.setattr(sys, "stderr", None)
    assert not in_terminal()
    Lines().log("nobody hears it")


def _study(**_: object) -> None:
    with task("encoding images", 400) as t:
        for _i in range(4):
            t.advance(100)
        log("one image set aside")


class Handle:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data["text/plain"])


class ZMQInteractiveShell:
    """What a kernel's shell is called; Colab's and others are made from it."""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Handle:
    handle = Handle()
    package, part = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = type("Shell", (ZMQInteractiveShell,), {})  # type: ignore[attr-defined]
    part.display = lambda data, *, raw, display_id: handle.shown.append(data["text/plain"]) or handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    monkeypatch.setattr("visus.app.progress.NOTEBOOK_SECONDS", 0.0)
    return handle


def test_a_notebooks_cell_has_one_line_that_moves_and_says_how_it_ended(notebook: Handle) -> None:
    assert in_notebook()
    with where_watched("clip"):
        _study()
    assert notebook.shown[:2] == ["visus ...", "encoding images 0/400"]
    assert re.fullmatch(r"encoding images 200/400, \d+ s left", notebook.shown[3])
    assert any(line.endswith("one image set aside") for line in notebook.shown)
    assert re.fullmatch(r"visus clip finished, \d+ s", notebook.shown[-1])
    with pytest.raises(KeyboardInterrupt), where_watched("vit"):
        raise KeyboardInterrupt
    assert notebook.shown[-1].startswith("visus vit stopped")
    before = len(notebook.shown)
    with reporting(Silent()), where_watched("clip"):  # the caller said who reports
        _study()
    assert len(notebook.shown) == before


def test_a_call_from_python_is_watched_in_a_terminal_and_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []
    monkeypatch.setattr(Bars, "start", lambda self, description, total: began.append(description) or 0)
    monkeypatch.setattr(Bars, "advance", lambda *_: None)
    monkeypatch.setattr(Bars, "finish", lambda *_: None)
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with where_watched("clip"):
        _study()
    assert began == ["encoding images"]
    monkeypatch.setattr(sys, "stderr", pipe)
    with where_watched("clip"):
        _study()
    assert began == ["encoding images"]
    assert pipe.getvalue() == ""


def test_a_public_function_is_watched_and_says_where_the_page_is(
    notebook: Handle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clip(*, seed: int = 0) -> Result:
        """A study that takes no time."""
        _study()
        return Result(study="clip", title="t", sections=(), provenance={"seed": seed})

    monkeypatch.setattr("visus.studies.clip.clip", clip)
    result = door("clip")(out=str(tmp_path / "out"))
    assert any(line.startswith("encoding images 400/400") for line in notebook.shown)
    assert notebook.shown[-1].startswith("visus clip finished")
    assert result.page == str((tmp_path / "out" / "index.html").resolve())
    assert f"the page: {result.page}" in repr(result)
    assert Result.load(tmp_path / "out").page == result.page
