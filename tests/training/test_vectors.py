"""Word vectors: read as GloVe writes them, meanings against a slow loop, tokens that start as their vectors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from visus.errors import DataError
from visus.models.dual_new import ClipConfig, new_clip
from visus.training.captions import learn_tokenizer, wording
from visus.training.vectors import Meanings, WordVectors, add_words, meanings_for, read_vectors, start_from

WORDS = ("the", "red", "apple", "pear", "of", "flag")


def written(folder: Path, d: int = 6) -> Path:
    rows = np.random.default_rng(0).standard_normal((len(WORDS), d))
    rows[3] = rows[2] + 0.05  # a pear is almost an apple
    text = "".join(f"{w} {' '.join(f'{x:.6f}' for x in row)}\n" for w, row in zip(WORDS, rows, strict=True))
    path = folder / "glove.txt"
    path.write_text(text.replace("flag", "c-3po"), encoding="utf-8")
    return path


def test_vectors_are_centred_unit_rows_and_only_of_plain_words(tmp_path: Path) -> None:
    vectors = read_vectors(written(tmp_path))
    assert vectors.words == WORDS[:-1]
    assert np.allclose(np.linalg.norm(vectors.rows, axis=1), 1, atol=1e-5)
    numbers = [line.split()[1:] for line in (tmp_path / "glove.txt").read_text().splitlines()[:-1]]
    raw = np.array(numbers, float)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    raw -= raw.mean(axis=0)
    assert np.allclose(vectors.rows, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
    headed = tmp_path / "word2vec.txt"
    headed.write_text("6 6\n" + (tmp_path / "glove.txt").read_text())
    assert np.array_equal(read_vectors(headed).rows, vectors.rows)


def test_a_meaning_is_the_weighted_sum_of_the_words_that_are_known(tmp_path: Path) -> None:
    vectors = read_vectors(written(tmp_path))
    total = np.zeros(6)
    for word in ("red", "apple", "apple"):
        rank = vectors.words.index(word) + 1
        p = 1 / (rank * math.log(len(vectors.words) + 1))
        total += 1e-3 / (1e-3 + p) * vectors.rows[rank - 1]
    found = vectors.meanings(["Red apple, xyzzy APPLE", "xyzzy"])
    assert np.allclose(found[0], total / np.linalg.norm(total), atol=1e-5)
    assert not found[1].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 1 2\nb 1\n", "line 2"),
        ("a x y\nb 1 2\n", "word vectors"),
        ("1 2\n", "no word vectors"),
        ("a 1 nan\nb 1 2\n", "finite"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_vectors(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(tmp_path / "missing.txt")


def test_what_all_captions_share_is_no_part_of_what_one_means(tmp_path: Path) -> None:
    vectors = read_vectors(written(tmp_path))
    names = ["red apple", "red pear", "red apple"]
    meanings = meanings_for(vectors, names, names, 3)
    whole = vectors.meanings(["red apple", "red pear", "of the"])
    expected = whole - whole[:2].mean(axis=0)
    found = meanings.of(["red apple", "red pear", "of the", "xyzzy"])
    assert np.allclose(found[:3], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert not found[3].any()
    assert found[0] @ found[1] == pytest.approx(-1, abs=1e-4)  # each is all that tells it from the other
    with pytest.raises(DataError, match="no word of the captions"):
        meanings_for(vectors, ["xyzzy"], ["xyzzy"], 3)


def test_the_words_that_count_are_the_captions_own_and_those_nearest_to_them() -> None:
    rng = np.random.default_rng(0)
    things, others = rng.standard_normal((2, 1, 8)) + 0.3 * rng.standard_normal((2, 30, 8))
    rows = np.stack([things, others], axis=1).reshape(60, 8)  # thing, other, thing, other, ...
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    words = tuple(f"{kind}{chr(97 + i // 10)}{chr(97 + i % 10)}" for i in range(30) for kind in ("thing", "other"))
    vectors = WordVectors("planted", words, rows.astype(np.float32))
    found = vectors.nearest([f"a {words[2 * i]}" for i in range(20, 30)] + [words[59]], 31)
    assert set(found) == {*words[::2], words[59]}
    assert list(found) == sorted(found, key=words.index)
    assert vectors.nearest(["nothing that it knows"], 5) == words[:5]


@pytest.mark.parametrize("width", [64, 4])
def test_whole_words_are_tokens_that_start_as_near_each_other_as_their_vectors(tmp_path: Path, width: int) -> None:
    vectors = read_vectors(written(tmp_path))
    meanings = Meanings(vectors, vectors.words, np.zeros(6, np.float32))
    tokenizer = learn_tokenizer(["red flag", "red hat"], size=300, context=8)
    add_words(tokenizer, meanings.words)
    assert [t.strip() for t in tokenizer.encode("Apple of the pears").tokens[1:4]] == ["apple", "of", "the"]
    assert "pear" not in tokenizer.encode("pears").tokens  # a word inside another is none
    clip = new_clip(tokenizer, ClipConfig(text_width=width, text_layers=1, width=64, layers=1, context=8), seed=0)
    before = clip.text_model.embeddings.token_embedding.weight.clone()
    start_from(clip, tokenizer, meanings, seed=0)
    table = clip.text_model.embeddings.token_embedding.weight
    ids = [tokenizer.token_to_id(w) for w in vectors.words]
    rows = torch.nn.functional.normalize(table[ids], dim=1).detach().numpy()
    if width < vectors.rows.shape[1]:  # what fits: their principal components
        fits = vectors.rows @ np.linalg.svd(vectors.rows, full_matrices=False)[2][:width].T
        fits /= np.linalg.norm(fits, axis=1, keepdims=True)
        assert np.allclose(rows @ rows.T, fits @ fits.T, atol=1e-4)
    else:
        assert np.allclose(rows @ rows.T, vectors.rows @ vectors.rows.T, atol=1e-4)
    others = np.setdiff1d(np.arange(len(table)), ids)
    assert torch.equal(table[others], before[others])


def test_phrases_are_one_to_three_words_of_the_vectors(tmp_path: Path) -> None:
    vectors = read_vectors(written(tmp_path))
    phrases = Meanings(vectors, vectors.words, np.zeros(6)).phrases(200, np.random.default_rng(0))
    assert {len(p.split()) for p in phrases} == {1, 2, 3}
    assert {w for p in phrases for w in p.split()} == set(vectors.words)


def test_keywords_come_as_often_as_asked() -> None:
    captions = ("red apple", "fruit, red, sweet, tree", "red apple emoji", "a drawing, red apple")
    generator = np.random.default_rng(0)
    said = [wording(captions, generator, 0.7) for _ in range(2000)]
    lists = np.mean(["apple" not in text for text in said])
    assert lists == pytest.approx(0.7, abs=0.04)
