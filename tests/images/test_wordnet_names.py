"""Folders named by WordNet ids, as ImageNet and its subsets come: their classes have names in every study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.images import ImageSet, load_images
from visus.images import wordnet_names as module
from visus.wordnet import ids_of_imagenet, is_id, names_for, synonyms

IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
}


def pictures(root: Path, folders: list[str], n: int = 3, inside: str = "") -> None:
    for k, folder in enumerate(folders):
        place = root / folder / inside
        place.mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng(10 * k + i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{folder[:9]}_{i}.png")


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    said: list[str] = []
    for name in ("note", "caution"):
        monkeypatch.setattr(module, name, said.append)
    return said


def test_imagenette_has_names_in_both_of_its_splits(tmp_path, heard) -> None:
    for split in ("train", "val"):
        pictures(tmp_path / split, list(IMAGENETTE))
    found = load_images(str(tmp_path))
    assert found.classes == tuple(IMAGENETTE.values())
    assert found.wordnet == tuple(IMAGENETTE)
    assert set(found.declared) == {"train", "validation"}
    assert [found.classes[found.labels[i]] for i, name in enumerate(found.ids) if "n02979186" in name] == [
        "cassette player"
    ] * 6
    assert heard == ["classes: 4 WordNet ids, named by WordNet (n01440764 is tench)"]
    assert found.subset(np.arange(4)).wordnet == found.wordnet


def test_tiny_imagenets_folders_hold_their_pictures_one_level_deeper(tmp_path) -> None:
    pictures(tmp_path / "train", list(IMAGENETTE), inside="images")
    (tmp_path / "words.txt").write_text(
        "n00001740\tentity\nn01440764\ttench, Tinca tinca\nn02102040\tspringer of ours\n"
    )
    found = load_images(str(tmp_path / "train"))
    assert found.classes == ("tench", "springer of ours", "cassette player", "chain saw")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LOC_synset_mapping.txt", "n01440764 my fish, other\nn02102040 my dog\n"),
        ("synset_words.txt", "n01440764 my fish, other\r\nn02102040 my dog\r\n"),
        ("map_clsloc.txt", "n01440764 449 my_fish\nn02102040 450 my_dog\n"),
        ("Labels.json", json.dumps({"n01440764": "my fish, other", "n02102040": "my dog"})),
        ("imagenet_class_index.json", json.dumps({"0": ["n01440764", "my_fish"], "1": ["n02102040", "my_dog"]})),
    ],
)  # fmt: skip
def test_the_list_beside_the_pictures_comes_first(tmp_path, name: str, text: str) -> None:
    pictures(tmp_path / "data" / "CLS-LOC" / "train", ["n01440764", "n02102040"])
    (tmp_path / name).write_text(text)
    assert load_images(str(tmp_path / "data" / "CLS-LOC" / "train")).classes == ("my fish", "my dog")


def test_a_name_behind_the_id_is_taken(tmp_path) -> None:
    pictures(tmp_path, ["n02085620-Chihuahua", "n02102040-English_springer"])
    found = load_images(str(tmp_path))
    assert found.classes == ("Chihuahua", "English springer")
    assert found.wordnet == ("n02085620", "n02102040")


def test_ids_in_a_label_file_are_named_and_ids_that_nobody_knows_are_said(tmp_path, heard) -> None:
    pictures(tmp_path, ["n01440764", "n99999999"])
    found = load_images(str(tmp_path))
    assert found.classes == ("tench", "n99999999")
    assert any("1 of 2 WordNet ids have no words (n99999999)" in h for h in heard)
    flat = tmp_path / "flat"
    flat.mkdir()
    for k, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.rename(flat / f"{k}.png")
    rows = "".join(f"{k},n0{1440764 if k < 3 else 2102040}\n" for k in range(6))
    (tmp_path / "labels.csv").write_text("ImageId,PredictionString\n".replace("PredictionString", "label") + rows)
    assert load_images(str(flat), labels=str(tmp_path / "labels.csv")).classes == ("tench", "English springer")


def test_numbers_are_ids_where_a_list_beside_the_pictures_says_so(tmp_path, heard) -> None:
    pictures(tmp_path / "v2", ["0", "10", "2"])
    assert load_images(str(tmp_path / "v2")).classes == ("0", "10", "2")
    index = {str(i): [name, "a_word"] for i, name in enumerate(ids_of_imagenet())}
    text = json.dumps({**index, "2": ["n01484850", "my_shark"]})
    (tmp_path / "imagenet_class_index.json").write_text(text)  # above: of other pictures, and these may be digits
    assert load_images(str(tmp_path / "v2")).classes == ("0", "10", "2")
    assert not heard
    (tmp_path / "v2" / "imagenet_class_index.json").write_text(text)
    found = load_images(str(tmp_path / "v2"))
    assert found.wordnet == tuple(ids_of_imagenet()[i] for i in (0, 10, 2))
    assert found.classes[2] == "my shark"
    assert any("read as the positions" in h for h in heard)


def test_a_thousand_numbers_without_a_list_stay_and_are_said(tmp_path, heard) -> None:
    pictures(tmp_path / "v2", ["0", "1"])
    images = replace(load_images(str(tmp_path / "v2")), classes=tuple(sorted(map(str, range(1000)))))
    assert module.with_names(images, tmp_path).classes == images.classes
    assert any("imagenet_class_index.json" in h for h in heard)


def test_other_names_stay(tmp_path, heard) -> None:
    pictures(tmp_path, ["n1", "nails", "n014407641"])
    found: ImageSet = load_images(str(tmp_path))
    assert found.classes == ("n014407641", "n1", "nails")
    assert found.wordnet == ()
    assert not heard


def test_imagenets_thousand_names_are_all_different() -> None:
    ids = ids_of_imagenet()
    names = names_for(ids)
    assert len(ids) == len({n.casefold() for n in names}) == 1000
    by_id = dict(zip(ids, names, strict=True))
    assert (by_id["n02012849"], by_id["n03126707"], by_id["n03710721"]) == (
        "crane bird",
        "construction crane",
        "tank suit",
    )
    assert not any("(" in n for n in names)
    assert synonyms("n01440764") == "tench, Tinca tinca"
    assert not is_id("n0144076")
    assert names_for(["n99999998", "cat", "Cat"]) == ("n99999998", "cat", "Cat")
    assert names_for(["n01440764", "Tench"]) == ("Tinca tinca", "Tench")
    assert names_for(["n00005787", "Benthos"]) == ("benthos (n00005787)", "Benthos")


def test_clips_prompts_are_made_of_the_names(tmp_path) -> None:
    from visus.studies.clip.encoding import wordings_of

    pictures(tmp_path, list(IMAGENETTE)[:2])
    assert wordings_of(load_images(str(tmp_path)).classes, None) == [("tench",), ("English springer",)]
