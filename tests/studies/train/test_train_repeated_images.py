"""A network trained from nothing is judged without the test images that it learned from, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tests.studies.repeated_folder import COLOURS, folder, noisy

import visus
from visus.images import load_images
from visus.images.digest import pixel_digest
from visus.models.dual_open import load_dual
from visus.studies.train.judging import judge_clip
from visus.training.parts import Parts


def test_a_trained_vit_is_judged_without_them_too(tmp_path: Path) -> None:
    result = visus.train(
        "vit", images=str(folder(tmp_path / "twice")), epochs=1, batch=8, size=32, patch=16, width=64, layers=1, out=str(tmp_path / "out")
    )  # fmt: skip
    found = {row["measure"]: row["n"] for row in result.tables["held-out"].records()}
    assert (found["accuracy"], found["accuracy without repeats"]) == (24, 16)
    assert any("8 of 24 test images" in w for w in result.cautions)
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
    judged = judge_clip(images, parts, (encoder, encoder), None, np.stack(hashes), seed=0)
    whole, left = (judged.scores[f"recall@5, image to name{more}"] for more in ("", ", without repeats"))
    assert (whole.n, left.n) == (10, 6)
    assert any("4 of 10 test images" in w for w in judged.warnings)
