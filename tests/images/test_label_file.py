"""Label files in the formats in which they lie about: what the columns mean is told by what they hold, or it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.images import label_file_samples as samples
from tests.images.label_file_samples import ABC, HAM, MANY, REAL, REFUSED, SAME, SPLIT, WANT, Read, image, table

from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.images.label_file import read_labels

read = samples.read


@pytest.mark.parametrize("table", SAME.values(), ids=SAME.keys())
def test_the_same_labels_however_they_are_written(read: Read, table: str) -> None:
    found, said, images = read(table, ABC)
    assert found == WANT
    assert not images.quarantine
    assert len([n for n in said.notes if n.startswith("labels: ")]) == 1
    assert not said.cautions


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(read: Read, encoding: str) -> None:
    found, _, _ = read("name,label\nkäfer.jpg,Käfer\nb.jpg,Öl\n".encode(encoding), ["käfer.jpg", "b.jpg"])
    assert found == {"käfer.jpg": "Käfer", "b.jpg": "Öl"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a.jpg,Käfer\n".encode("cp1252"), r"not UTF-8 text \(line 1; read as Windows-1252: 'a\.jpg,Käfer'\)"),
        ("a.jpg,x\n".encode("utf-16-le"), "zero bytes"),
        (b"PK\x03\x04....", "Excel workbook"),
        (b'{"a.jpg": "x"}', "is JSON"),
        (b"PAR1....", "Parquet"),
        (b"\n \n", "no rows"),
    ],
)
def test_what_is_no_table_is_named(read: Read, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(data, ABC)


def test_ham10000(read: Read) -> None:
    files = [f"HAM10000_images_part_{1 + i % 2}/ISIC_0{i}.jpg" for i in range(1, 7)]
    found, said, images = read(HAM, files)
    assert {Path(f).stem: c for f, c in found.items()} == {
        "ISIC_01": "bkl", "ISIC_02": "bkl", "ISIC_03": "nv", "ISIC_04": "mel", "ISIC_05": "nv",
    }  # fmt: skip
    assert said.notes[0].startswith(
        "labels: column `dx` of table.csv, 5 of 6 rows matched by `image_id`; ignored: `lesion_id`, `dx_type`"
    )
    assert any("1 rows of table.csv name no image: ISIC_99" in n for n in said.notes)
    assert any(
        "1 images have no label in table.csv and are left out: HAM10000_images_part_1/ISIC_06.jpg" in c
        for c in said.cautions
    )
    assert any("column `lesion_id` has 4 values for 5 images" in c and "--groups lesion_id" in c for c in said.cautions)
    assert images.groups is None
    _, said, grouped = read(HAM, files, groups="lesion_id")
    assert grouped.groups is not None
    at = {Path(f).stem: g for f, g in zip(grouped.ids, grouped.groups, strict=True)}
    assert at["ISIC_01"] == at["ISIC_02"]
    assert len(set(at.values())) == 4
    assert not any("--groups" in c for c in said.cautions)
    found, _, _ = read(HAM, files, label_column="sex")
    assert set(found.values()) == {"male", "female"}


@pytest.mark.parametrize(("text", "files", "want"), REAL.values(), ids=REAL.keys())
def test_tables_as_they_are_published(read: Read, text: str, files: list[str], want: dict[str, str]) -> None:
    found, _, _ = read(text, files)
    by_path = {f.rpartition(".")[0]: c for f, c in found.items()}
    by_name = {Path(f).name.rpartition(".")[0]: c for f, c in found.items()}
    assert want in (by_path, by_name)


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_is_asked_and_what_is_no_class_is_refused(read: Read, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(text, MANY)
    assert "\n" not in str(caught.value)


def test_columns_by_name(read: Read) -> None:
    text = table(("file", "Colour", "shape"), *((n, "rg"[i % 2], "abc"[i % 3]) for i, n in enumerate(MANY)))
    assert read(text, MANY, label_column="colour")[2].classes == ("g", "r")
    assert read(text, MANY, label_column="3")[2].classes == ("a", "b", "c")
    with pytest.raises(SpecError, match=r"nearest: .*Colour"):
        read(text, MANY, label_column="color")
    with pytest.raises(DataError, match="names the images"):
        read(text, MANY, label_column="file")
    with pytest.raises(SpecError, match="unknown column"):
        read(text, MANY, label_column="shape", groups="patient")


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"image": "a.jpg", "score": 0.5, "kind": "x"}\n\n{"kind": "y", "image": "b.jpg"}\n')
    assert read_labels(path, ["a.jpg", "b.jpg"], tmp_path, label="kind").label == {"a.jpg": "x", "b.jpg": "y"}
    path.write_text('{"image": "a.jpg", "labels": ["x", "y"]}\n')
    with pytest.raises(DataError, match="multi-label"):
        read_labels(path, ["a.jpg"], tmp_path)
    path.write_text('{"image": "a.jpg"\n')
    with pytest.raises(DataError, match="line 1: no JSON"):
        read_labels(path, ["a.jpg"], tmp_path)


def test_columns_in_the_spec(tmp_path: Path) -> None:
    for name in MANY:
        (tmp_path / name).write_bytes(image())
    rows = ((n, "rg"[i % 2], i // 3, MANY[-1 - i]) for i, n in enumerate(MANY))
    (tmp_path / "t.csv").write_text(table(("left", "colour", "session", "right"), *rows))
    images = load_images(f"folder:{tmp_path}?labels=t.csv&label=colour&groups=session&name=left")
    assert images.classes == ("g", "r")
    assert images.groups is not None
    assert images.groups.tolist() == [i // 3 for i in range(12)]
    with pytest.raises(DataError, match="contradicts label=colour"):
        load_images(f"folder:{tmp_path}?labels=t.csv&label=colour&name=left", label_column="session")
    with pytest.raises(DataError, match="give the file with --labels"):
        load_images(str(tmp_path), label_column="colour")
    with pytest.raises(DataError, match="--groups names a column"):
        load_images("visus:digits", groups="colour")


@pytest.mark.parametrize(("header", "values"), SPLIT, ids=[h for h, _ in SPLIT])
def test_a_column_of_splits_declares_them(read: Read, header: str, values: list[str]) -> None:
    rows = [(n, values[i % 3], "ab"[i // 3 % 2]) for i, n in enumerate(MANY)]
    found, said, images = read(table(("file", header, "what"), *rows), MANY)
    assert set(found.values()) == {"a", "b"}
    want = {
        "split": ["train", "validation", "test"], "Usage": ["train", "test", "test"], "set": ["train", "validation", "test"],
        "data set": ["train", "validation", "test"], "is_valid": ["train", "validation", "train"], "is_train": ["train", "train", "test"],
        "subset": ["train", "validation", "test"],
    }[header]  # fmt: skip
    for split in set(want):
        assert [images.ids[i] for i in images.declared[split]] == [
            n for i, n in enumerate(MANY) if want[i % 3] == split
        ]
    assert any(n.startswith(f"splits: column `{header}`") for n in said.notes)
