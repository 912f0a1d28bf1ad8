"""Captions beside a folder's pictures, as imagefolder has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from visus.errors import DataError
from visus.images import load_images


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


def _labels(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}.csv"
    path.write_text("name,label\na.png,x\nsub/b.png,y\nc.png,x\n")
    return path
