"""The same image in training and in test: found by its pixels in the one pass, named, counted, and taken out beside."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import visus
from visus.images import load_images
from visus.images.base import ImageSet
from visus.images.digest import pixel_digest
from visus.measures.intervals import wilson
from visus.measures.repeats import Repeats
from visus.models.dual_open import load_dual
from visus.progress import collecting
from visus.studies.common import repeated
from visus.studies.common.schema1 import Result, Table
from visus.studies.train.report import judge_clip
from visus.studies.vae import report as vae_report
from visus.studies.vae import subject as vae_subject
from visus.training.parts import Parts

RNG = np.random.default_rng(0)
COLOURS = {"blue": (30, 60, 200), "red": (200, 40, 40)}
TRAIN, TEST = 24, 12  # a class
MODEL = "timm:test_resnet?weights=none"


def noisy(colour: tuple[int, int, int], strength: float) -> Image.Image:
    return Image.fromarray(np.clip(np.array(colour) + RNG.normal(0, strength, (24, 24, 3)), 0, 255).astype(np.uint8))


def folder(root: Path) -> Path:
    """Pure noise under two names: nothing can be learned but by heart. Of 24 test images 8 are training images.

    blue: four saved again as BMP (equal pixels), one of them two times; two as JPEG (other pixels). red: three copies, and one of a blue image.
    """
    for split, n in (("train", TRAIN), ("test", TEST)):
        for name in COLOURS:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                noisy((128, 128, 128), 60).save(root / split / name / f"{i:02}.png")
    for i in range(4):
        Image.open(root / f"train/blue/{i:02}.png").save(root / f"test/blue/{i:02}.bmp")
        (root / f"test/blue/{i:02}.png").unlink()
    for i in (4, 5):
        Image.open(root / f"train/blue/{i:02}.png").save(root / f"test/blue/{i:02}.jpg", quality=95)
        (root / f"test/blue/{i:02}.png").unlink()
    for i, source in enumerate(("red/00", "red/01", "red/02", "blue/07")):
        Image.open(root / f"train/{source}.png").save(root / f"test/red/{i:02}.png", compress_level=1)
    return root


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


def columns(table: Table, *names: str) -> list[tuple]:
    at = [table.columns.index(n) for n in names]
    return [tuple(row[i] for i in at) for row in table.rows]


def test_they_are_counted_named_and_their_classes_compared(study: tuple[Result, list[str]]) -> None:
    result, _ = study
    pairs = {(row[0], row[2]) for row in result.tables["repeated images"].rows}
    expected = {(f"test/blue/{i:02}.bmp", f"train/blue/{i:02}.png") for i in range(4)}
    expected |= {(f"test/red/{i:02}.png", f"train/red/{i:02}.png") for i in range(3)} | {
        ("test/red/03.png", "train/blue/07.png")
    }
    assert pairs == expected  # the JPEGs are other pixels
    assert result.tables["repeated images"].rows[0] == ("test/red/03.png", "red", "train/blue/07.png", "blue")
    (warning,) = [w for w in result.warnings if w.startswith("The same image in test and in training")]
    assert "8 of 24 test images" in warning
    assert "1 of them bear another class there" in warning


def test_accuracy_without_them_stands_beside_and_is_lower(study: tuple[Result, list[str]]) -> None:
    result, _ = study
    found = columns(
        result.tables["accuracy without repeats"], "method", "accuracy", "n", "without repeats", "low ", "high ", "n "
    )
    whole = dict(columns(result.tables["accuracy"], "method", "accuracy"))
    assert {row[0] for row in found} == {"linear probe", "kNN"}
    for method, accuracy, n, without, low, high, left in found:
        assert (n, left) == (24, 16)
        assert accuracy == whole[method]
        assert low <= without <= high
        assert 0 <= round(accuracy * 24) - round(without * 16) <= 8
    assert any(
        "8 of 24 test images are, pixel for pixel, training images too; without them" in f for f in result.findings
    )


def test_without_means_without() -> None:
    r = Repeats(np.array([4, -1, -1, 7, -1]), np.zeros(5, bool), 0, 0, 0)
    right = np.array([True, True, False, True, False])
    (row,) = repeated.accuracy_without(r, ("model",), [repeated.Answered(("x",), right)]).rows
    assert row == ("x", 0.6, *wilson(3, 5), 5, 1 / 3, *wilson(1, 3), 3)
    assert "right on 33.3 % of 3" in repeated.finding(r, "x", right)
    every = Repeats(np.zeros(2, np.int64), np.zeros(2, bool), 1, 2, 3)
    assert "no accuracy can be given" in repeated.finding(every, "x", right[:2])
    assert repeated.accuracy_without(every, ("model",), [repeated.Answered(("x",), right[:2])]).rows[0][-4:] == (
        None,
        None,
        None,
        0,
    )
    assert len(repeated.warnings(every, ("a", "b"), np.array([0, 1]))) == 3


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
    assert "accuracy without repeats" not in result.tables
    assert "No test image is, pixel for pixel, a training image." in str(result.tables["images"].note)
    assert not any("same image" in w for w in result.warnings)


@pytest.mark.slow
def test_poolings_of_a_vit_are_judged_without_them_too(tmp_path: Path) -> None:
    result = visus.vit(
        model=["timm:test_vit?weights=none"], images=str(folder(tmp_path)), part=["pooling"], controls=False
    )
    rows = columns(result.tables["pooling without repeats"], "pooling", "n", "n ")
    assert {row[1:] for row in rows} == {(24, 16)}
    assert {row[0] for row in rows} >= {"CLS", "mean"}
    assert len(result.tables["repeated images"].rows) == 8
    assert any("8 of 24 test images" in w for w in result.warnings)


def test_a_trained_vit_is_judged_without_them_too(tmp_path: Path) -> None:
    result = visus.train(
        "vit", images=str(folder(tmp_path / "twice")), epochs=1, batch=8, size=32, patch=16, width=64, layers=1, out=str(tmp_path / "out")
    )  # fmt: skip
    found = {row[0]: row for row in result.tables["held-out"].rows}
    n = result.tables["held-out"].columns.index("n")
    assert (found["accuracy"][n], found["accuracy without repeats"][n]) == (24, 16)
    assert any("8 of 24 test images" in w for w in result.warnings)
    assert any("without 8 test images" in f for f in result.findings)


def test_a_trained_clip_is_judged_without_them_too(tmp_path: Path) -> None:
    rows = ["file_name,text"]
    for i in range(48):
        noisy(COLOURS["red" if i % 2 else "blue"], 60).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,a {'red' if i % 2 else 'blue'} thing of kind {i % 6}")
    for i in range(4):
        Image.open(tmp_path / f"{i:02}.png").save(tmp_path / f"copy{i}.bmp")
        rows.append(f"copy{i}.bmp,a {'red' if i % 2 else 'blue'} thing of kind {i % 6}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    images = load_images(str(tmp_path))
    at = np.array([i for i, name in enumerate(images.ids) if not name.startswith("copy")])
    test = np.array([*np.setdiff1d(np.arange(len(images)), at), *at[-6:]])
    parts = Parts(at[:36], at[36:42], test)
    hashes = [np.frombuffer(pixel_digest(images.decode(int(i))), np.uint8) for i in (*parts.train, *parts.validation)]
    encoder = load_dual("visus:emoji-clip")
    judged = judge_clip(images, parts, encoder, encoder, None, np.stack(hashes), seed=0)
    whole, left = (judged.scores[f"recall@5, image to name{more}"] for more in ("", ", without repeats"))
    assert (whole.n, left.n) == (10, 6)
    assert any("4 of 10 test images" in w for w in judged.warnings)


def test_a_vae_is_judged_without_them_too(tmp_path: Path) -> None:
    with collecting() as remarks:
        subject = vae_subject.load(load_images(str(folder(tmp_path))), size=None, channels=None, seed=0)
    assert any("the same image in test and in training: " in c and "of 24 test pictures" in c for c in remarks.cautions)
    taught = {p.tobytes() for p in subject.train}
    again = np.array([p.tobytes() in taught for p in subject.test])
    assert subject.repeated is not None
    assert again.any()
    assert np.array_equal(subject.repeated, again)
    rng = np.random.default_rng(1)
    bound, likelihood = rng.normal(size=24), rng.normal(size=10)
    judged = SimpleNamespace(
        name="mine",
        bounds=SimpleNamespace(reconstruction=bound, kl=np.zeros(24)),
        likelihood=SimpleNamespace(per_image=likelihood),
    )
    rows = vae_report.without_repeats(again, [judged]).rows  # type: ignore[list-item]
    for row, values in zip(rows, (bound, likelihood), strict=True):
        left = values[~again[: len(values)]]
        assert (row[2], row[5], row[6], row[9]) == (values.mean(), len(values), left.mean(), len(left))
