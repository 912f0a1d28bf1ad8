"""Folders laid out by splits, whatever they are called; folders that may be splits or classes are asked about."""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.errors import DataError, SpecError
from visus.images import ImageSet, load_images
from visus.progress import Remarks, collecting

Load = Callable[..., tuple[ImageSet, Remarks]]


@functools.cache
def image() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """load(files, options, ...): the set of a folder with these pictures, and what was said."""

    def one(files: Sequence[str], options: str = "", **how: object) -> tuple[ImageSet, Remarks]:
        for file in files:
            path = tmp_path / "set" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image() if path.suffix == ".png" else b"text")
        with collecting() as said:
            images = load_images(f"folder:{tmp_path / 'set'}{options}", **how)  # type: ignore[arg-type]
        return images, said

    return one


def tree(*folders: str, n: int = 2) -> list[str]:
    return [f"{folder}/{i}.png" for folder in folders for i in range(n)]


def classed(*tops: str, classes: Sequence[str] = ("cat", "dog")) -> list[str]:
    return tree(*(f"{top}/{c}" for top in tops for c in classes))


def declared(images: ImageSet) -> dict[str, set[str]]:
    """split -> the folders that its pictures lie in."""
    return {split: {images.ids[i].rpartition("/")[0] for i in at} for split, at in images.declared.items()}


def of(images: ImageSet) -> dict[str, str]:
    """folder -> class."""
    assert images.labels is not None
    return {i.rpartition("/")[0]: images.classes[k] for i, k in zip(images.ids, images.labels, strict=True)}


NAMES = {
    "Training, Test": {"Training": "train", "Test": "test"},
    "Training, Testing": {"Training": "train", "Testing": "test"},
    "TRAIN, Valid": {"TRAIN": "train", "Valid": "validation"},
    "train, eval": {"train": "train", "eval": "test"},
    "train, eval, test": {"train": "train", "eval": "validation", "test": "test"},
    "dev, test": {"dev": "train", "test": "test"},
    "train, dev, test": {"train": "train", "dev": "validation", "test": "test"},
    "years": {"train2017": "train", "val2017": "validation"},
    "Training Data": {"Training Data": "train", "Test Data": "test"},
    "set behind": {"train_set": "train", "test_set": "test"},
    "camel case": {"trainImages": "train", "testImages": "test"},
    "numbers before": {"01_train": "train", "02_test": "test"},
    "a name of the set": {"chest_xray_train": "train", "chest_xray_test": "test"},
    "hyphens": {"wild-train": "train", "wild-val": "validation", "wild-test": "test"},
    "evaluation": {"training": "train", "validation": "validation", "evaluation": "test"},
    "together": {"trainset": "train", "testset": "test"},
    "trainval": {"trainval": "train", "test": "test"},
}  # fmt: skip


@pytest.mark.parametrize("tops", NAMES.values(), ids=NAMES.keys())
def test_splits_by_name(load: Load, tops: dict[str, str]) -> None:
    images, said = load(classed(*tops))
    assert images.classes == ("cat", "dog")
    want: dict[str, set[str]] = {}
    for top, split in tops.items():
        want.setdefault(split, set()).update({f"{top}/cat", f"{top}/dog"})
    assert declared(images) == want
    assert said.notes[0].startswith("splits: ")
    assert not said.cautions


def test_intel_nested_and_a_part_without_labels(load: Load) -> None:
    files = classed("seg_train/seg_train", "seg_test/seg_test") + tree("seg_pred/seg_pred", n=3)
    images, said = load(files)
    assert declared(images) == {
        "train": {"seg_train/seg_train/cat", "seg_train/seg_train/dog"},
        "test": {"seg_test/seg_test/cat", "seg_test/seg_test/dog"},
    }
    assert images.classes == ("cat", "dog")
    assert said.cautions[0].startswith("3 pictures lie outside the class folders and are left out: seg_pred/")
    assert {q.id for q in images.quarantine} == {f"seg_pred/seg_pred/{i}.png" for i in range(3)}
    everything, _ = load(files, classes="unused")
    assert len(everything) == 11


def test_wrapped_once_and_more(load: Load) -> None:
    images, _ = load([*classed("PlantVillage/data/train", "PlantVillage/data/test"), "PlantVillage/README.md"])
    assert set(declared(images)) == {"train", "test"}
    assert images.classes == ("cat", "dog")


def test_tiny_imagenet(load: Load) -> None:
    files = [
        *tree("train/n01/images", "train/n02/images", "val/images", "test/images"),
        "val/val_annotations.txt",
        "wnids.txt",
    ]
    images, said = load(files)
    assert images.classes == ("n01", "n02")
    assert declared(images) == {"train": {"train/n01/images", "train/n02/images"}}
    assert said.cautions[0].startswith("4 pictures lie outside the class folders and are left out: test/images/")


@pytest.mark.parametrize(
    ("files", "classes", "splits"),
    [
        (
            [*classed("chest_xray/train", "chest_xray/test"), *classed("chest_xray/chest_xray/train")],
            ("cat", "dog"),
            {"train", "test"},
        ),
        ([*tree("images/train", "images/val"), "labels/train/0.txt", "labels/val/0.txt"], (), {"train", "validation"}),
        (classed("ILSVRC/Data/CLS-LOC/train") + tree("ILSVRC/Data/CLS-LOC/val"), ("cat", "dog"), {"train"}),
        (classed("Train") + tree("Test", "Meta"), ("cat", "dog"), {"train"}),
        (
            [*classed("data/train", "data/test"), "src/train.py", "models/a.pt", "README.md"],
            ("cat", "dog"),
            {"train", "test"},
        ),
        (classed("train", "test") + tree("train/extra"), ("cat", "dog", "extra"), {"train", "test"}),
        (classed("train") + tree("test/cat"), ("cat", "dog"), {"train", "test"}),
        (tree("train/cat", "test/cat"), ("cat",), {"train", "test"}),
    ],
)
def test_layouts_as_they_are_published(
    load: Load, files: list[str], classes: tuple[str, ...], splits: set[str]
) -> None:
    images, _ = load(files)
    assert images.classes == classes
    assert set(images.declared) == splits


def test_images_folders_within_splits(load: Load) -> None:
    images, _ = load(classed("train/images", "test/images"))
    assert images.classes == ("cat", "dog")
    assert set(declared(images)) == {"train", "test"}


def test_a_single_class_in_a_split_is_no_wrapping(load: Load) -> None:
    images, said = load(tree("train/cat/2019", "train/cat/2020", "train/dog/2019", "test/cat/2019", "test/cat/2020"))
    assert images.classes == ("cat", "dog")
    assert not said.cautions
    with collecting() as said:
        images.split(seed=0)
    assert "1 of 2 classes stand in the training images only" in said.cautions[0]


def test_one_wrapping_folder_of_classes(load: Load) -> None:
    images, _ = load(classed("images"))
    assert images.classes == ("cat", "dog")
    assert not images.declared


def test_class_folders_that_hold_splits(load: Load) -> None:
    images, said = load(classed("cat", "dog", classes=("train", "test")))
    assert images.classes == ("cat", "dog")
    assert declared(images) == {"train": {"cat/train", "dog/train"}, "test": {"cat/test", "dog/test"}}
    assert of(images)["cat/test"] == "cat"
    assert "within each of 2 class folders" in said.notes[0]


ASKED = {
    "classes by year": (("cat", "dog"), ("2019", "2020")),
    "sessions": (("sessionA", "sessionB"), ("cat", "dog")),
    "patients": (tuple(f"{i:03d}" for i in range(12)), ("0", "1")),
    "train beside what means nothing": (("train", "plane"), ("a", "b")),
    "artists": (("noto", "twemoji", "openmoji"), ("face", "flag", "food")),
    "cross-validation": (("fold1", "fold2", "fold3"), ("cat", "dog")),
    "other languages": (("lernen", "prüfen"), ("hund", "katze")),
}


@pytest.mark.parametrize(("tops", "inside"), ASKED.values(), ids=ASKED.keys())
def test_what_cannot_be_told_is_asked(load: Load, tops: Sequence[str], inside: Sequence[str]) -> None:
    files = classed(*tops, classes=inside)
    with pytest.raises(DataError, match=r"which are the classes\?") as caught:
        load(files)
    line = str(caught.value)
    assert "\n" not in line
    for part in (min(tops), inside[0], "?train=", "?classes=top"):
        assert part in line
    images, said = load(files, classes="wanted")
    assert images.labels is None
    assert len(images) == len(files)
    assert "without classes" in said.cautions[0]
    assert len(load(files, classes="unused")[0]) == len(files)
    assert load(files, "?classes=top")[0].classes == tuple(sorted(tops))
    images, said = load(files, "?classes=sub")
    assert images.classes == tuple(sorted(inside))
    assert "?groups=top" in said.cautions[0]
    grouped, said = load(files, "?classes=sub&groups=top")
    assert grouped.groups is not None
    assert len(set(grouped.groups.tolist())) == len(tops)
    assert not said.cautions


def test_the_larger_folder_is_proposed_for_training(load: Load) -> None:
    with pytest.raises(DataError, match=r"\?train=zwei&test=eins where"):
        load(classed("eins") + tree("zwei/cat", "zwei/dog", n=5))


def test_folders_that_hold_others_in_part_are_classes(load: Load) -> None:
    """Deep class folders whose subfolders have names of their own, or pictures beside them."""
    images, _ = load(tree("cat/siamese", "cat/persian", "dog/pug", "dog/poodle"))
    assert images.classes == ("cat", "dog")
    images, _ = load(tree("cat", "dog", "cat/close", "dog/close", "cat/far", "dog/far"))
    assert images.classes == ("cat", "dog")
    assert load(tree("cat/images", "dog/images"))[0].classes == ("cat", "dog")


@pytest.mark.parametrize(
    "tops",
    [("bullet_train", "steam_train"), ("train", "car"), ("valid", "invalid"), ("test tube", "flask"), ("dev", "prod")],
)
def test_classes_with_such_words(load: Load, tops: tuple[str, ...]) -> None:
    images, _ = load(tree(*tops))
    assert images.classes == tuple(sorted(tops))
    assert not images.declared


def test_said_outright(load: Load) -> None:
    files = classed("sessionA", "deep/sessionB", "other")
    images, said = load(files, "?train=sessionA&test=deep/sessionB")
    assert declared(images) == {
        "train": {"sessionA/cat", "sessionA/dog"},
        "test": {"deep/sessionB/cat", "deep/sessionB/dog"},
    }
    assert images.classes == ("cat", "dog")
    assert said.notes == ["splits: sessionA/ is train, deep/sessionB/ is test"]
    assert "4 pictures lie outside the class folders and are left out: other/" in said.cautions[0]
    images, _ = load(files, "?train=sessionA&val=other&test=deep/")
    assert set(declared(images)) == {"train", "validation", "test"}
    with pytest.raises(SpecError, match=r"unknown folder .* 'sesionA'; nearest: sessionA"):
        load(files, "?train=sesionA")
    with pytest.raises(DataError, match="two splits"):
        load(files, "?train=deep&test=deep/sessionB")
    with pytest.raises(DataError, match="one of them"):
        load(files, "?val=sessionA&validation=other")
    with pytest.raises(DataError, match="neither top nor sub"):
        load(files, "?classes=bottom")


def test_two_folders_for_a_split(load: Load) -> None:
    with pytest.raises(DataError, match=r"two train folders, Training and train.*\?train=FOLDER"):
        load(classed("train", "Training", "test"))


def test_splits_without_class_folders(load: Load, tmp_path: Path) -> None:
    files = tree("Train", "Test", n=4)
    images, _ = load(files)
    assert images.labels is None
    assert declared(images) == {"train": {"Train"}, "test": {"Test"}}
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{f},{'ab'[i % 2]}\n" for i, f in enumerate(files)))
    images, said = load(files, labels=table)
    assert declared(images) == {"train": {"Train"}, "test": {"Test"}}
    assert images.classes == ("a", "b")
    table.write_text(
        "path,label,split\n"
        + "".join(f"{f},{'ab'[i % 2]},{('train', 'test')[i // 2 % 2]}\n" for i, f in enumerate(files))
    )
    images, said = load(files, labels=table)
    assert [images.ids[i] for i in images.declared["train"]] == [
        "Test/0.png",
        "Test/1.png",
        "Train/0.png",
        "Train/1.png",
    ]
    assert "4 images are of one split by labels.csv and of another by their folder" in said.cautions[0]


def test_imagenets_validation_folder(load: Load, tmp_path: Path) -> None:
    files = [f"ILSVRC2012_val_{i:08d}.png" for i in range(6)]
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text(
        "ImageId,PredictionString\n" + "".join(f"{f[:-4]},n0{1 + i % 2} 1 2 3 4 \n" for i, f in enumerate(files))
    )
    images, _ = load(files, labels=table)
    assert images.classes == ("n01", "n02")


def test_train_flat_and_test_flat_beside_another(load: Load) -> None:
    with pytest.raises(DataError, match=r"some are named as splits|some are named"):
        load(tree("train", "test", "car"))


def test_what_lies_beside_the_splits(load: Load) -> None:
    images, said = load([*classed("train", "test"), *tree("unlabeled", n=5), "annotations/a.xml", "test/stray.png"])
    assert set(declared(images)) == {"train", "test"}
    assert len(images) == 8
    assert said.cautions[0].startswith("6 pictures lie outside the class folders and are left out")
    assert {q.reason for q in images.quarantine if q.id.startswith("unlabeled")} == {
        "outside the split folders test, train"
    }


def test_a_test_folder_without_classes(load: Load) -> None:
    images, said = load([*classed("train"), *tree("test", n=3)])
    assert images.classes == ("cat", "dog")
    assert "3 pictures lie outside the class folders" in said.cautions[0]
    assert not len(images.declared.get("test", np.empty(0)))


def test_class_names_in_two_cases_and_two_forms(load: Load) -> None:
    images, said = load(classed("train", classes=("Cat", "Dog")) + classed("test", classes=("cat", "dog")))
    assert images.classes == ("Cat", "Dog")
    assert of(images)["test/cat"] == "Cat"
    assert said.cautions == [
        "class names 'Cat' and 'cat' differ in case only, and no split holds both: taken as one class, Cat.",
        "class names 'Dog' and 'dog' differ in case only, and no split holds both: taken as one class, Dog.",
    ]


def test_letters_in_both_cases_are_two_classes(load: Load) -> None:
    images, said = load(classed("train", "test", classes=("A", "a", "b")))
    assert images.classes == ("A", "a", "b")
    assert said.cautions == ["class names 'A' and 'a' differ in case only: taken as 2 classes."]


def test_unicode_forms_are_one_class(load: Load) -> None:
    files = classed("train", classes=(unicodedata.normalize("NFC", "café"), "tea"))
    files += classed("test", classes=(unicodedata.normalize("NFD", "café"), "tea"))
    images, said = load(files)
    assert images.classes == (unicodedata.normalize("NFC", "café"), "tea")
    assert "Unicode form or spaces only: taken as one class, café" in said.cautions[0]


def test_classes_in_one_split_only_are_said_when_split(load: Load) -> None:
    images, _ = load(classed("train", "test") + tree("train/emu", "test/fox", "test/gnu"))
    with collecting() as said:
        images.split(seed=0)
    assert [c.partition(": ")[2] for c in said.cautions] == [
        "2 of 5 classes stand in the test images only: no model can learn them ('fox', 'gnu').",
        "1 of 5 classes stand in the training images only: nothing is tested on them ('emu').",
    ]


def test_a_few_pictures_beside_a_folder_that_wraps_the_splits(load: Load) -> None:
    images, said = load([*classed("Data/Train", "Data/Test"), *tree("Data/Train/cat", n=9), "logo.png"])
    assert declared(images).keys() == {"train", "test"}
    assert images.classes == ("cat", "dog")
    assert any("logo.png" in c for c in said.cautions)
    with pytest.raises(DataError, match="train=Training&test=Pruefung"):
        load([f"other/{file}" for file in classed("Pruefung", "Training")], "/other")
