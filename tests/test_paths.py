"""Atomic files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from visus.errors import StoreError
from visus.paths import atomic_path, can_write, check_writable, home, mend, shelter_caches, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "grüezi")
    assert (tmp_path / "a" / "b.txt").read_text("utf-8") == "grüezi"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="free some space") as caught, atomic_path(tmp_path / "b.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        check_writable(tmp_path / "file" / "out")


def test_home_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_HOME", str(tmp_path))
    assert home() == tmp_path


def test_a_home_that_nobody_knows_is_one_line_and_never_a_folder_called_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_HOME", "~nobody-of-this-name/visus")
    with pytest.raises(StoreError, match="set VISUS_HOME to a folder that can be written, by its full path"):
        home()
    monkeypatch.delenv("VISUS_HOME")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"~/.cache/{name}")  # of a user without a home
    with pytest.raises(StoreError, match="set VISUS_HOME"):
        home()


def test_what_can_be_written_is_told_without_making_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert can_write(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    assert not can_write(tmp_path / "file")
    assert not can_write(tmp_path / "file" / "b")
    assert not can_write("~/x")


def test_caches_are_sheltered_only_where_their_own_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("MPLCONFIGDIR", "NUMBA_CACHE_DIR")
    for name in (*names, "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    shelter_caches()
    assert not any(name in os.environ for name in names)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("VISUS_HOME", str(tmp_path / "visus"))
    shelter_caches()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "visus" / "caches" / "matplotlib")
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "own")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "own"))
    shelter_caches()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "visus" / "caches" / "numba")
    assert not (tmp_path / "visus").exists()


def test_the_advice_names_the_folder_that_is_to_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_HOME", str(tmp_path / "file" / "home"))
    (tmp_path / "file").write_text("")
    assert mend(home() / "features" / "x") == "free some space, or set VISUS_HOME to a folder that can be written"
    assert "VISUS_HOME" not in mend(tmp_path / "out")
    with pytest.raises(StoreError, match="set VISUS_HOME to a folder that can be written"):
        check_writable(home() / "training")
    with pytest.raises(StoreError, match="set VISUS_HOME to a folder"):
        write_text(home() / "x.txt", "")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    }
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def test_figures_and_compiled_code_need_no_home(tmp_path: Path) -> None:
    """HOME below a file can be written by nobody, not even by root."""
    (tmp_path / "file").write_text("")
    code = (
        "import visus, os, matplotlib, matplotlib.font_manager\n"
        "from visus.report import render_page\n"
        "from visus.figures import Lines\n"
        "from visus.result import Result, Section\n"
        "s = Section(key='s', title='?', source='visus.studies.vae', figures=(Lines(key='a', title='A', series=()),))\n"
        "assert 'could not' not in render_page(Result(study='vae', title='t', sections=(s,)))\n"
        "import numba\n"
        "@numba.njit(cache=True)\n"
        "def twice(x): return 2 * x\n"
        "print(matplotlib.get_cachedir(), numba.config.CACHE_DIR)"
    )
    place = tmp_path / "module.py"
    place.write_text(code)  # numba caches nothing of code without a file
    done = run(
        f"import runpy; runpy.run_path({str(place)!r})",
        HOME=str(tmp_path / "file" / "home"),
        VISUS_HOME=str(tmp_path / "visus"),
    )
    assert done.returncode == 0, done.stderr
    caches = tmp_path / "visus" / "caches"
    assert done.stdout.split() == [str(caches / "matplotlib"), str(caches / "numba")]
    assert "temporary" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("home_is_sound", [True, False])
def test_a_study_without_a_home_writes_into_visus_home_alone(tmp_path: Path, home_is_sound: bool) -> None:
    (tmp_path / "file").write_text("")
    visus_home = tmp_path / "visus" if home_is_sound else tmp_path / "file" / "visus"
    flags = "vae --limit 200 --epochs 1 --samples 50 --importance 2 --compare baseline --out"
    done = run(
        f"import sys; from visus.app.cli import main; sys.argv = ['visus', *{flags!r}.split(), {str(tmp_path / 'out')!r}]; main()",
        HOME=str(tmp_path / "file" / "home"), VISUS_HOME=str(visus_home),
    )  # fmt: skip
    if home_is_sound:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "index.html").is_file()
    else:
        assert done.returncode == 2
        assert "set VISUS_HOME to a folder that can be written" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["file", "out", "visus"] if home_is_sound else ["file"])
