"""Captions beside a folder's pictures, as imagefolder has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from visus.errors import DataError
from visus.images import load_images
from visus.progress import collecting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "sub/b.png", "c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / name)
    return tmp_path


def test_rows_of_a_csv_become_captions_in_their_order(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        'file_name,text\nsub/b.png,"a dog, running"\na.png,a cat\na.png, \na.png,a kitten\n'
    )
    images = load_images(f"folder:{folder}?labels={_labels(folder)}")
    said = dict(zip(images.ids, images.captions or (), strict=True))
    assert said == {"a.png": ("a cat", "a kitten"), "sub/b.png": ("a dog, running",), "c.png": ()}
    assert not images.quarantine
    assert images.subset([0]).captions == (("a cat", "a kitten"),)


def test_json_lines_may_hold_several_texts(folder: Path) -> None:
    rows = [{"file_name": "a.png", "text": ["one", "two"]}, {"file_name": "c.png", "text": "three"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    images = load_images(f"folder:{folder}?labels={_labels(folder)}")
    assert dict(zip(images.ids, images.captions or (), strict=True))["a.png"] == ("one", "two")


def test_metadata_without_texts_gives_none_and_damaged_metadata_says_so(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,size\na.png,8\n")
    assert load_images(f"folder:{folder}?labels={_labels(folder)}").captions is None
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png"')
    with pytest.raises(DataError, match=r"metadata\.jsonl cannot be read"):
        load_images(f"folder:{folder}?labels={_labels(folder)}")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_groups_of_the_metadata(folder: Path, form: str) -> None:
    rows = [
        {"file_name": "sub\\b.png", "group": 7},
        {"file_name": "./a.png", "group": 7},
        {"file_name": "c.png", "group": ""},
    ]
    text = "\n".join(map(json.dumps, rows))
    if form == "csv":
        text = "file_name,group\n" + "".join(f"{r['file_name']},{r['group']}\n" for r in rows)
    (folder / f"metadata.{form}").write_text(text)
    images = load_images(f"folder:{folder}?labels={_labels(folder)}")
    assert images.groups is not None
    at = dict(zip(images.ids, images.groups.tolist(), strict=True))
    assert at["a.png"] == at["sub/b.png"] != at["c.png"]
    assert images.captions is None
    assert load_images(f"folder:{folder}?labels={_labels(folder)}&groups=").groups is None


def test_metadata_lies_in_the_folder_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / f"{i}.png")
        (tmp_path / split / "metadata.jsonl").write_text(
            "".join(
                json.dumps({"file_name": f"{i}.png", "text": f"{split} {i}", "group": f"{split}{i}"}) + "\n"
                for i in range(2)
            )
        )
    images = load_images(str(tmp_path))
    assert dict(zip(images.ids, images.captions or (), strict=True))["test/1.png"] == ("test 1",)
    assert images.groups is not None
    assert len(set(images.groups.tolist())) == 4
    assert set(images.declared) == {"train", "test"}
    (tmp_path / "test" / "metadata.jsonl").write_text(
        '{"file_name": "0.png", "group": "a"}\n{"file_name": "0.png", "group": "b"}\n'
    )
    with pytest.raises(DataError, match="two groups, 'a' and 'b'"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_labels_of_the_metadata_where_no_folder_is_a_class(tmp_path: Path, form: str) -> None:
    for i in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    text = "file_name,text,label\n" + "".join(f"{i}.png,a picture {i},{'ab'[i % 2]}\n" for i in range(4))
    if form == "jsonl":
        rows = [{"file_name": f"{i}.png", "text": f"a picture {i}", "label": "ab"[i % 2]} for i in range(4)]
        text = "\n".join(map(json.dumps, rows))
    (tmp_path / f"metadata.{form}").write_text(text)
    with collecting() as said:
        images = load_images(str(tmp_path))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert images.captions is not None
    assert images.captions[3] == ("a picture 3",)
    assert (
        f"labels: column `label` of metadata.{form}, 4 of 4 rows matched by `file_name`; ignored: `text`" in said.notes
    )
    assert load_images(str(tmp_path), label_column="label", groups="text").groups is not None
    for i in range(4):  # class folders are classes, whatever metadata say
        (tmp_path / "cd"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / f"{i}.png").rename(tmp_path / "cd"[i % 2] / f"{i}.png")
    assert load_images(str(tmp_path)).classes == ("c", "d")


def _labels(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}.csv"
    path.write_text("name,label\na.png,x\nsub/b.png,y\nc.png,x\n")
    return path


def test_groups_in_metadata_beside_class_folders(tmp_path: Path) -> None:
    files = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)]
    for i, file in enumerate(files):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (9 * i, 0, 0)).save(tmp_path / file)

    def written(header: str) -> None:
        rows = "".join(f"{file},{i // 2}\n" for i, file in enumerate(files))
        (tmp_path / "metadata.csv").write_text(f"file_name,{header}\n{rows}")

    for header, groups in (("Group", None), ("patient_id", "Patient ID")):
        written(header)
        with collecting() as said:
            images = load_images(str(tmp_path), groups=groups)
        assert images.classes == ("cat", "dog")
        assert images.groups is not None
        assert images.groups.tolist() == [i // 2 for i in range(12)]
        assert not said.cautions
    with collecting() as said:  # nobody asked for patients, and nobody shall overlook them
        images = load_images(str(tmp_path))
    assert images.groups is None
    assert any("`patient_id` of metadata.csv has 6 values in 12 rows" in c for c in said.cautions)


def test_groups_of_metadata_with_classes_are_not_warned_of(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("RGB", (4, 4), (9 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = "".join(f"{i}.png,{'cd'[i % 2]},{i // 2}\n" for i in range(8))
    (tmp_path / "metadata.csv").write_text(f"file_name,label,group\n{rows}")
    with collecting() as said:
        images = load_images(str(tmp_path))
    assert images.classes == ("c", "d")
    assert images.groups is not None
    assert len(set(images.groups.tolist())) == 4
    assert not said.cautions
