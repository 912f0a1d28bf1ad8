"""What the study is asked: lists by commas, numbers of pairs, what does not go together. And the pairs that it is asked of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visus.errors import DataError, SpecError
from visus.studies.clip.options import ClipOptions, sizes_of, words_of
from visus.studies.clip.pairs import PairedEmbeddings, keys_of
from visus.studies.common.options import ImageOptions

IMAGES = ImageOptions("visus:emoji", None, None, None, None)


def options(**changed: Any) -> ClipOptions:
    given: dict[str, Any] = {
        "model": "visus:emoji-clip", "images": IMAGES, "embeddings": None, "parts": (), "prompts": (), "synonyms": None, "queries": (),
        "shown": 12, "fit_sizes": None, "control": True, "device": "cpu", "seed": 0, "download": False,
    }  # fmt: skip
    return ClipOptions(**given | changed)


def test_all_parts_and_the_usual_prompts_where_none_are_named() -> None:
    assert all(options().asks_for(part) for part in ("zero-shot", "gap", "alignment"))
    assert [part for part in ("zero-shot", "gap", "alignment") if options(parts=("gap",)).asks_for(part)] == ["gap"]
    assert options().prompt_sets == ("plain", "short", "variants")
    assert options(prompts=("own",)).prompt_sets == ("own",)


def test_words_come_by_commas_and_repeated_each_once() -> None:
    assert words_of(["plain,short", " plain "], "prompts", example="plain") == ("plain", "short")
    assert words_of(None, "prompts", example="plain") == words_of([], "prompts", example="plain") == ()
    with pytest.raises(DataError, match="--prompts is empty; name one at least, as plain"):
        words_of([","], "prompts", example="plain")


def test_sizes_are_whole_numbers_in_order() -> None:
    assert sizes_of("200,50,50") == (50, 200)
    assert sizes_of(None) is None
    for text in ("many", "50,,200", "1.5"):
        with pytest.raises(DataError, match="whole numbers"):
            sizes_of(text)
    with pytest.raises(DataError, match="--pairs has 1; an alignment needs at least 2 pairs"):
        sizes_of("1,50")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"parts": ("gab",)}, SpecError, "gab"),
        ({"shown": 0}, DataError, "--shown needs at least 1 image"),
        ({"embeddings": "a.npz", "queries": ("a dog",)}, DataError, "--search needs a model that reads queries"),
        ({"embeddings": "a.npz", "prompts": ("plain",)}, DataError, "--prompts needs a model that reads texts"),
        ({"embeddings": "a.npz", "synonyms": "a.json"}, DataError, "--synonyms needs a model that reads texts"),
        ({"embeddings": "a.npz", "images": ImageOptions("", None, None, None, 9)}, DataError, "--limit is of images"),
        ({"embeddings": "a.npz", "images": ImageOptions("", "a.csv", None, None, None)}, DataError, "--labels is of"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        options(**changed)


def test_keys_count_from_0_in_the_order_of_their_codes() -> None:
    assert keys_of(np.array([7, 3, 7, 9])).tolist() == [1, 0, 1, 2]


def test_each_image_once_keeps_its_first_pair() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    pairs = PairedEmbeddings(
        name="a", images=x, texts=x + 1, image_keys=np.array([1, 0, 1, 2, 0, 2]), text_keys=np.arange(6)[::-1].copy(), ids=tuple("abcdef"),
        captions=tuple("uvwxyz"), labels=np.arange(6) % 2, classes=("k", "l"), classifiers={"plain": np.eye(2, dtype=np.float32)},
    )  # fmt: skip
    once = pairs.each_image_once()
    assert (once.ids, once.captions) == (("a", "b", "d"), ("u", "v", "x"))
    assert once.text_keys.tolist() == [2, 1, 0]
    assert once.image_keys.tolist() == [0, 1, 2]
    assert once.labels is not None
    assert once.labels.tolist() == [0, 1, 1]
    assert once.each_image_once() is once
    assert pairs.partners.toarray().sum(axis=1).tolist() == [2, 2, 2]
    assert [at.tolist() for at in pairs.first_pairs] == [[1, 0, 3], [5, 4, 3, 2, 1, 0]]


def test_pairs_that_share_a_text_are_one_group_unless_it_is_a_class_name() -> None:
    x = np.eye(4, dtype=np.float32)
    given: dict[str, Any] = {
        "name": "a",
        "images": x,
        "texts": x,
        "image_keys": np.arange(4),
        "text_keys": np.array([0, 0, 1, 2]),
        "ids": tuple("abcd"),
    }
    assert PairedEmbeddings(**given).groups.tolist() == [0, 0, 1, 2]
    assert PairedEmbeddings(**given, texts_are_classes=True).groups.tolist() == [0, 1, 2, 3]


def test_logits_are_cosines_by_scale_and_bias() -> None:
    x = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    pairs = PairedEmbeddings(
        name="a", images=x, texts=x, image_keys=np.arange(2), text_keys=np.arange(2), ids=("a", "b"), labels=np.array([[1, 0], [0, 1]], bool),
        classes=("k", "l"), classifiers={"plain": np.eye(2, dtype=np.float32)}, scale=10.0, bias=-1.0,
    )  # fmt: skip
    assert np.allclose(pairs.logits("plain"), [[5.0, 7.0], [-1.0, 9.0]])
    assert not pairs.single
    assert pairs.classifier is None  # several labels an image
