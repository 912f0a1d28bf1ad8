"""Embeddings made elsewhere, in the formats in which people have them: the same image several times, several partners, links, ids, rounding."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.studies.clip.embeddings_samples import coco, read, recalls, retrieval, slow_recall

import visus
from visus.studies.clip import alignment, gap
from visus.studies.clip.alignment.judge import sides
from visus.studies.clip.embeddings.read import from_file


def test_an_image_of_five_captions_is_one_image_and_any_of_them_is_right(tmp_path: Path) -> None:
    images, texts = coco(noise=1.4)
    np.savez(tmp_path / "coco.npz", images=np.repeat(images, 5, axis=0), texts=texts)
    found = recalls(tmp_path / "coco.npz")
    for k in (1, 5, 10):
        assert found["image to text", k] == pytest.approx(
            slow_recall(images, texts, lambda i: set(range(5 * i, 5 * i + 5)), k)
        )
        assert found["text to image", k] == pytest.approx(slow_recall(texts, images, lambda i: {i // 5}, k))
    assert 0.1 < found["text to image", 1] < 0.9


def test_planted_captions_that_lie_at_their_image_are_all_found(tmp_path: Path) -> None:
    images, texts = coco()
    np.savez(tmp_path / "coco.npz", images=np.repeat(images, 5, axis=0), texts=texts)
    result = visus.clip(embeddings=str(tmp_path / "coco.npz"), part=["alignment"], pairs="100")
    there, back = retrieval(tmp_path / "coco.npz")
    assert {r.recall.value for one in (there, back) for r in one.recalls} == {1.0}
    assert (there.candidates, there.recalls[0].recall.n, there.partners, there.most_partners) == (300, 60, 5.0, 5)
    assert (back.candidates, back.recalls[0].recall.n, back.partners, back.most_partners) == (60, 300, 1.0, 1)
    assert there.recalls[0].chance == pytest.approx(5 / 300)
    assert back.recalls[0].chance == pytest.approx(1 / 60)
    base = next(r for r in result.tables["alignment"].records() if r["alignment"] == "none")
    assert base["image_to_text_1_held_out"] == base["text_to_image_1_held_out"] == 1.0
    assert any(
        "300 pairs are 60 different images and 300 different texts, taken as captions" in n for n in result.notes
    )


def test_held_out_pairs_share_neither_image_nor_text_with_fitted_ones(tmp_path: Path) -> None:
    images, texts = coco(n=100, k=3)
    said = texts.copy()
    said[4::50] = said[1::50]  # six captions are said of two images each
    np.savez(tmp_path / "pairs.npz", images=np.repeat(images, 3, axis=0), texts=said)
    s = from_file(tmp_path / "pairs.npz")
    on = sides(300, 120, s.groups, seed=0)
    assert not set(s.image_keys[on.used]) & set(s.image_keys[on.held])
    assert not set(s.text_keys[on.used]) & set(s.text_keys[on.held])
    assert not set(map(bytes, said[on.used])) & set(map(bytes, said[on.held]))
    assert len(on.inside) == len(on.held)


@pytest.mark.parametrize(
    ("rounded", "noise"),
    [
        (lambda x: x, 0.0),
        (lambda x: x, 1e-6),  # another batch
        (lambda x: x.astype(np.float64), 1e-7),
        (lambda x: x.astype(np.float16), 2e-4),
        (lambda x: x.astype(np.float16).astype(np.float32), 2e-4),
        (lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32), 1e-3),  # bfloat16, kept as float32
        (lambda x: x.astype(np.float16).astype(np.float32) / np.float32(3), 5e-4),  # computed in half, then scaled
        (lambda x: np.rint(40 * x).clip(-127, 127).astype(np.int8), 0.0),
    ],
)
def test_the_same_image_is_the_same_up_to_its_rounding(
    tmp_path: Path, rounded: Callable[[np.ndarray], np.ndarray], noise: float
) -> None:
    images, texts = coco(n=40)
    again = np.repeat(images, 5, axis=0)
    again *= 1 + noise * np.random.default_rng(1).normal(size=again.shape)
    np.savez(tmp_path / "pairs.npz", images=rounded(again.astype(np.float32)), texts=texts)
    s = from_file(tmp_path / "pairs.npz")
    assert [len(set(s.image_keys[5 * i : 5 * i + 5])) for i in range(40)] == [1] * 40
    assert len(set(s.image_keys)) == 40
    assert len(set(s.text_keys)) == 200


def test_frames_that_differ_by_little_are_images_of_their_own_and_that_is_said(tmp_path: Path) -> None:
    images, texts = coco(n=50, k=1)
    images[1::10] = images[::10] * 1.0005 + 0.001 * np.eye(32, dtype=np.float32)[0]
    np.savez(tmp_path / "frames.npz", images=images, texts=texts)
    s, remarks = read(tmp_path / "frames.npz")
    assert len(set(s.image_keys)) == 50
    assert any(w.startswith("5 of 50 different images lie within") and "save image_ids" in w for w in remarks.cautions)
    np.savez(
        tmp_path / "ids.npz",
        images=images,
        texts=texts,
        image_ids=np.arange(50) // 10 * 10 + np.maximum(np.arange(50) % 10, 1),
    )
    assert len(set(from_file(tmp_path / "ids.npz").image_keys)) == 45


def test_a_narrow_cone_keeps_its_images_apart(tmp_path: Path) -> None:
    images, texts = coco(n=80, k=1)
    far = 1e4 * np.ones(32, np.float32)
    np.savez(tmp_path / "cone.npz", images=images + far, texts=texts + far)
    assert len(set(from_file(tmp_path / "cone.npz").image_keys)) == 80


def test_some_repeated_captions_are_captions_and_few_texts_are_class_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = coco(n=500, k=1)
    texts[:57] = texts[100:157]
    np.savez(tmp_path / "some.npz", images=images, texts=texts)
    s, remarks = read(tmp_path / "some.npz")
    assert not s.texts_are_classes
    assert [(one.way, one.recalls[0].recall.n, one.candidates) for one in retrieval(tmp_path / "some.npz")] == [
        ("image to text", 500, 443),
        ("text to image", 443, 500),
    ]
    assert any("500 different images and 443 different texts, taken as captions" in n for n in remarks.notes)
    y = np.arange(200) % 10
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(10, 32))
    shown = centres[y] + 0.3 * rng.normal(size=(200, 32))
    np.savez(tmp_path / "few.npz", images=shown, texts=centres[y])
    few, remarks = read(tmp_path / "few.npz")
    assert few.texts_are_classes
    assert any("few for many images: taken as class names" in n for n in remarks.notes)
    assert alignment.measure(few, sizes=(100,), seed=0).fits
    np.savez(tmp_path / "labels.npz", images=shown, texts=centres[y], labels=y)
    named = from_file(tmp_path / "labels.npz")
    assert named.texts_are_classes
    monkeypatch.setattr(sys.modules[gap.measure.__module__], "layer_maps", lambda x, **_: {})
    for s, there in ((few, True), (named, False)):  # without labels nothing else says how well the names are found
        assert bool(gap.measure(s, seed=0).retrieval) is there
