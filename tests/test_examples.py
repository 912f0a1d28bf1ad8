"""The examples of CONTRIBUTING: a section and a study, put into the house as it says, and run through both doors."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.colours import write as write_colours
from typer.testing import CliRunner

import visus
from visus import studies
from visus.app import api, cli
from visus.result import Result
from visus.studies import transfer
from visus.studies.common.comparisons import Comparison
from visus.studies.common.proportion import of_value
from visus.studies.transfer import run as transfer_run

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SOURCE = ROOT / "src" / "visus"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")

# What CONTRIBUTING says is to be written outside the example's own files.
IMPORT = "from visus.studies.transfer import classes, data, growth, layers, maps, trust\n"
SECTION_LINE = "        section(growth, growth.measure(images, scores, features, seed=options.seed)),\n"
STUDY_LINE = '    "colours": "visus.studies.colours",\n'

Put = Callable[[ModuleType, str, str], ModuleType]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy pictures of three colours."""
    return write_colours(tmp_path_factory.mktemp("photos"), each=20, noise=25, size=(24, 24))


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Puts an example into a package of the house, as if its file or folder lay there; afterwards it is gone."""
    done: list[tuple[ModuleType, str]] = []

    def into(package: ModuleType, example: str, name: str) -> ModuleType:
        source, there = EXAMPLES / example, tmp_path / package.__name__
        there.mkdir()
        if source.is_dir():
            shutil.copytree(source, there / name)
        else:
            shutil.copy(source, there / f"{name}.py")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(there)])
        done.append((package, name))
        importlib.invalidate_caches()
        return importlib.import_module(f"{package.__name__}.{name}")

    yield into
    for package, name in done:
        vars(package).pop(name, None)
        for known in [m for m in sys.modules if f"{m}.".startswith(f"{package.__name__}.{name}.")]:
            del sys.modules[known]


@pytest.fixture
def growth(put: Put, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The section, in a transfer study whose run.py has its line."""
    module = put(transfer, "section_growth.py", "growth")
    file = SOURCE / "studies" / "transfer" / "run.py"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    (imports,) = [i for i, line in enumerate(lines) if line.startswith("from visus.studies.transfer import ")]
    assert lines[imports] == IMPORT.replace(" growth,", "")
    (last,) = [i for i, line in enumerate(lines) if line.startswith("        section(data, ")]
    lines[imports] = IMPORT
    lines.insert(last, SECTION_LINE)
    patched = ModuleType(transfer_run.__name__)
    exec(compile("".join(lines), str(file), "exec"), vars(patched))
    monkeypatch.setitem(sys.modules, transfer_run.__name__, patched)
    return module


@pytest.fixture
def colours(put: Put, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The study, in a house whose registry has its line."""
    module = put(studies, "study_colours", "colours")
    with monkeypatch.context() as patch:
        (name, path) = re.findall(r'"([^"]+)"', STUDY_LINE)
        patch.setitem(api.STUDIES, name, path)  # type: ignore[arg-type]
        # Both doors are made from the registry when they are imported.
        importlib.reload(visus)
        importlib.reload(cli)
        yield module
    vars(api).pop("colours", None)
    vars(visus).pop("colours", None)
    importlib.reload(visus)
    importlib.reload(cli)


def _run(*command: str) -> str:
    done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_section_is_one_file_and_one_line(growth: ModuleType, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(
        "transfer", "--model=timm:test_resnet?weights=none", f"--images=folder:{photos}", "--taps=late", "--regime=probe",
        "--engine=torch", "--no-maps", "--no-controls", f"--out={out}",
    )  # fmt: skip
    result = Result.load(out)
    assert [s.key for s in result.sections] == ["layers", "trust", "classes", "growth", "images"]
    section = result.sections[3]
    assert (section.title, section.source) == (growth.QUESTION, "visus.studies.transfer.growth")
    rows = result.tables["growth"].records()
    assert [row["fitted"] for row in rows] == [3, 6, 15, 30, 48]
    (probe,) = [row for row in result.tables["accuracy"].records() if row["method"] == "linear probe"]
    assert (rows[-1]["accuracy"], rows[-1]["low"], rows[-1]["high"]) == (probe["accuracy"], probe["low"], probe["high"])
    page = (out / "index.html").read_text("utf-8")
    assert growth.QUESTION in page
    assert "studies/transfer/growth" in page
    assert (out / "tables" / "growth.csv").read_text("utf-8").startswith("most,fitted,accuracy,low,high,n")
    assert (out / "figures" / "growth.svg").is_file()


def test_a_study_is_one_folder_and_one_line(colours: ModuleType, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    torn = photos / "green" / "torn.png"
    torn.write_bytes((photos / "green" / "00.png").read_bytes()[:90])
    result = visus.colours(f"folder:{photos}", out=out)  # type: ignore[attr-defined]
    torn.unlink()
    assert "colours" in visus.__all__
    assert result.metrics["mean-colour/probe/accuracy"].value == 1.0  # they differ in colour alone
    assert result.metrics["majority/accuracy"].value == pytest.approx(1 / 3)
    blue = result.tables["colours"].records()[0]
    assert blue["class"] == "blue"
    assert [blue[c] for c in ("red", "green", "blue")] == pytest.approx([30 / 255, 60 / 255, 200 / 255], abs=0.02)
    assert any("torn.png" in w for w in result.cautions)
    assert np.array_equal(result.predictions["label"], result.predictions["prediction"])
    page = (out / "index.html").read_text("utf-8")
    assert "What does the mean colour alone tell about the classes?" in page
    assert "studies/colours/baseline" in page
    printed = json.loads(_run("colours", "--json", f"--images=folder:{photos}", f"--out={tmp_path / 'again'}"))
    assert printed["sections"][0]["source"] == "visus.studies.colours.baseline"
    assert printed["answer"] == "The mean colour alone names 100.0 % of 12 test images."
    assert "--label-column" in _run("colours", "--help")


def test_the_example_section_tells_what_was_measured(growth: ModuleType) -> None:
    few, all_ = growth.GrowthRow(2, 6, of_value(0.5, 40)), growth.GrowthRow(16, 48, of_value(0.9, 40))
    doubling = Comparison("all 48 images", "6 images", 0.4, 0.2, 0.6, 18, 2, 0.001)
    m = growth.GrowthMeasures("timm:x", "late (head)", (few, all_), doubling)
    assert [metric.key for metric in growth.metrics(m)] == [
        "timm:x/late/growth/6/accuracy",
        "timm:x/late/growth/48/accuracy",
    ]
    first, second = growth.findings(m)
    assert "6 training images the probe names 50.0 %" in first.text
    assert second.text.endswith("the curve has not levelled off.")
    undecided = growth.GrowthMeasures(
        "timm:x", "late (head)", (few, all_), Comparison("a", "b", 0.0, -0.1, 0.1, 2, 2, 1.0)
    )
    assert growth.findings(undecided)[1].kind == "undecided"
    assert growth.figures(m)[0].series[0].x == (6, 48)


def test_the_example_study_tells_what_was_measured(colours: ModuleType) -> None:
    baseline = importlib.import_module("visus.studies.colours.baseline")
    rows = (
        baseline.ClassRow("sky", (0.1, 0.2, 0.9), 10, of_value(0.8, 10)),
        baseline.ClassRow("sea", (0.1, 0.3, 0.8), 0, None),
    )
    against = Comparison(baseline.PROBE, baseline.MAJORITY, -0.3, -0.5, -0.1, 0, 3, 0.25)
    m = baseline.BaselineMeasures(of_value(0.5, 10), of_value(0.8, 10), against, rows, {})
    assert baseline.tables(m)[0].records()[1]["recall"] is None
    assert baseline.figures(m)[0].groups[0].labels == ("sky",)
    assert baseline.findings(m)[1].text.endswith("colour misleads.")
    assert {metric.key for metric in baseline.metrics(m)} >= {"mean-colour/probe/accuracy", "recall/sky"}


def test_contributing_quotes_the_examples_as_they_are() -> None:
    """Every line of code that it shows stands in an example, or is one of the lines above."""
    whole = "".join(file.read_text("utf-8") for file in EXAMPLES.rglob("*.py")) + IMPORT + SECTION_LINE + STUDY_LINE
    known = {line.strip() for line in whole.splitlines()} | {"", "..."}
    blocks = re.findall(r"```(?:python)?\n(.*?)```", CONTRIBUTING, re.DOTALL)
    quoted = [line.strip() for block in blocks for line in block.splitlines()]
    assert [line for line in quoted if line not in known] == []
    assert {IMPORT.strip(), SECTION_LINE.strip(), STUDY_LINE.strip()} <= set(quoted)


@pytest.mark.parametrize(
    "document", ["CONTRIBUTING.md", "README.md", "docs/architecture.md", "examples/study_colours/README.md"]
)
def test_files_that_the_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    named = re.findall(
        r"`((?:examples|studies|app|report|docs|tests|tools|measures|models|images|features|training)/[\w./]*)`", text
    )
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    missing = [name for name in named if not any((base / name).exists() for base in (ROOT, SOURCE))]
    missing += [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert missing == []
