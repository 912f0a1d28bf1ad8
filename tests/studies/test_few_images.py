"""Every study on very few images: right numbers, or one line that says what it needs and has; never a crash, and no data blamed for --limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visus
from visus.errors import DataError, VisusError

COLOURS = ((200, 40, 40), (30, 160, 60), (30, 60, 200))
TINY = "timm:test_resnet?weights=none"


def write(root: Path, n: int, classes: int) -> Path:
    """n noisy pictures of so many colours, a folder a colour, with captions."""
    rng = np.random.default_rng(0)
    lines = ["file_name,text"]
    for i in range(n):
        k = i % classes
        (root / f"c{k}").mkdir(parents=True, exist_ok=True)
        noisy = np.clip(np.array(COLOURS[k]) + rng.normal(0, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / f"c{k}" / f"{i:02}.png")
        lines.append(f"c{k}/{i:02}.png,a thing of colour {k} and number {i}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def _train(kind: str, images: str, **more: Any) -> visus.Result:
    sizes = {"size": 16, "patch": 8, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    return visus.train(kind, images=images, epochs=1, batch=2, out=f"{images}-{kind}", **sizes, **more)


STUDIES: dict[str, Callable[..., visus.Result]] = {
    "transfer": lambda images, **k: visus.transfer(TINY, images, regime="probe", engine="torch", taps="early,late", **k),
    "regimes": lambda images, **k: visus.transfer(
        TINY, images, regime="head,full", engine="torch", taps="late", maps=False, controls=False, epochs=1, lr=1e-3,
        budget="none", **k,
    ),
    "vit": lambda images, **k: visus.vit("timm:test_vit?weights=none", images, shown=1, masked=10, keep="1,0.5", **k),
    "clip": lambda images, **k: visus.clip("visus:emoji-clip", images, control=False, **k),
    "vae": lambda images, **k: visus.vae(
        images, epochs=1, latent=2, samples=50, importance=2, shown=2, features=TINY, compare="baseline", **k
    ),
    "train vit": lambda images, **k: _train("vit", images, **k),
    "train clip": lambda images, **k: _train("clip", images, **k),
    "predict": lambda images, **k: visus.predict(images, **k),
    "extract": lambda images, **k: visus.extract(TINY, images, engine="torch", **k),
}  # fmt: skip
# What a message may ask for or point to; "x has 1 rows" and the like tell nobody anything.
SAID = ("at least", "give ", "add images", "--limit", "--batch")


def _attempt(study: str, images: Path, **more: Any) -> str:
    """'' for a Result whose proportions lie in their intervals, else the one line that was said."""
    try:
        result = STUDIES[study](str(images), **more)
    except VisusError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        assert any(word in said for word in SAID), said
        assert " rows;" not in said
        return said
    for table in result.tables.values():
        if {"low", "accuracy", "high", "n"} <= {c.key for c in table.columns}:
            for value in table.records():
                assert value["accuracy"] is None or 0 <= value["low"] <= value["accuracy"] <= value["high"] <= 1
    return ""


@pytest.mark.parametrize(
    ("study", "n", "classes", "said"),
    [
        ("transfer", 3, 1, "one class only"),
        ("transfer", 3, 2, "a single image of 1 class"),
        ("transfer", 4, 2, "at least three images a class"),
        ("vae", 3, 1, "gives 1 training images and 1 test images, and samples are judged beside 4 of each at least; give 20"),
        ("vae", 8, 2, "2 test images, and samples are judged beside 4"),
        ("clip", 8, 2, "2 images to judge it on, and the gap and alignments need 4 pairs at least"),
        ("train clip", 8, 2, "leaves 2 images to test on, and the gap between images and texts needs 4; give 20 images or more"),
        ("train clip", 3, 1, "leaves 1 images to test on"),
        ("train vit", 5, 3, "a single image of 1 class"),
    ],
)  # fmt: skip
def test_too_few_images_are_said_before_any_work(study: str, n: int, classes: int, said: str, tmp_path: Path) -> None:
    assert said in _attempt(study, write(tmp_path / "images", n, classes))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("study", "limit"), [("transfer", 2), ("vit", 5), ("train vit", 4)])
def test_a_limit_that_leaves_too_little_is_blamed_itself(study: str, limit: int, tmp_path: Path) -> None:
    said = _attempt(study, write(tmp_path / "images", 30, 3), limit=limit)
    assert said.startswith(f"--limit {limit} of the 30 images of ")
    assert said.endswith("give --limit 6 or more")


@pytest.mark.parametrize("classes", [2, 3])
def test_six_images_are_enough_for_transfer_and_it_says_what_it_left_out(classes: int, tmp_path: Path) -> None:
    result = visus.transfer(
        TINY, str(write(tmp_path / "images", 30, classes)), regime="probe", engine="torch", taps="early,late", limit=6
    )
    text = " ".join(result.cautions)
    for part in (
        f"No maps: t-SNE and UMAP need 5 test images, and there are {classes}",
        "CKA, which needs 4",
        "No silhouette",
    ):
        assert part in text
    assert not [f for f in result.figures.values() if f.kind == "map" or f.key == "cka"]
    assert set(result.tables["geometry"].column("silhouette")) == {None}
    assert set(result.tables["accuracy"].column("n")) == {classes}
    result.save(tmp_path / "saved")
    assert type(result).load(tmp_path / "saved").to_json() == result.to_json()


@pytest.mark.parametrize("study", ["predict", "extract"])
def test_one_image_is_enough_where_nothing_is_compared(study: str, tmp_path: Path) -> None:
    assert _attempt(study, write(tmp_path / "images", 9, 3), limit=1) == ""


@pytest.mark.slow
@pytest.mark.parametrize("study", sorted(STUDIES))
@pytest.mark.parametrize(("classes", "sizes"), [(1, (2, 30)), (2, (7,)), (3, (5, 12, 30))])
def test_any_number_of_images_gives_numbers_or_one_line(
    study: str, classes: int, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    found = {n: _attempt(study, write(tmp_path / f"images-{n}", n, classes)) for n in sizes}
    enough = [n for n, said in found.items() if not said]
    # Once there is enough, more is enough as well; thirty are, where there are classes or none are needed.
    assert enough == [n for n in found if enough and n >= enough[0]]
    if 30 in found and (classes > 1 or study in ("predict", "extract", "vae", "train clip")):
        assert 30 in enough, found[30]


def test_the_command_line_says_the_same_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from visus.app import cli

    images = write(tmp_path / "images", 30, 3)
    for argv, said in (
        (["transfer", "--images", str(images), "--limit", "2"], "visus: --limit 2 of the 30 images of "),
        (
            ["transfer", "--images", str(images), "--seed", "-1"],
            "visus: --seed is -1; give a whole number from 0 to 4,294,967,292",
        ),
        (["transfer", "--images", str(images), "--epochs", "0"], "visus: --epochs is 0; give a whole number from 1 up"),
        (["vae", "--images", str(images), "--lr", "nan"], "visus: --lr is nan; give a number above 0"),
        (["vae", "--images", str(images), "--beta", "inf"], "visus: --beta is inf; give a number from 0 up"),
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr("sys.argv", ["visus", *argv, "--out", str(tmp_path / "out")])
            cli.main()
        assert stopped.value.code == 2
        err = capsys.readouterr().err.strip().splitlines()
        assert [line for line in err if line.startswith("visus: ")][-1].startswith(said)
        assert not [line for line in err if "Traceback" in line]


def test_what_is_asked_for_is_a_data_error() -> None:
    with pytest.raises(DataError, match="--limit is 0"):
        visus.transfer(TINY, "visus:digits", limit=0)
