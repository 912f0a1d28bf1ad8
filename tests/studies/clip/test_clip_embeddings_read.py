"""Embeddings made elsewhere, in the formats in which people have them: the same image several times, several partners, links, ids, rounding."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.studies.clip.embeddings_samples import FORMS, IMAGES, OWNER, REFUSED, TEXTS, coco, read, retrieval

import visus
from visus.errors import DataError
from visus.studies.clip import alignment
from visus.studies.clip.alignment.judge import sides
from visus.studies.clip.embeddings.read import from_file


def test_a_repeated_image_counts_once_in_zero_shot(tmp_path: Path) -> None:
    images, texts = coco(n=40)
    y = np.repeat(np.arange(40) % 4, 5)
    np.savez(tmp_path / "pairs.npz", images=np.repeat(images, 5, axis=0), texts=texts, labels=y, class_texts=images[:4])
    result = visus.clip(embeddings=str(tmp_path / "pairs.npz"), part=["zero-shot"])
    assert result.tables["zero-shot"].column("n")[0] == 40
    y[1] = 3
    np.savez(tmp_path / "other.npz", images=np.repeat(images, 5, axis=0), texts=texts, labels=y, class_texts=images[:4])
    other = visus.clip(embeddings=str(tmp_path / "other.npz"), part=["zero-shot"])
    assert any(w.startswith("1 images have different labels in different rows") for w in other.warnings)


def test_one_caption_that_ties_most_images_together_is_judged_on_and_not_fitted_on(tmp_path: Path) -> None:
    images, texts = coco(n=90, k=2)
    texts[:120:2] = texts[0]  # 'no findings', of sixty images
    np.savez(tmp_path / "reports.npz", images=np.repeat(images, 2, axis=0), texts=texts)
    s = from_file(tmp_path / "reports.npz")
    result = visus.clip(embeddings=str(tmp_path / "reports.npz"), part=["alignment"])
    assert {r["fitted_on"] for r in result.tables["alignment"].records()} <= set(range(25, 62))
    on = sides(180, 50, s.groups, seed=0)
    assert not set(s.image_keys[on.used]) & set(s.image_keys[on.held])
    with pytest.raises(DataError, match="120 of 180 pairs hang together"):
        visus.clip(embeddings=str(tmp_path / "reports.npz"), part=["alignment"], pairs="90")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_set_of_pairs(tmp_path: Path, form: str) -> None:
    name, write = FORMS[form]
    write(tmp_path / name)
    s = from_file(tmp_path / name)
    assert (len(s.images), len(set(s.image_keys)), len(set(s.text_keys)), s.texts_are_classes) == (150, 30, 150, False)
    assert sorted(s.partners.sum(axis=1)) == ([4] + [5] * 28 + [6] if form == "a ragged list of captions" else [5] * 30)
    cosines = np.einsum(
        "nd,nd->n",
        *(x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (s.images, s.texts)),
    )
    assert cosines.min() > 0.9


def test_filled_up_captions_are_left_out(tmp_path: Path) -> None:
    texts = TEXTS.reshape(30, 5, 32).copy()
    texts[3, 3:] = 0
    texts[4, 1:] = np.nan
    np.savez(tmp_path / "filled.npz", images=IMAGES, texts=texts)
    s = from_file(tmp_path / "filled.npz")
    assert sorted(np.bincount(s.image_keys)) == [1, 3] + [5] * 28


def test_several_images_a_text_are_right_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "views.npz", images=TEXTS, texts=IMAGES, image_text=OWNER)
    assert [
        (one.recalls[0].recall.n, one.partners, one.recalls[0].recall.value)
        for one in retrieval(tmp_path / "views.npz")
    ] == [
        (150, 1.0, 1.0),
        (30, 5.0, 1.0),
    ]


def test_every_image_with_every_text_is_no_set_of_class_names(tmp_path: Path) -> None:
    a, b = np.divmod(np.arange(100), 10)
    np.savez(tmp_path / "all.npz", images=IMAGES[a], texts=IMAGES[10 + b])
    s = from_file(tmp_path / "all.npz")
    assert not s.texts_are_classes
    assert len(set(s.groups)) == 1
    found = alignment.measure(s, sizes=None, seed=0)
    assert "make 1 groups that share no image or text, too few" in found.left_out
    assert not found.fits


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_be_read_in_two_ways_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    arrays, said = REFUSED[what]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=said) as error:
        from_file(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_a_single_npy_a_pickle_and_a_csv_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    with pytest.raises(DataError, match="holds one array; put images"):
        from_file(tmp_path / "images.npy")
    (tmp_path / "pairs.pkl").write_bytes(pickle.dumps({"images": IMAGES}))
    (tmp_path / "pairs.csv").write_text("image,text\n1,2\n")
    for name in ("pairs.pkl", "pairs.csv"):
        with pytest.raises(DataError, match="is no npz or Parquet file"):
            from_file(tmp_path / name)

    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(DataError, match="holds a list without names"):
        from_file(tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no npy and no Parquet file"):
        from_file(tmp_path / "empty")


@pytest.mark.parametrize(
    ("given", "scale"),
    [({"logit_scale": np.log(50)}, 50), ({"logit_scale": 50.0}, 50), ({"temperature": 0.02}, 50), ({"scale": 50}, 50), ({}, 100),
     ({"temperature": np.full(60, 20.0)}, 100)],
)  # fmt: skip
def test_the_scale_is_read_as_it_is_its_logarithm_or_inverted(
    tmp_path: Path, given: dict[str, Any], scale: float
) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, **given)
    assert read(tmp_path / "a.npz")[0].scale == pytest.approx(scale)


@pytest.mark.parametrize("labels", [np.arange(60.0) % 3, (np.arange(60) % 3)[:, None], np.arange(60) % 3])
def test_labels_may_be_whole_floats_or_a_column(tmp_path: Path, labels: np.ndarray) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, labels=labels)
    subject = read(tmp_path / "a.npz")[0]
    assert subject.labels is not None
    assert subject.labels.tolist() == [0, 1, 2] * 20
    assert len(subject.classes) == 3


def test_labels_below_0_are_told(tmp_path: Path) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, labels=np.where(np.arange(60) == 7, -1, 0))
    with pytest.raises(DataError, match=r"1 labels are below 0 \(the first in row 7\)"):
        read(tmp_path / "a.npz")
