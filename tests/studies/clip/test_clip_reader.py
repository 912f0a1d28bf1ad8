"""The parts of the reader of embeddings, each by itself: which array is what, and which rows are one image or text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visus.errors import DataError
from visus.progress import collecting
from visus.studies.clip.embeddings.formats import Column, read_columns
from visus.studies.clip.embeddings.names import by_role
from visus.studies.clip.embeddings.pairs import paired
from visus.studies.clip.same import class_like, pairs_text, same_vectors

HERE = Path("pairs.npz")
X = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("images", "texts"),
    [
        ("images", "texts"),
        ("image_embeds", "text_embeds"),
        ("imageEmbeddings", "textEmbeddings"),
        ("img-emb", "txt-emb"),
        ("clip_image_features", "clip_text_features"),
        ("vision features", "language features"),
        ("photo_vectors_normalized", "caption_vectors_normalized"),
        ("all_image_encodings", "all_sentence_encodings"),
        ("embeddings_image", "embeddings_title"),
    ],
)
def test_images_and_texts_are_found_by_the_names_that_people_give_them(images: str, texts: str) -> None:
    found = by_role({texts: Y, images: X, "notes": np.arange(3)}, HERE)
    assert (found.names["images"], found.names["texts"]) == (images, texts)
    assert found.ignored == ("notes",)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("image_ids", "image_ids"),
        ("file_name", "image_ids"),
        ("caption_ids", "text_ids"),
        ("text_image", "text_image"),
        ("txt2img", "text_image"),
        ("image_to_text_map", "image_text"),
        ("label", "labels"),
        ("targets", "labels"),
        ("key", "ids"),
    ],
)
def test_ids_links_and_labels_are_found_by_their_names(name: str, role: str) -> None:
    found = by_role({"images": X, "texts": Y, name: np.arange(9)}, HERE)
    assert found.names[role] == name


def test_captions_in_words_tell_texts_apart_and_are_no_vectors() -> None:
    found = by_role({"images": X, "texts": Y, "caption": np.array(["a"] * 9)}, HERE)
    assert found.names["captions"] == "caption"


def test_a_scale_is_one_number() -> None:
    one = by_role({"images": X, "texts": Y, "logit_scale": np.array(4.6)}, HERE)
    assert one.names["logit_scale"] == "logit_scale"
    many = by_role({"images": X, "texts": Y, "logit_scale": np.arange(9)}, HERE)
    assert many.ignored == ("logit_scale",)


def test_what_could_not_be_read_is_told_where_it_is_needed_alone() -> None:
    broken: dict[str, Column] = {
        "images": X,
        "texts": DataError("texts cannot be read"),
        "extra": DataError("nor this"),
    }
    with pytest.raises(DataError, match="texts cannot be read"):
        by_role(broken, HERE)
    assert by_role({**broken, "texts": Y}, HERE).ignored == ("extra",)
    with pytest.raises(DataError, match="labels cannot be read"):
        by_role({"images": X, "texts": Y, "labels": DataError("labels cannot be read")}, HERE)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": X, "b": Y}, "holds a, b, but no 'images'"),
        ({}, "holds nothing, but no 'images'"),
        ({"images": X}, "but no 'texts'; save images, texts"),
        ({"images": X[0], "texts": Y}, r"images is float32 \[6\]; it must be numbers \[n, d\]"),
        ({"img_emb": X, "img_feat": X, "texts": Y}, "img_emb, img_feat, each of which may be the images"),
    ],
)
def test_an_open_role_is_refused_in_one_line(columns: dict[str, Column], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_role(columns, HERE)


def test_of_several_the_plain_name_is_taken() -> None:
    assert by_role({"images": X, "image_features": Y, "texts": Y}, HERE).names["images"] == "images"


def test_pairs_are_rows_beside_one_another_or_what_a_link_says() -> None:
    beside = paired(by_role({"images": X, "texts": Y}, HERE), HERE)
    assert (beside.how, beside.image_rows.tolist()) == ("row by row", list(range(9)))
    link = np.array([0, 0, 1, 2, 3, 4, 4, 4, 5])
    linked = paired(by_role({"images": X[:6], "texts": Y, "text_image": link}, HERE), HERE)
    assert (linked.how, linked.image_rows.tolist()) == ("pairs by text_image", link.tolist())
    by_id = paired(
        by_role({"images": X[:6], "image_ids": np.arange(6) + 40, "texts": Y, "text_image": link + 40}, HERE), HERE
    )
    assert by_id.image_rows.tolist() == link.tolist()
    with collecting() as remarks:
        left = paired(by_role({"images": X, "texts": Y[:6], "text_image": np.arange(6)}, HERE), HERE)
    assert len(left.image_rows) == 6
    assert remarks.notes == ["embeddings: 3 images have no text and are left out"]


def test_numbered_files_of_a_folder_are_one_array(tmp_path: Path) -> None:
    for k in range(11):
        np.save(tmp_path / f"img_emb_{k}.npy", np.full((2, 3), k))
    np.save(tmp_path / "text_emb.npy", np.zeros((22, 3)))
    columns = read_columns(tmp_path)
    assert list(columns) == ["img_emb", "text_emb"]
    numbers = columns["img_emb"]
    assert isinstance(numbers, np.ndarray)
    assert numbers[:, 0].tolist() == np.repeat(np.arange(11), 2).tolist()  # by number, not by name


def test_rows_of_one_direction_are_one_image_and_ids_are_believed_where_vectors_agree() -> None:
    twice = np.concatenate([X, 2 * X[:3]])
    assert len(set(same_vectors(twice, "images", HERE))) == 9
    ids = np.array([0, 0, 2, 3, 4, 5, 6, 7, 8])
    with pytest.raises(DataError, match=r"rows 0 and 1 of images have one id .* give each image one vector"):
        same_vectors(X, "images", HERE, ids=ids)
    near = X.copy()
    near[1] = X[0] * 1.001 + 1e-3
    assert len(set(same_vectors(near, "images", HERE, ids=ids))) == 8


def test_texts_are_class_names_where_they_are_few_for_many_images() -> None:
    images = np.arange(60)
    assert class_like(images, images % 3, None)
    assert class_like(images, images % 3, images % 3)
    assert not class_like(images, images, None)
    assert not class_like(images, images // 2, None)  # two images a caption
    assert not class_like(images, np.zeros(60, int), None)  # one text says nothing of classes
    assert "few for many images: taken as class names" in pairs_text(images, images % 3, are_classes=True)
    assert pairs_text(images, images, are_classes=False).endswith("60 different texts, taken as captions")
    assert "any partner of a query counts as right" in pairs_text(images // 5, images, are_classes=False)
