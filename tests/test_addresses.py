"""Addresses, streams, and files where folders are meant: one line that fits, whatever the argument, and nothing waits for them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import visus
from visus.errors import DataError, SpecError, VisusError
from visus.images import load_images
from visus.models import load_backbone
from visus.spec import check_address, parse_spec

SAVE = "is an address, and visus fetches nothing from it; save it"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.com/cat.jpg", SAVE),
        ("HTTP://example.com/set.zip?x=1&y", SAVE),
        ("s3://bucket/photos", SAVE),
        ("gs://bucket/model", SAVE),
        ("data:image/png;base64,iVBORw0KGgo=", SAVE),
        ("file:///data/my%20photos", "write the path alone: /data/my photos"),
        ("https://huggingface.co/datasets/beans/small", "write hf:beans/small"),
        ("https://huggingface.co/google/vit-base/tree/main", "write hf:google/vit-base"),
        ("hf://datasets/beans/small", "write hf:beans/small"),
        ("-", "is a stream, which can be read once only"),
        ("/dev/stdin", "is a stream"),
        ("/dev/fd/63", "is a stream"),
        ("/dev/null", "is a pipe or a device"),
    ],
)
def test_what_is_neither_file_nor_folder_is_said(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_address(text)
    assert said in str(caught.value)
    for load in (
        load_images,
        load_backbone,
        lambda t: parse_spec(t, ("folder",)),
        lambda t: load_images("visus:digits", labels=t),
    ):
        with pytest.raises(SpecError) as again:
            load(text)  # type: ignore[operator]
        assert said in str(again.value)


PATHS = (
    "photos",
    "C:/photos",
    "C://photos",
    "folder:/data",
    "python:module:Class",
    "hf:owner/name",
    "a-b",
    "data:x",
    "x" * 9000,
    "a\0b",
)


@pytest.mark.parametrize("text", PATHS, ids=range(len(PATHS)))
def test_paths_and_specs_are_no_addresses(text: str) -> None:
    check_address(text)


def test_an_address_behind_a_scheme_or_an_option() -> None:
    for text in (
        "folder:https://example.com/x",
        "folder:x?labels=https://example.com/x.csv",
        "python:a:B?weights=s3://b/w.pt",
    ):
        with pytest.raises(SpecError, match="visus fetches nothing"):
            parse_spec(text, ("folder", "python"))


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("predict", {"images": ["{}"]}),
    ("predict", {"images": ["visus:digits"], "model": "{}"}),
    ("extract", {"images": "{}"}),
    ("transfer", {"images": "{}"}),
    ("transfer", {"images": "visus:digits", "model": ["{}"]}),
    ("transfer", {"images": "visus:digits", "labels": "{}"}),
    ("vit", {"images": "visus:digits", "image": ["{}"]}),
    ("vit", {"images": "visus:digits", "meanings": "{}"}),
    ("clip", {"embeddings": "{}"}),
    ("clip", {"images": "visus:digits", "synonyms": "{}"}),
    ("vae", {"images": "{}"}),
    ("vae", {"checkpoint": "{}"}),
    ("vae", {"features": "{}"}),
    ("train", {"kind": "clip", "images": "visus:digits", "vectors": "{}", "out": "never"}),
    ("train", {"kind": "vit", "images": "visus:digits", "teacher": "{}", "out": "never"}),
]


@pytest.mark.parametrize(("study", "given"), CALLS, ids=[f"{s} {' '.join(g)}" for s, g in CALLS])
def test_every_command_says_it_before_anything_waits(
    study: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for text, said in (
        ("https://example.com/x", "fetches nothing"),
        ("-", "is a stream"),
        ("pipe", "is a pipe"),
        ("", "is empty|empty spec"),
    ):
        filled = {k: [text] if v == ["{}"] else text if v == "{}" else v for k, v in given.items()}
        with pytest.raises(VisusError, match=said) as caught:
            getattr(visus, study)(**filled)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_file_where_a_folder_is_meant_is_told_by_what_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.jpg")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("a.txt", "a")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
    (tmp_path / "table.csv").write_text("name,label\n")
    (tmp_path / "note.ipynb").write_text("{}")
    for name, said in (
        ("one.jpg", "is one image, not a folder of images; give the folder that it lies in"),
        ("all.zip", "an archive; unpack it"),
        ("film.mp4", "a video; save its frames"),
        ("table.csv", "a table of labels beside it as --labels"),
        ("note.ipynb", "is a file, not a folder of images: not an image"),
    ):
        with pytest.raises(DataError) as caught:
            load_images(str(tmp_path / name))
        assert said in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_the_home_of_a_user_whom_nobody_knows_is_a_path_that_is_not_there() -> None:
    unknown = "~nobody-of-this-name/x"
    for load in (
        load_images,
        load_backbone,
        visus.load_dual,
        lambda t: visus.vae(checkpoint=t),
        lambda t: load_images("tests", labels=t),
    ):
        with pytest.raises(VisusError) as caught:
            load(unknown)
        assert "\n" not in str(caught.value)
        assert unknown in str(caught.value)
