"""The emoji set: what the file holds, that its splits do not leak, and what the loader makes of it."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visus.errors import SpecError, StoreError
from visus.images import emoji
from visus.images.base import ImageSet
from visus.images.emoji import CLASSES, EmojiSource, emoji_file, load_emoji
from visus.spec import parse_spec

SIDES = ("train", "validation", "test")


def load(text: str = "visus:emoji") -> ImageSet:
    return load_emoji(parse_spec(text, ["visus"]))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return pq.read_table(emoji_file()).to_pylist()


@pytest.fixture(scope="module")
def pixels(rows: list[dict[str, Any]]) -> np.ndarray:
    """Every picture, uint8 [n, 64, 64, 3]; opening fails loudly when one is not 64 x 64 RGB."""
    return np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows])


def sides_of(rows: list[dict[str, Any]], key: str, split: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row[key]].add(row[split])
    return found


def test_counts(rows: list[dict[str, Any]]) -> None:
    assert len(rows) > 9_500
    assert len({row["artist"] for row in rows}) == 7
    assert len({row["hexcode"] for row in rows}) > 1_880
    assert emoji_file().stat().st_size < 19e6
    assert all(row["name"] and row["emoji"] and row["group"] and row["subgroup"] and row["licence"] for row in rows)
    assert len({(row["artist"], row["hexcode"]) for row in rows}) == len(rows)
    assert {row["class"] for row in rows} == {*CLASSES, None}


def test_every_picture_is_64_by_64_and_shows_something(pixels: np.ndarray) -> None:
    assert pixels.shape[1:] == (64, 64, 3)
    assert pixels.dtype == np.uint8
    flat = pixels.reshape(len(pixels), -1)
    assert (flat.max(1).astype(int) - flat.min(1) >= 24).all()


def test_no_two_pictures_have_the_same_pixels(pixels: np.ndarray) -> None:
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_no_near_copy_of_a_held_out_picture_by_one_hand(rows: list[dict[str, Any]], pixels: np.ndarray) -> None:
    # Independent of the builder's own distance: the largest difference of any 8 x 8 block mean, not a root mean square.
    small = pixels.reshape(len(pixels), 8, 8, 8, 8, 3).mean((2, 4)).reshape(len(pixels), -1)
    for split in ("split_artist", "split_concept"):
        side = np.array([row[split] for row in rows])
        train = small[side == "train"]
        for held in small[side != "train"][::7]:
            assert np.abs(train - held).max(1).min() > 1.0


def test_the_artist_split_keeps_hands_apart(rows: list[dict[str, Any]]) -> None:
    assert all(len(sides) == 1 for sides in sides_of(rows, "hand", "split_artist").values())
    assert sides_of(rows, "artist", "split_artist")["twemoji"] == {"test"}
    hands = {row["artist"]: row["hand"] for row in rows}
    assert hands["noto"] == hands["noto-v1"]
    assert hands["fluent-emoji"] == hands["fluent-emoji-flat"]


def test_the_concept_split_keeps_emoji_and_near_twins_apart(rows: list[dict[str, Any]]) -> None:
    assert all(len(sides) == 1 for sides in sides_of(rows, "hexcode", "split_concept").values())
    assert all(len(sides) == 1 for sides in sides_of(rows, "concept", "split_concept").values())
    emoji_of = Counter({row["hexcode"]: row["split_concept"] for row in rows}.values())
    shares = [emoji_of[side] / sum(emoji_of.values()) for side in SIDES]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


@pytest.mark.parametrize(
    "twins",
    [
        ("one o’clock", "six-thirty"),
        ("keycap: 3", "keycap: 8"),
        ("woman golfing", "man golfing", "person golfing"),
        ("full moon", "waning crescent moon"),
        ("red heart", "green heart"),
        ("dog face", "dog"),
        ("family: man, woman, boy", "family: woman, girl"),
    ],
)
def test_near_twins_share_a_concept(rows: list[dict[str, Any]], twins: tuple[str, ...]) -> None:
    concepts = {row["name"]: row["concept"] for row in rows}
    assert len({concepts[name] for name in twins}) == 1


def test_every_class_is_on_every_side_of_both_splits(rows: list[dict[str, Any]]) -> None:
    for split in ("split_artist", "split_concept"):
        sizes = Counter((row["class"], row[split]) for row in rows if row["task"])
        assert min(sizes[c, side] for c in CLASSES for side in SIDES) >= 3


def test_the_task_holds_whole_emoji_and_caps_the_large_classes(rows: list[dict[str, Any]]) -> None:
    assert all(len(task) == 1 for task in sides_of(rows, "hexcode", "task").values())
    sizes = Counter(row["class"] for row in rows if row["task"])
    whole = Counter(row["class"] for row in rows)
    capped = ("person", "face", "flag")
    cap = max(sizes[c] for c in CLASSES if c not in capped)
    assert all(sizes[c] == whole[c] for c in CLASSES if c not in capped)
    assert all(cap - 7 <= sizes[c] <= cap for c in capped if whole[c] > cap)
    assert None not in sizes


def test_classes_are_what_a_person_would_say(rows: list[dict[str, Any]]) -> None:
    classes = {row["name"]: row["class"] for row in rows}
    expected = {
        "grinning cat": "mammal", "grinning face": "face", "hammer": "tool", "snail": None, "fuel pump": None, "bus": "vehicle",
        "spider web": None, "flag: France": "flag", "pizza": "meal", "paw prints": None, "honeybee": "insect", "sushi": "meal",
    }  # fmt: skip
    assert {name: classes[name] for name in expected} == expected


def test_digest_matches_the_pictures(rows: list[dict[str, Any]]) -> None:
    h = hashlib.sha256()
    for row in rows:
        data = row["image"]["bytes"]
        h.update(len(data).to_bytes(8, "little") + data)
    assert EmojiSource(emoji_file()).digest() == h.hexdigest()


def test_attribution_names_every_artist_with_its_licence(rows: list[dict[str, Any]]) -> None:
    lines = (emoji_file().parent / "ATTRIBUTION.md").read_text(encoding="utf-8").splitlines()
    for artist, licence in {(row["artist"], row["licence"]) for row in rows}:
        line = next(line for line in lines if line.startswith(f"| {artist} |"))
        assert licence in line
        assert "https://" in line


def test_datasets_opens_it_with_an_image_feature(tmp_path: Path) -> None:
    data = datasets.load_dataset("parquet", data_files=str(emoji_file()), split="train", cache_dir=str(tmp_path))
    assert isinstance(data.features["image"], datasets.Image)
    assert data[0]["image"].size == (64, 64)
    assert isinstance(data[0]["keywords"], list)


def test_pandas_opens_it(rows: list[dict[str, Any]]) -> None:
    frame = pd.read_parquet(emoji_file())
    assert len(frame) == len(rows)
    assert frame["image"][5]["bytes"] == rows[5]["image"]["bytes"]


def test_loader_aligns_pictures_labels_ids_and_captions(rows: list[dict[str, Any]]) -> None:
    images = load()
    task = [row for row in rows if row["task"]]
    assert len(images) == len(task)
    assert images.classes == tuple(sorted(CLASSES))
    assert images.labels is not None
    assert images.captions is not None
    assert images.labels.dtype == np.int64
    for i in (0, 17, len(task) - 1):
        assert images.classes[images.labels[i]] == task[i]["class"]
        assert images.source.read(int(images.rows[i])) == task[i]["image"]["bytes"]
        assert images.meta["name"][i] == task[i]["name"]
        assert images.captions[i][0].endswith(task[i]["name"].removeprefix("flag: "))
        assert images.ids[i] == f"{task[i]['artist']}/{task[i]['hexcode'].lower()} {task[i]['name']}"
    assert len(set(images.ids)) == len(images)
    assert images.groups is None
    assert sorted(np.concatenate(list(images.declared.values()))) == list(range(len(images)))
    assert {images.meta["artist"][i] for i in images.declared["test"]} == {"twemoji"}


def test_groups_do_not_straddle_the_concept_split(rows: list[dict[str, Any]]) -> None:
    images = load("visus:emoji?split=concept&task=all")
    assert len(images) == len(rows)
    assert images.groups is not None
    seen = [set(images.groups[images.declared[side]]) for side in SIDES]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert images.labels is not None
    assert images.classes[images.labels[0]] == rows[0]["group"]


def test_artist_filter_and_missing_sides() -> None:
    images = load("visus:emoji?artist=noto,twemoji")
    assert set(images.meta["artist"]) == {"noto", "twemoji"}
    assert set(images.declared) == {"train", "test"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("visus:emoji?split=random", "artist"),
        ("visus:emoji?task=alle", "all"),
        ("visus:emoji?artist=twemojy", "twemoji"),
        ("visus:emoji?artist=", "noto"),
        ("visus:emoji?artists=noto", "artist"),
    ],
)
def test_wrong_options_name_the_right_ones(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_loading_reads_no_picture_and_source_pickles_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr(emoji, "read_image_bytes", refuse)
    images = load()
    assert images.fingerprint
    monkeypatch.undo()
    first = images.source.read(0)
    copy = pickle.dumps(images.source)
    assert len(copy) < 1_000
    assert pickle.loads(copy).read(0) == first  # noqa: S301


def test_threads_read_the_same_bytes(rows: list[dict[str, Any]]) -> None:
    source = EmojiSource(emoji_file())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, range(200))) == [row["image"]["bytes"] for row in rows[:200]]


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "emoji.parquet"
    with pytest.raises(StoreError, match="install"):
        EmojiSource(damaged).read(0)
    damaged.write_bytes(emoji_file().read_bytes()[:10_000])
    with pytest.raises(StoreError, match="install"):
        EmojiSource(damaged).digest()
