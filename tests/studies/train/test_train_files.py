"""visus train: what it learns, what it writes, what other libraries make of that, and what it says to bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests import shapes
from tests.studies.train.train_samples import SMALL, stop, whole

import visus
from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.training import checkpoint, from_scratch


def test_an_interrupted_training_goes_on_and_ends_with_the_same_bytes(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str) -> bytes:
        visus.train("clip", images=str(pictures), epochs=4, out=str(tmp_path / name), **SMALL)
        return (tmp_path / name / "model.safetensors").read_bytes()

    whole = run("whole")
    save, calls = checkpoint.save, []

    def dies(fabric: Any, path: Path, state: Any) -> None:
        save(fabric, path, state)
        calls.append(path.name)
        if calls.count(checkpoint.LAST) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.setattr(checkpoint, "save", save)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert run("cut") == whole


@pytest.mark.slow
def test_a_killed_process_goes_on_and_ends_with_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    def command(name: str) -> list[str]:
        options = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
        return [
            sys.executable, "-m", "visus.app.cli", "train", "clip", f"--images={pictures}", "--epochs=12",
            f"--out={tmp_path / name}", *options,
        ]  # fmt: skip

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = tmp_path / "cut" / "checkpoints" / checkpoint.LAST
    while not last.exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    subprocess.run(command("cut"), check=True, capture_output=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("clip", {"batch": 500}, r"a batch of 500 is larger than the \d+ training pictures"),
        ("vit", {"batch": 500}, r"a batch of 500 is larger"),
        ("clip", {"patch": 7}, "patches of 7 pixels do not fill 32"),
        ("clip", {"width": 100}, "multiples of 64"),
        ("clip", {"drop": 0.95}, "from 0 to 0.9"),
        ("clip", {"epochs": 0}, "--epochs is 0; give a whole number from 1 up"),
        ("vit", {"zero_shot": "visus:emoji"}, "does not go with vit"),
        ("clip", {"names": "visus:emoji"}, "does not go with clip"),
        ("clip", {"images": "visus:digits"}, "has no captions"),
        ("clip", {"out": None}, "needs a folder"),
        ("vit", {"beside": "visus:emoji"}, "--beside does not go with vit"),
        ("clip", {"beside": "visus:digits"}, "has no captions"),
    ],
)
def test_bad_settings_say_what_to_do(
    pictures: Path, tmp_path: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    arguments = {**SMALL, "images": str(pictures), "out": str(tmp_path / "m"), "epochs": 1, **settings}
    with pytest.raises(DataError, match=message):
        visus.train(kind, **arguments)


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="vit"):
        visus.train("vitt", out=str(tmp_path))


def test_missing_captions_are_named(pictures: Path, tmp_path: Path) -> None:
    shapes.write(tmp_path / "set", each=4)
    file = tmp_path / "set" / "metadata.csv"
    file.write_text("".join(line for line in file.open() if "circle/red-1" not in line))
    with pytest.raises(DataError, match=r"1 pictures of .* have no caption, the first: circle/red-1\.png"):
        visus.train("clip", images=str(tmp_path / "set"), out=str(tmp_path / "m"), **SMALL)


def test_captions_with_one_picture_each_are_trained_on_and_said(tmp_path: Path) -> None:
    shapes.write(tmp_path / "set", each=8)
    rows_ = [
        (f"{s}/{c}-{i}.png", f"{c} {s} number {i}") for s in shapes.SHAPES for c in shapes.COLOURS for i in range(8)
    ]
    (tmp_path / "set" / "metadata.csv").write_text("file_name,text\n" + "".join(f"{a},{b}\n" for a, b in rows_))
    result = visus.train("clip", images=str(tmp_path / "set"), epochs=1, out=str(tmp_path / "m"), **SMALL)
    assert any("no caption has a second picture" in w.lower() for w in result.cautions)


def test_another_training_in_the_same_folder_is_refused(pictures: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m")
    visus.train("vit", images=str(pictures), epochs=1, out=out, **SMALL)
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="another --out"):
        visus.train("vit", images=str(pictures), epochs=2, out=out, **SMALL)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_truncated_and_missing_files_are_named(clip: tuple[Path, visus.Result], tmp_path: Path, name: str) -> None:
    shutil.copytree(clip[0], tmp_path / "m")
    whole = (tmp_path / "m" / name).read_bytes()
    (tmp_path / "m" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        visus.load_dual(str(tmp_path / "m"))
    if name != "tokenizer.json":  # the image tower alone reads no texts
        with pytest.raises(DataError, match="cannot be read"):
            visus.load_backbone(str(tmp_path / "m"))
    (tmp_path / "m" / name).unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        visus.load_dual(str(tmp_path / "m"))


def test_what_is_no_dual_encoder_is_refused(
    vit: tuple[Path, visus.Result], clip: tuple[Path, visus.Result], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="reads no texts"):
        visus.load_dual(str(vit[0]))
    with pytest.raises(SpecError, match="no folder of a dual encoder"):
        visus.load_dual("timm:resnet18")
    shutil.copytree(clip[0], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 128
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="of another shape"):
        visus.load_dual(str(tmp_path / "m"))


def test_predict_chooses_among_texts_as_the_encoder_ranks_them(clip: tuple[Path, visus.Result], pictures: Path) -> None:
    classes = ["red square", "blue circle", "green triangle"]
    files = [str(pictures / "square" / "red-0.png"), str(pictures / "circle" / "blue-3.png")]
    said = visus.predict(files, model=str(clip[0]), classes=classes, top=3)
    encoder = visus.load_dual(str(clip[0]))
    images = load_images(str(pictures))
    at = np.array([images.ids.index("square/red-0.png"), images.ids.index("circle/blue-3.png")])
    prompts = [encoder.encode_texts([p.format(c) for p in ("{}", "a picture of a {}")]).mean(0) for c in classes]
    weights = np.stack([p / np.linalg.norm(p) for p in prompts])
    logits = encoder.logit_scale * encoder.encode_images(images, at) @ weights.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row in said.tables["predictions"].rows:
        assert row[3] == pytest.approx(expected[files.index(whole(row[0], files)), row[4]], abs=1e-4)


def test_predict_says_when_texts_are_missing_or_not_read(
    clip: tuple[Path, visus.Result], vit: tuple[Path, visus.Result], pictures: Path
) -> None:
    picture = [str(pictures / "square" / "red-0.png")]
    with pytest.raises(DataError, match="--classes"):
        visus.predict(picture, model=str(clip[0]))
    with pytest.raises(DataError, match="among two"):
        visus.predict(picture, model=str(clip[0]), classes=["cat"])
    with pytest.raises(DataError, match="reads no texts"):
        visus.predict(picture, model=str(vit[0]), classes=["cat", "dog"])


@pytest.mark.parametrize("seed", [0, 3])
def test_zero_shot_is_judged_on_no_picture_that_the_training_looked_at(
    pictures: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visus.studies import train as study
    from visus.studies.train import run as running

    # The same files in folders of other classes: another set, in which the same seed draws another fifth.
    shown = tmp_path / "by-colour"
    for file in sorted(pictures.glob("*/*.png")):
        colour = shown / file.name.split("-")[0]
        colour.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, colour / f"{file.parent.name}-{file.name}")
    asked: list[Any] = []
    monkeypatch.setattr(
        running, "judge_clip", lambda images, parts, *a, seed: asked.append((images, parts, a[1], seed)) or stop()
    )
    monkeypatch.setattr(from_scratch, "carry_out", lambda *a, **k: None)
    monkeypatch.setattr(from_scratch, "Trained", lambda *a, **k: SimpleNamespace(pixels=None))
    monkeypatch.setattr(running, "load_dual", lambda *a, **k: None)
    for zero_shot in (str(shown), str(pictures)):
        with pytest.raises(KeyboardInterrupt):
            study.train(
                "clip", images=str(pictures), zero_shot=zero_shot, seed=seed, batch=16, size=32, width=64, layers=1,
                text_width=64, text_layers=1, out=str(tmp_path / Path(zero_shot).name),
            )  # fmt: skip
        images, parts, (tried, rows_), used = asked[-1]
        assert used == seed
        looked = {images.decode(int(i)).tobytes() for i in np.concatenate([parts.train, parts.validation])}
        judged = [tried.decode(int(i)).tobytes() for i in rows_]
        assert len(judged) >= (4 if zero_shot == str(shown) else 20)
        assert not looked & set(judged)
        assert set(rows_) <= set(tried.split(seed=seed).test)


def test_zero_shot_images_that_were_all_trained_on_are_refused_before_the_training(
    pictures: Path, tmp_path: Path
) -> None:
    from visus.errors import DataError

    images = load_images(str(pictures))
    train = images.split(seed=0).folds[0][0]
    for k, i in enumerate(train[::5]):
        folder = tmp_path / "seen" / images.classes[int(images.labels[i])]  # type: ignore[index]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / images.ids[i], folder / f"{k}.png")
    with pytest.raises(DataError, match="among those that the training looks at"):
        visus.train(
            "clip", images=str(pictures), zero_shot=str(tmp_path / "seen"), batch=16, size=32, out=str(tmp_path / "out")
        )
    assert not list((tmp_path / "out").rglob("*.safetensors"))
