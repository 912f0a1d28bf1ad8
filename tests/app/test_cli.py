"""The command line: made from the doors, quick to start, one line for a user's error."""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from visus.app import api
from visus.app.cli import app, arguments_help, main
from visus.progress import caution, note
from visus.result import Result

HEAVY = ("torch", "numpy", "sklearn", "timm", "transformers", "pyarrow", "matplotlib", "openvino", "PIL")


def _modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stderr.split())


def test_importing_visus_imports_nothing_heavy() -> None:
    assert not _modules_after("import visus") & set(HEAVY)


def test_help_imports_nothing_heavy() -> None:
    code = "from visus.app.cli import app\ntry:\n    app(['transfer', '--help'])\nexcept SystemExit:\n    pass"
    assert not _modules_after(code) & set(HEAVY)


@pytest.mark.parametrize("name", sorted(api.STUDIES))
def test_every_argument_of_a_door_is_documented_and_on_the_command_line(name: str) -> None:
    door = getattr(api, name)
    _, helps = arguments_help(door.__doc__)
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    for parameter in inspect.signature(door).parameters.values():
        if parameter.name != "out":
            assert parameter.name in helps, f"{name}: {parameter.name} has no line under Arguments"
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty:
            assert "--" + parameter.name.replace("_", "-") in shown


@pytest.mark.parametrize("name", sorted(api.STUDIES))
def test_every_command_takes_the_common_options(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    for flag in ("--out", "--json", "--device", "--seed", "--limit"):
        assert flag in shown


def _exit(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["visus", *argv])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    "argv",
    [
        ["transfer", "--images", "visus:emojy"],
        ["transfer", "--model", "visus:effnet-lite9", "--images", "visus:digits"],
        ["transfer", "--images", "folder:does-not-exist"],
        ["transfer", "--images", "visus:digits", "--taps", "lat", "--limit", "100"],
        ["transfer", "--images", "visus:digits", "--pool", "max"],
        ["predict", "no-such-file.jpg"],
        ["vit", "--model", "visus:effnet-lite0"],
        ["vit", "--keep", "1,0"],
        ["vit", "--part", "attention", "--limit", "100", "--image", "no-such-file.jpg"],
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit([*argv, "--out", str(tmp_path / "out")], monkeypatch) == 2
    captured = capsys.readouterr()
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("visus: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_an_out_folder_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert _exit(["transfer", "--images", "visus:digits", "--out", str(blocked / "out")], monkeypatch) == 2
    assert "--out" in capsys.readouterr().err


def test_json_prints_the_result_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [
        "transfer",
        "--images",
        "visus:digits",
        "--limit",
        "150",
        "--taps",
        "late",
        "--no-maps",
        "--no-controls",
        "--regime",
        "probe",
    ]
    monkeypatch.setattr(sys, "argv", ["visus", *argv, "--json", "--out", str(out)])
    with contextlib.suppress(SystemExit):
        main()
    body = json.loads(capsys.readouterr().out)
    assert {"schema", "study", "answer", "headline", "sections", "provenance"} <= set(body)
    assert body["study"] == "transfer"
    assert json.loads((out / "result.json").read_text()) == body
    assert (out / "index.html").stat().st_size > 10_000


MADE = Result(study="predict", title="t", sections=(), warnings=("w",))


def test_what_a_study_notes_stands_in_its_result_and_on_its_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def study(images: str, *, seed: int = 0) -> Any:
        """Study.

        Arguments:
            images: spec.
            seed: seed.

        Returns a Result.
        """
        note("labels: column `dx`, 987 of 1,000 rows matched")
        caution("3 images stand in train and in test")
        return MADE

    monkeypatch.setattr("visus.studies.predict.predict", study)
    result = api.door("predict")(images="folder:x", out=tmp_path)
    assert result.notes == ("labels: column `dx`, 987 of 1,000 rows matched",)
    assert result.warnings == ("w", "3 images stand in train and in test")
    assert result.provenance["command"] == "visus predict --images folder:x --seed 0"
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "How the input was read" in page
    assert "987 of 1,000 rows matched" in page
    assert Result.load(tmp_path).warnings == result.warnings


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["transfer", "--epochs", "x"], "Invalid value for '--epochs'"),
        (["transfer", "--epcohs", "3"], "No such option: --epcohs"),
        (["transfer", "--epochs"], "'--epochs' requires an argument"),
        (["transfer", "a", "b"], "extra argument"),
        (["predict"], "Missing argument 'PATH...'"),
        (["trnasfer"], "No such command 'trnasfer'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["visus", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("visus: ")
    assert said in line
    assert line.endswith("--help")


@pytest.mark.parametrize(("argv", "code"), [([], 2), (["--version"], 0), (["vit", "-h"], 0)])
def test_help_and_version_keep_their_form(
    argv: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["visus", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    assert "".join(capsys.readouterr()).startswith("visus 0" if argv == ["--version"] else "Usage: ")
