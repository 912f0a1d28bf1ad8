"""Training inside the transfer study, through the public call: every regime on the page, resumed, cut to a budget, skips removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.colours import write as write_colours

import visus
from visus.errors import DataError, SpecError
from visus.figures import Front
from visus.models import load_backbone
from visus.result import Result
from visus.training import loop

MODEL = "timm:test_resnet?weights=none"
ASKED = {"model": [MODEL], "epochs": 2, "batch": 12, "engine": "torch", "maps": False, "controls": False}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"), each=16, noise=40)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _one_cache_for_all(home: Path, monkeypatch: pytest.MonkeyPatch, _own_cache: Path) -> None:
    monkeypatch.setenv("VISUS_HOME", str(home))


@pytest.fixture(scope="module")
def result(colours: Path, home: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(home))
        regimes = ["head", "last-block,full", "scratch"]
        return visus.transfer(images=f"folder:{colours}", regime=regimes, budget="none", seeds=2, **ASKED)


def column(result: Result, table: str, name: str) -> list[object]:
    return list(result.tables[table].column(name))


def test_every_regime_has_its_row_its_cost_and_its_place_on_the_front(result: Result) -> None:
    words = ["linear probe", "head", "last block", "full fine-tuning", "training from scratch"]
    assert column(result, "regimes", "regime") == words
    assert column(result, "regimes", "seeds") == [1, 2, 2, 2, 2]
    assert all(0 <= float(v) <= 1 for v in column(result, "regimes", "accuracy"))  # type: ignore[arg-type]
    trainable = [int(v) for v in column(result, "training-cost", "trainable")]  # type: ignore[call-overload]
    assert trainable[0] == trainable[1] < trainable[2] < trainable[3] == trainable[4]
    assert all(float(v) > 0 for v in column(result, "training-cost", "seconds")[1:])  # type: ignore[arg-type]
    front = next(iter(result.figures.values()))
    assert isinstance(front, Front)
    assert len(front.points) == 5
    assert {"regimes-compared", "learning-rates", "before-and-after", "accuracy"} <= set(result.tables)
    assert any("best trade-off" in f for f in result.findings)


def test_a_trained_network_is_a_model_like_any_other(result: Result, home: Path, colours: Path) -> None:
    folders = [str(f).replace("$VISUS_HOME", str(home)) for f in column(result, "trained-models", "folder")]
    assert len(folders) == 4
    assert load_backbone(folders[2]).labels == ("blue", "green", "red")
    found = visus.predict([str(colours / "red" / "03.png")], model=folders[2])
    assert column(found, "predictions", "label")[0] == "red"
    rows = found.tables["predictions"].rows
    assert sorted(row[2] for row in rows) == ["blue", "green", "red"]
    assert sum(row[3] for row in rows) == pytest.approx(1, abs=1e-5)


def test_the_same_command_again_reads_and_trains_nothing(
    result: Result, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Training", None)
    again = visus.transfer(
        images=f"folder:{colours}", regime=["head", "last-block,full", "scratch"], budget="none", seeds=2, **ASKED
    )
    for name in ("regimes", "learning-rates", "before-and-after", "regimes-compared"):
        assert again.tables[name] == result.tables[name]


@pytest.mark.slow
def test_two_networks_stand_side_by_side_with_adapters_too(colours: Path, tmp_path: Path) -> None:
    models = [MODEL, "timm:test_vit?weights=none"]
    found = visus.transfer(
        images=f"folder:{colours}",
        regime=["head", "lora"],
        budget="none",
        lr="3e-3",
        out=tmp_path,
        **ASKED | {"model": models},
    )
    assert len(column(found, "regimes-across-models", "a")) == 3  # probe, head, LoRA
    assert set(column(found, "regimes", "model")) == set(models)
    for model in models:
        assert f"before-and-after/{model}" in found.tables
        assert any(f.startswith(f"{model}: ") for f in found.findings)
    assert (tmp_path / "index.html").stat().st_size > 10_000


def test_a_budget_that_allows_nothing_leaves_out_and_says_so(colours: Path) -> None:
    found = visus.transfer(images=f"folder:{colours}", regime=["full"], budget="1s", **ASKED | {"epochs": 50})
    # Left out, planned shorter, or, where the machine slowed down after the plan was made, cut: each is said.
    said = ("full: left out", "of 50 epochs", "(budget), before all that was planned")
    assert any(text in warning for text in said for warning in found.cautions)


def test_skips_are_removed_where_named_and_one_by_one(colours: Path) -> None:
    named = visus.transfer(images=f"folder:{colours}", regime=["probe"], ablate_skips="layer2.0-layer3.0", **ASKED)
    networks = column(named, "skips-removed", "network")
    assert networks == ["intact", "without skips", "without skips, BatchNorm recalibrated"]
    assert float(column(named, "gradients", "intact")[0]) > 0  # type: ignore[arg-type]
    assert "skips-curves" in named.figures
    swept = visus.transfer(images=f"folder:{colours}", regime=["probe"], ablate_skips="sweep", **ASKED)
    blocks = column(swept, "skip-sweep", "block")
    assert len(blocks) >= 3
    for low, value, high in zip(*(column(swept, "skip-sweep", c) for c in ("low", "damage", "high")), strict=True):
        assert float(low) <= float(value) <= float(high)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"regime": ["fall"]}, SpecError, "full"),
        ({"lr": "fast"}, SpecError, "1e-4"),
        ({"lr": "-1"}, SpecError, "--lr"),
        ({"epochs": 0}, DataError, "--epochs"),
        ({"batch": 1}, SpecError, "--batch"),
        ({"accumulate": 12}, SpecError, "--accumulate"),
        ({"size": 8}, SpecError, "--size"),
        ({"budget": "soon"}, SpecError, "10m"),
        ({"devices": 0}, DataError, "--devices"),
        ({"ablate_skips": "layer9.1", "regime": ["probe"]}, SpecError, "layer"),
        ({"lr": "1e30"}, SpecError, "between 0"),
    ],
)
def test_what_a_user_gets_wrong_is_told_in_one_line(
    arguments: dict[str, object], error: type[Exception], says: str, colours: Path
) -> None:
    with pytest.raises(error, match=says) as raised:
        visus.transfer(images=f"folder:{colours}", **ASKED | arguments)
    assert "\n" not in str(raised.value)


def test_classes_without_skips_or_images_are_refused(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "one" / f"{i}.png")
    with pytest.raises(DataError, match="one class only"):
        visus.transfer(images=f"folder:{tmp_path}", **ASKED)
    (tmp_path / "two").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "two" / "0.png")
    with pytest.raises(DataError, match="single image"):
        visus.transfer(images=f"folder:{tmp_path}", **ASKED)


@pytest.mark.slow
def test_a_command_killed_in_the_middle_ends_as_one_that_was_not(colours: Path, tmp_path: Path) -> None:
    code = (
        "import visus, sys\n"
        f"visus.transfer(model=['{MODEL}'], images='folder:{colours}', regime=['full'], budget='none', epochs=6, batch=12, lr='3e-3', "
        "engine='torch', maps=False, controls=False, out=sys.argv[1])\n"
    )

    def start(home: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(home / "out")], env={**os.environ, "VISUS_HOME": str(home)}
        )

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight).wait() == 0
    process = start(killed)
    while process.poll() is None and not list(killed.glob("training/full-*/seed-0/last.ckpt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(killed.glob("training/full-*/seed-0/run.json"))
    assert start(killed).wait() == 0
    a, b = (next(h.glob("training/full-*/seed-0/logits.npy")).read_bytes() for h in (straight, killed))
    assert a == b
