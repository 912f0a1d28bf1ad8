"""What a model reads of its texts: cut captions that become one, classes that it cannot tell apart, words that its vocabulary spells."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import visus
from visus.errors import DataError
from visus.images import load_images
from visus.models.dual import DualEncoder
from visus.models.dual_reading import same_classes, spelled, token_keys, warn_of_spelled
from visus.models.dual_text import Words, simple_words
from visus.models.zero_shot import zero_shot_classifier
from visus.progress import collecting
from visus.studies.clip.encoding import Prompting, from_model, wordings_of
from visus.studies.clip.texts import captions_of, text_keys
from visus.studies.train.judging import Score, judge_clip, zero_shot_scores
from visus.training.parts import Parts

LONG = "a very long description of a street in the rain with many people, two dogs, a red bus and an old man who reads a paper, seen from above, "

PLAIN = Prompting(("plain",))


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    return visus.load_dual("visus:emoji-clip")


@pytest.fixture(scope="module")
def clips() -> Words:
    """CLIP's own vocabulary, at its own 77 tokens."""
    return simple_words(open_clip.SimpleTokenizer(), vocabulary=49_408, trims=True)


def word_pieces() -> Words:
    """A small BERT-like vocabulary with an unknown token."""
    vocabulary = {
        t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "photo", "cat", "dog", "##s"])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Words(
        tokenizer, lambda ts: [e.ids for e in tokenizer.encode_batch(list(ts))], 8, 10, 0, ends=True, trims=True
    )


def captioned(root: Path, captions: list[str]) -> Path:
    root.mkdir()
    rng = np.random.default_rng(0)
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "text"])
        for i, caption in enumerate(captions):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(root / f"{i:03}.png")
            writer.writerow([f"{i:03}.png", caption])
    return root


def test_sixty_long_captions_that_the_cut_makes_five_are_five_texts_and_it_is_said(
    tmp_path: Path, encoder: DualEncoder
) -> None:
    folder = captioned(tmp_path / "photos", [f"group {'abcde'[i % 5]}: {LONG}number {i} of sixty" for i in range(60)])
    with collecting() as remarks:
        s = from_model(encoder, load_images(str(folder)), PLAIN, device="cpu", seed=0)
    assert len(set(s.text_keys)) == 5
    assert [len(set(s.text_keys[i::5])) for i in range(5)] == [1] * 5
    assert all(np.ptp(s.texts[s.text_keys == k], axis=0).max() < 1e-4 for k in range(5))
    (said,) = (c for c in remarks.cautions if "60 different captions are 5 to the model, which reads 32 tokens" in c)
    assert "of sixty' and '" in said  # two that differ at their ends
    assert any(w.startswith("60 of the captions are longer than the 32 tokens") for w in s.warnings)
    assert s.partners.sum() == 60


def test_texts_are_equal_where_their_tokens_are(encoder: DualEncoder, clips: Words) -> None:
    texts = ["A Cat", "a CAT", "a cat", "a dog", LONG * 3 + "ends so", LONG * 3 + "ends otherwise"]
    for words in (encoder.words, clips):
        keys = token_keys(words, texts)
        assert keys[0] == keys[1] == keys[2] != keys[3]
        assert keys[4] == keys[5]
    assert token_keys(replace(clips, context=248), texts)[4] != token_keys(replace(clips, context=248), texts)[5]


@pytest.mark.parametrize(
    ("classes", "prompts", "said"),
    [
        (("Mouse", "mouse", "cat"), ("{}",), "'Mouse' and 'mouse' are one text"),
        (("cat", "ice_cream", "ice cream"), ("{}", "a photo of a {}"), "'ice cream' and 'ice_cream' are one text"),
        ((f"{LONG}by day", "cat", f"{LONG}by night"), ("{}",), "cut to the 32 tokens that it reads"),
        (("cat", "dog"), (LONG + "{}",), "'cat' and 'dog' are one text.*cut to the 32 tokens"),
    ],
)
def test_classes_that_are_one_to_the_model_are_refused(
    tmp_path: Path, encoder: DualEncoder, classes: tuple[str, ...], prompts: tuple[str, ...], said: str
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "labels.csv").write_text(
        "name,label\n" + "".join(f'{i}.png,"{classes[i % len(classes)]}"\n' for i in range(30))
    )
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "own.txt").write_text("\n".join(prompts))
    imageset = load_images(str(tmp_path), labels=str(tmp_path / "labels.csv"))
    with pytest.raises(DataError, match=said) as error:
        from_model(encoder, imageset, Prompting((str(tmp_path / "own.txt"),)), device="cpu", seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="are one text to visus:emoji-clip"):
        zero_shot_classifier(encoder, [c.replace("_", " ") for c in classes], prompts)


def test_classes_that_one_prompt_of_several_tells_apart_are_kept(clips: Words) -> None:
    meant = [("cat",), ("dog",), ("Cat", "kitten")]
    assert same_classes(clips, meant, (3 * LONG + "{}", "{}")) is None
    assert same_classes(clips, [*meant, ("kitten", "CAT")], ("{}", "a {}")) == (2, 3, "Cat", "kitten")
    assert same_classes(clips, meant, (3 * LONG + "{}",)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "一只猫坐在沙发上",
        "кошка сидит на диване",
        "แมวนั่งอยู่บนโซฟา",
        "η γάτα κάθεται",
        "قطة على الأريكة",
        "बिल्ली सोफे पर",
        "북극곰 사진 북극곰",
    ],
)
def test_scripts_that_clips_vocabulary_spells_are_found(clips: Words, text: str) -> None:
    assert [i for i, _ in spelled(clips, ["a photo of a cat", text]).letters] == [1]
    with collecting() as remarks:
        warn_of_spelled(clips, [text, "a cat"], "captions")
    assert remarks.cautions[0].startswith("1 of 2 different captions are spelled letter by letter or byte by byte")


def test_what_the_vocabulary_holds_is_not_called_spelled(clips: Words, encoder: DualEncoder) -> None:
    plain = [
        "a photo of a cat",
        "Pomeranian on a café terrace",
        "ein Hund im Garten",
        "1998 BMW 3 Series",
        "un château près de Paris",
        "US 66",
        "C-3PO",
    ]
    assert spelled(clips, plain).letters == ()
    assert spelled(encoder.words, ["red fruit", "smiling face"]).letters == ()


def test_unknown_words_are_found_and_make_texts_one() -> None:
    words = word_pieces()
    assert [(i, w) for i, w in spelled(words, ["a cat", "a zebra", "dogs"]).unknown] == [(1, "zebra")]
    keys = token_keys(words, ["a zebra", "a giraffe", "a cat"])
    assert keys[0] == keys[1] != keys[2]
    assert spelled(words, ["猫 狗"]).letters == ()  # a character a token is how such vocabularies read it
    with collecting() as remarks:
        warn_of_spelled(words, ["a zebra", "a cat"], "classes")
    assert "1 of 2 different classes are read with words left out" in remarks.cautions[0]


def test_captions_that_are_one_empty_or_names_of_files_are_said(tmp_path: Path, encoder: DualEncoder) -> None:
    with collecting() as remarks:
        assert set(text_keys(encoder, ["a photo"] * 9, "captions")) == {0}
        assert set(text_keys(encoder, ["a photo"] * 4 + ["A Photo"] * 5, "captions")) == {0}
    assert any(c.startswith("All 9 captions are the same ('a photo')") for c in remarks.cautions)
    assert any(c.startswith("All 9 captions are one to the model") for c in remarks.cautions)
    names = load_images(str(captioned(tmp_path / "names", [f"IMG_{i:04}.JPG" for i in range(9)])))
    holes = load_images(str(captioned(tmp_path / "holes", ["a cat", " ", "a dog", ""] + ["a bird"] * 5)))
    with collecting() as remarks:
        captions_of(names, np.arange(9))
        rows, said = captions_of(holes, np.arange(9))
    assert rows.tolist() == [0, 2, 4, 5, 6, 7, 8]
    assert said[:2] == ("a cat", "a dog")
    assert "9 of 9 captions are names of files (the first: 'IMG_0000.JPG')" in remarks.cautions[0]
    assert "2 of 9 images have no caption (the first: 001.png)" in remarks.cautions[1]
    with pytest.raises(DataError, match="are all empty"):
        captions_of(holes, np.array([1, 3]))


def test_a_picture_in_several_rows_is_one_picture_whatever_a_network_makes_of_it(
    tmp_path: Path, encoder: DualEncoder
) -> None:
    folder = captioned(
        tmp_path / "rows", [f"caption {w}" for w in ["red", "blue", "green", "white", "black", "grey", "pink", "brown"]]
    )
    for i in range(0, 8, 2):  # as sets with a row a caption have it
        (folder / f"{i + 1:03}.png").write_bytes((folder / f"{i:03}.png").read_bytes())
    with collecting() as remarks:
        s = from_model(encoder, load_images(str(folder)), PLAIN, device="cpu", seed=0)
    assert s.image_keys.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(s.text_keys)) == 8
    assert (s.partners.sum(axis=1) == 2).all()
    assert "images: 8 are 4 different pictures, pixel for pixel; each counts once" in remarks.notes


def test_what_is_trained_is_judged_by_the_captions_that_it_reads(tmp_path: Path, encoder: DualEncoder) -> None:
    folder = captioned(tmp_path / "photos", [f"group {'abcd'[i % 4]}: {LONG}number {i}" for i in range(24)])
    imageset, rows = load_images(str(folder)), np.arange(24)
    with collecting() as remarks:
        judged = judge_clip(imageset, Parts(rows, rows[:0], rows), (encoder, encoder), None, seed=0)
    score = judged.scores["recall@5, image to name"]
    assert (score.asked, score.n) == ("image to name, among 4 names", 24)
    assert score.hits == 24
    assert any("24 different captions are 4 to the model" in c for c in remarks.cautions)


def test_classes_that_are_one_text_to_a_trained_model_are_said(tmp_path: Path, encoder: DualEncoder) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        (tmp_path / ("Mouse", "mouse pad")[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(
            tmp_path / ("Mouse", "mouse pad")[i % 2] / f"{i}.png"
        )
    shown = replace(load_images(str(tmp_path)), classes=("Mouse", "mouse"))
    scores: dict[str, Score] = {}
    with collecting() as remarks:
        zero_shot_scores(shown, np.arange(20), (encoder, encoder), scores, {})
    assert remarks.cautions[0].startswith("The classes 'Mouse' and 'mouse' are one text to the model")
    assert all(s.n == 20 for s in scores.values())


def test_every_caption_of_an_image_is_a_partner_of_it(tmp_path: Path, encoder: DualEncoder) -> None:
    lines = [["file_name", "text"]]
    for i in range(8):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (30 * i, 255 - 30 * i, 90)).save(tmp_path / "a" / f"{i}.png")
        lines += [[f"{i}.png", f"{word} {i}"] for word in ("cat", "dog", "bird")[: 1 + i % 3]]
    with (tmp_path / "a" / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    images = load_images(f"folder:{tmp_path / 'a'}", classes="wanted")
    with collecting() as said:
        s = from_model(encoder, images, Prompting(()), device="cpu", seed=0)
    assert s.captions == tuple(text for _, text in lines[1:])
    assert [images.ids[int(i)] for i in s.rows] == [name for name, _ in lines[1:]]
    assert len(np.unique(s.image_keys)) == 8
    assert np.asarray(s.partners.sum(axis=1)).reshape(-1).tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert s.each_image_once().captions == tuple(f"cat {i}" for i in range(8))
    np.testing.assert_allclose(s.images[2], s.images[1])
    assert "captions: 5 images have several; each is a partner of its image" in said.notes
    with collecting() as said:
        rows, names = captions_of(load_images("visus:emoji"), np.arange(3))
    assert len(rows) == len(names) == 3
    assert said.notes == ["captions: 3 images have several; the first, the name, is taken"]


def test_wordings_are_given_by_name_or_by_wordnet_id(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"n01440764": ["a fish"], "dog": ["a hound"]}))
    given = {"classes": ("tench", "dog", "cat"), "ids": ("n01440764", "", "")}
    assert wordings_of(given["classes"], path, ids=given["ids"]) == [("a fish",), ("a hound",), ("cat",)]
    path.write_text(json.dumps({"n01440764": ["a fish"], "tench": ["a fish"]}))
    with pytest.raises(DataError, match="'tench' twice"):
        wordings_of(given["classes"], path, ids=given["ids"])
