"""Atomic files."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from visus.errors import StoreError
from visus.paths import atomic_path, check_writable, home, write_text


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
