"""Folders: every file is used or named with a reason, and labels never shift."""

from __future__ import annotations

import os
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus import paths
from visus.errors import DataError, SpecError
from visus.images import ImageSet, digest, load_images
from visus.images import header as header_module

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make('a/x.png', 3): a picture whose colour tells the number."""

    def one(path: str, number: int = 0, **options: object) -> Path:
        target = tmp_path / "pictures" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20, 5, 5)).save(target, "PNG", **options)
        return target

    return one


def colour(images: ImageSet, i: int) -> int:
    return int(np.asarray(images.decode(i))[0, 0, 0]) // 20


def reasons(images: ImageSet) -> dict[str, str]:
    return {q.id: q.reason for q in images.quarantine}


def test_class_folders(make: Make, tmp_path: Path) -> None:
    for name, number in (("dog", 2), ("Cat", 1), ("10", 0)):
        for i in range(2):
            make(f"{name}/deep/{i}.png", number)
    images = load_images(f"folder:{tmp_path / 'pictures'}")
    assert images.classes == ("10", "Cat", "dog")
    assert images.ids[0] == "10/deep/0.png"
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2] == [colour(images, i) for i in range(6)]
    assert images.quarantine == ()
    assert load_images(str(tmp_path / "pictures")).fingerprint == images.fingerprint
    again = pickle.loads(pickle.dumps(images))  # noqa: S301  (our own bytes)
    assert again.decode(3).getpixel((0, 0)) == images.decode(3).getpixel((0, 0))


def test_bad_files_are_named_and_labels_never_shift(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for number in range(10):
        for i in range(6):
            make(f"{number}/{i}.png", number)
    bad = {
        "0/0.png": b"", "1/1.png": b"no picture", "3/5.png": b"\x89PNG\r\n\x1a\nrubbish", "4/0.png": b"\xff\xd8\xff\xe0\0",
        "9/5.png": b"%PDF-1.7 something", "2/zz.txt": b"some notes",
    }  # fmt: skip
    for name, data in bad.items():
        (root / name).write_bytes(data)
    (root / "5" / "dangling.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "6" / "pipe.png")
    (root / "7" / "folder.jpg").mkdir()
    (root / "empty").mkdir()
    (root / "stray.png").write_bytes((root / "8" / "0.png").read_bytes())
    for junk in ("8/Thumbs.db", "8/.DS_Store", ".hidden/x.png", "8/.x.png"):
        (root / junk).parent.mkdir(exist_ok=True)
        (root / junk).write_bytes(b"junk")
    images = load_images(str(root))
    named = reasons(images)
    assert set(named) == {*bad, "5/dangling.png", "6/pipe.png", "empty/", "stray.png"}
    assert named["0/0.png"] == "empty file"
    assert named["1/1.png"] == "not an image"
    assert named["5/dangling.png"] == "broken link"
    assert named["6/pipe.png"] == "not a file"
    assert named["empty/"] == "empty class folder"
    assert named["stray.png"] == "outside the class folders"
    assert images.classes == tuple("0123456789")
    assert images.labels is not None
    assert len(images) == 55
    assert [colour(images, i) for i in range(55)] == images.labels.tolist() == [int(name[0]) for name in images.ids]


def test_a_class_without_a_usable_file_is_dropped_and_named(make: Make, tmp_path: Path) -> None:
    make("a/1.png", 0), make("c/1.png", 1)
    make("b/1.png").write_bytes(b"")
    images = load_images(str(tmp_path / "pictures"))
    assert images.classes == ("a", "c")
    assert [colour(images, i) for i in range(2)] == [0, 1]
    assert reasons(images)["b"].startswith("class dropped")


def test_unreadable_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("a/1.png"), make("a/2.png")
    real = Path.open

    def guarded(self: Path, *args: object, **options: object) -> object:
        if self.name == "2.png":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", guarded)
    images = load_images(str(tmp_path / "pictures"))
    assert images.ids == ("a/1.png",)
    assert reasons(images) == {"a/2.png": "cannot be read: Permission denied"}


def test_bomb_is_found_by_its_header(make: Make, tmp_path: Path) -> None:
    data = bytearray(make("a/bomb.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "pictures/a/bomb.png").write_bytes(data)
    make("a/fine.png")
    assert "too large: 60000 x 60000" in reasons(load_images(str(tmp_path / "pictures")))["a/bomb.png"]


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_headers_of_other_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    Image.new("RGB", (30, 20)).save(path, kind)
    assert header_module.problem(path) is None
    path.write_bytes(path.read_bytes()[:8])
    assert header_module.problem(path)


def test_jpeg_size_behind_large_segments(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (30, 20)).save(path, "JPEG", icc_profile=b"x" * 150000, comment=b"\xff\xc0" * 50)
    with path.open("rb") as file:
        assert header_module.jpeg_size(file) == (30, 20)


def test_nothing_usable_and_no_folder(make: Make, tmp_path: Path) -> None:
    make("a/1.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no usable image .*a/1\.png: not an image"):
        load_images(str(tmp_path / "pictures"))
    with pytest.raises(DataError, match="does not exist"):
        load_images(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(SpecError, match="check the path"):
        load_images(str(tmp_path / "nowhere"))


def test_flat_folder_without_labels(make: Make, tmp_path: Path) -> None:
    make("a.png"), make("b.png")
    images = load_images(str(tmp_path / "pictures"))
    assert images.labels is None
    assert images.classes == ()
    assert len(images) == 2


def test_split_folders(make: Make, tmp_path: Path) -> None:
    (
        make("train/a/1.png", 0),
        make("train/b/1.png", 1),
        make("valid/b/1.png", 1),
        make("test/a/1.png", 0),
        make("test/c/1.png", 2),
    )
    images = load_images(str(tmp_path / "pictures"))
    assert images.classes == ("a", "b", "c")
    assert {k: [images.ids[i] for i in v] for k, v in images.declared.items()} == {
        "train": ["train/a/1.png", "train/b/1.png"],
        "validation": ["valid/b/1.png"],
        "test": ["test/a/1.png", "test/c/1.png"],
    }
    assert images.labels is not None
    assert images.labels.tolist() == [colour(images, i) for i in range(5)]
    make("val/a/1.png")
    with pytest.raises(DataError, match="two validation folders"):
        load_images(str(tmp_path / "pictures"))


def test_a_class_called_train_is_a_class(make: Make, tmp_path: Path) -> None:
    make("train/1.png", 2), make("car/1.png", 0), make("plane/1.png", 1)
    images = load_images(str(tmp_path / "pictures"))
    assert images.classes == ("car", "plane", "train")
    assert not images.declared


def test_links_in_circles_end(make: Make, tmp_path: Path) -> None:
    make("a/1.png")
    (tmp_path / "pictures/a/up").symlink_to(tmp_path / "pictures/a")
    assert load_images(str(tmp_path / "pictures")).ids == ("a/1.png",)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "name,label\n", "filename,class\n"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_labels_from_a_file(make: Make, tmp_path: Path, header: str, mark: str) -> None:
    for i in range(4):
        make(f"{i}.png", i % 3)
    text = header + "2.png,two\n1.png,one\n0.png,zero\n3.png,zero\n"
    images = load_images(str(tmp_path / "pictures"), labels=write(tmp_path, text.replace(",", mark)))
    assert images.classes == ("one", "two", "zero")
    assert images.labels is not None
    assert [images.classes[n] for n in images.labels] == ["zero", "one", "two", "zero"]
    assert images.quarantine == ()


def test_numbers_as_classes_keep_their_order(make: Make, tmp_path: Path) -> None:
    for i in (2, 10):
        make(f"{i}.png")
    images = load_images(str(tmp_path / "pictures"), labels=write(tmp_path, "2,2\n10,10\n"))
    assert images.classes == ("2", "10")


def test_label_file_that_disagrees_with_the_folder(make: Make, tmp_path: Path) -> None:
    for i in range(5):
        make(f"{i}.png", i)
    make("4.png").write_bytes(b"")
    labels = write(tmp_path, "0.png,0\ngone.png,1\n2.png,2\n2.png,2\n3.png,\n4.png,4\n")
    images = load_images(str(tmp_path / "pictures"), labels=labels)
    assert images.ids == ("0.png", "2.png")
    assert images.labels is not None
    assert [int(images.classes[n]) for n in images.labels] == [colour(images, i) for i in range(2)]
    found = reasons(images)
    assert found.pop("4").startswith("class dropped")
    assert found == {
        "gone.png": "named in labels.csv, not found",
        "1.png": "no label in labels.csv",
        "3.png": "empty label in labels.csv",
        "4.png": "empty file",
    }
    with pytest.raises(DataError, match="no usable image"):
        load_images(str(tmp_path / "pictures"), labels=write(tmp_path, "x.png,a\ny.png,b\n"))


def test_label_file_errors(make: Make, tmp_path: Path) -> None:
    make("0.png")
    folder = str(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"line 2: '0\.png' has two labels, 'a' and 'b'"):
        load_images(folder, labels=write(tmp_path, "0.png,a\n0.png,b\n"))
    with pytest.raises(DataError, match=r"line 2: '\./0\.png' has two labels"):
        load_images(folder, labels=write(tmp_path, "0.png,a\n./0.png,b\n"))
    with pytest.raises(DataError, match="line 1: expected name,label"):
        load_images(folder, labels=write(tmp_path, "0.png\n"))
    with pytest.raises(DataError, match="no rows"):
        load_images(folder, labels=write(tmp_path, ""))
    with pytest.raises(DataError, match="cannot read the label file"):
        load_images(folder, labels=tmp_path / "none.csv")
    (tmp_path / "labels.csv").write_bytes(b"caf\xe9.png,a\n")
    with pytest.raises(DataError, match="UTF-8"):
        load_images(folder, labels=tmp_path / "labels.csv")
    with pytest.raises(DataError, match="--labels goes with a folder"):
        load_images("visus:digits", labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(("on_disk", "in_file"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_unicode_names(make: Make, tmp_path: Path, on_disk: str, in_file: str) -> None:
    names = ["café.png", "Ångström 木.png", "🦊.png"]
    for i, name in enumerate(names):
        make(unicodedata.normalize(on_disk, name), i)
    text = "".join(f"{unicodedata.normalize(in_file, n)},{i}\n" for i, n in enumerate(names))
    images = load_images(str(tmp_path / "pictures"), labels=write(tmp_path, text))
    assert images.labels is not None
    assert len(images) == 3
    assert images.labels.tolist() == [colour(images, i) for i in range(3)]
    assert {unicodedata.normalize("NFC", i) for i in images.ids} == {unicodedata.normalize("NFC", n) for n in names}


def test_name_that_is_no_unicode_is_set_aside(make: Make, tmp_path: Path) -> None:
    make("a/1.png")
    try:
        os.rename(make("a/2.png"), os.fsencode(tmp_path / "pictures/a") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    images = load_images(str(tmp_path / "pictures"))
    assert images.ids == ("a/1.png",)
    assert "not valid Unicode" in images.quarantine[0].reason
    images.quarantine[0].id.encode()


def test_digest_follows_content_and_is_remembered(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths_ = [make(f"a/{i}.png", i) for i in range(3)]
    for p in paths_:
        os.utime(p, (1e9, 1e9))
    folder = str(tmp_path / "pictures")
    first = load_images(folder).fingerprint
    read: list[Path] = []
    real = digest.file_hash
    monkeypatch.setattr(digest, "file_hash", lambda p: (read.append(p), real(p))[1])
    assert load_images(folder).fingerprint == first
    assert read == []
    make("a/1.png", 7)
    assert load_images(folder).fingerprint != first
    assert [p.name for p in read] == ["1.png"]
    make("a/1.png", 1)
    for memo in (paths.home() / "digests").iterdir():
        memo.write_bytes(b"\x93NUMPY damaged")
    assert load_images(folder).fingerprint == first


def test_file_that_vanishes_later(make: Make, tmp_path: Path) -> None:
    make("a/1.png"), make("a/2.png")
    images = load_images(str(tmp_path / "pictures"))
    (tmp_path / "pictures/a/1.png").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        images.decode(0)
    assert images.fingerprint
