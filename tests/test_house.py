"""What must be true of the house; tools/house.py prints each with what breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools import house

INNER_IMPORTS = 120


def test_no_import_circle() -> None:
    assert house.circles() == []


def test_no_room_imports_one_below_it() -> None:
    assert house.wrong_rooms() == []


def test_imports_stand_at_the_top_or_have_a_reason() -> None:
    inner = house.inner_imports()
    assert len(inner) <= INNER_IMPORTS
    assert [f"{i.file}:{i.line}" for i in inner if not i.reason] == []


def test_no_long_parameter_list_outside_the_public_api() -> None:
    assert house.long_signatures() == []


def test_no_long_file() -> None:
    assert house.long_files() == []


def test_no_private_name_of_another_file() -> None:
    assert house.borrowed_privates() == []


def test_no_dead_code() -> None:
    assert house.dead_code() == []


@pytest.mark.slow
def test_no_ten_lines_stand_twice() -> None:
    assert house.doubled_lines() == []


def test_studies_are_tested() -> None:
    assert house.tests_to_code() >= 0.6


def test_every_number_names_a_file_that_is_there() -> None:
    assert house.missing_files() == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("from visus.measures.knn import knn_accuracy", False),
        ("from visus.studies.transfer import transfer", True),
        ("def f():\n    from visus.report import page", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from visus.app import cli", True),
    ],
)
def test_the_script_sees_an_import_wherever_it_stands(
    code: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "src/visus/images/new.py"
    file.parent.mkdir(parents=True)
    file.write_text(code)
    known = {**house.modules(), "visus.images.new": file}
    monkeypatch.setattr(house, "modules", lambda: known)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    assert any("images imports" in line for line in house.wrong_rooms()) == wrong


def test_the_script_sees_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        files[f"visus.images.{name}"] = tmp_path / f"{name}.py"
        files[f"visus.images.{name}"].write_text(f"def f():\n    import visus.images.{other}\n")
    monkeypatch.setattr(house, "modules", lambda: files)
    assert house.circles() == [["visus.images.a", "visus.images.b", "visus.images.c"]]


def test_the_command_line_brings_no_library_with_it() -> None:
    code = "import sys, visus.app.cli; print([m for m in ('torch', 'numpy', 'timm', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
