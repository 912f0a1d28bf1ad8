"""The same image in training and in test: found by its pixels in the one pass, named, counted, and taken out beside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.studies.repeated_folder import COLOURS, folder, noisy

import visus
from visus.images.base import ImageSet
from visus.result import Result

MODEL = "timm:test_resnet?weights=none"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[str]]:
    """The study, and what was decoded for it."""
    decoded: list[str] = []
    real = ImageSet.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(ImageSet, "decode", lambda self, i: (decoded.append(self.ids[i]), real(self, i))[1])
        result = visus.transfer(
            model=[MODEL],
            images=str(folder(tmp_path_factory.mktemp("twice"))),
            taps=["late"],
            engine="torch",
            regime=["probe"],
            maps=False,
            controls=False,
        )
    return result, decoded


def test_they_are_counted_named_and_their_classes_compared(study: tuple[Result, list[str]]) -> None:
    result, _ = study
    pairs = {(row[0], row[2]) for row in result.tables["repeated-images"].rows}
    expected = {(f"test/blue/{i:02}.bmp", f"train/blue/{i:02}.png") for i in range(4)}
    expected |= {(f"test/red/{i:02}.png", f"train/red/{i:02}.png") for i in range(3)} | {
        ("test/red/03.png", "train/blue/07.png")
    }
    assert pairs == expected  # the JPEGs are other pixels
    assert result.tables["repeated-images"].rows[0] == ("test/red/03.png", "red", "train/blue/07.png", "blue")
    (warning,) = [w for w in result.cautions if w.startswith("The same image in test and in training")]
    assert "8 of 24 test images" in warning
    assert "1 of them bear another class there" in warning


def test_accuracy_without_them_stands_beside_and_is_lower(study: tuple[Result, list[str]]) -> None:
    result, _ = study
    whole = {row["method"]: row["accuracy"] for row in result.tables["accuracy"].records()}
    found = result.tables["accuracy-without-repeats"].records()
    assert {row["method"] for row in found} == {"linear probe", "kNN"}
    for row in found:
        assert (row["n"], row["n_without"]) == (24, 16)
        assert row["accuracy"] == whole[row["method"]]
        assert row["low_without"] <= row["accuracy_without"] <= row["high_without"]
        assert 0 <= round(row["accuracy"] * 24) - round(row["accuracy_without"] * 16) <= 8
    assert any("Without the 8 test images that are training images too" in f for f in result.findings)


def test_no_picture_is_decoded_twice_for_it(study: tuple[Result, list[str]]) -> None:
    _, decoded = study
    shown = [name for name in set(decoded) if decoded.count(name) > 1]
    # What the page shows as thumbnails is decoded again, and nothing else.
    assert len(shown) < len(set(decoded)) / 2


def test_sets_without_repeats_say_so(tmp_path: Path) -> None:
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for i in range(15):
            noisy(colour, 25).save(tmp_path / name / f"{i}.png")
    result = visus.transfer(
        model=[MODEL], images=str(tmp_path), taps=["late"], engine="torch", regime=["probe"], maps=False, controls=False
    )
    assert "accuracy-without-repeats" not in result.tables
    assert "No test image is, pixel for pixel, a training image." in str(result.tables["images"].note)
    assert not any("same image" in w for w in result.cautions)
