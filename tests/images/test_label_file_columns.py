"""Label files in the formats in which they lie about: what the columns mean is told by what they hold, or it is asked."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.images import label_file_samples as samples
from tests.images.label_file_samples import ABC, MANY, PATHS, WANT, Read, image, table

from visus.errors import DataError
from visus.images import load_images
from visus.images.label_file import read_labels
from visus.progress import collecting

read = samples.read


def test_a_file_that_lies_elsewhere_too(read: Read) -> None:
    """Rows of another folder's file of the same name are not this folder's."""
    found, said, _ = read("path,label\npictures/1.jpg,a\nothers/1.jpg,b\npictures/2.jpg,b\n", ["1.jpg", "2.jpg"])
    assert found == {"1.jpg": "a", "2.jpg": "b"}
    assert any("others/1.jpg" in n for n in said.notes)


def test_a_name_that_fits_several_files_is_not_guessed(read: Read) -> None:
    found, said, images = read(
        "path,label\n1.jpg,a\nx/2.jpg,b\nx/3.jpg,a\n", ["x/1.jpg", "y/1.jpg", "x/2.jpg", "x/3.jpg"]
    )
    assert found == {"x/2.jpg": "b", "x/3.jpg": "a"}
    assert any("fit several images, which are left out: 1.jpg" in c for c in said.cautions)
    assert "fits several files" in {q.id: q.reason for q in images.quarantine}["1.jpg"]


def test_the_label_file_wins_over_class_folders_and_says_so(read: Read) -> None:
    found, said, _ = read("name,label\nx/1.jpg,a\ny/1.jpg,b\nx/2.jpg,b\n", ["x/1.jpg", "y/1.jpg", "x/2.jpg"])
    assert set(found.values()) == {"a", "b"}
    assert "labels: table.csv gives the classes, not the folders" in said.notes


def test_groups_and_splits_beside_class_folders(read: Read) -> None:
    files = [f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(4)]
    rows = [(f, f"p{i // 2}", "train" if i % 4 < 2 else "test") for i, f in enumerate(files)]
    found, said, images = read(table(("file", "patient", "split"), *rows), files, groups="patient")
    assert found == {f: f[:3] for f in files}
    assert images.groups is not None
    assert images.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert images.declared["test"].tolist() == [2, 3, 6, 7]
    assert said.notes[0].startswith("labels: by the folders; rows of table.csv, 8 of 8 rows matched")
    found, _, images = read(table(("file", "split"), *((f, s) for f, _, s in rows[:6])), files)
    assert found == {f: f[:3] for f in files}
    assert images.declared["test"].tolist() == [2, 3]
    with pytest.raises(DataError, match="no column of classes"):
        read(table(("file", "patient"), *((f, p) for f, p, _ in rows)), files)


def test_split_columns_that_are_not_understood_are_said(read: Read) -> None:
    text = table(("file", "kind", "partition"), *((n, "ab"[i % 2], i % 3) for i, n in enumerate(MANY)))
    assert (
        "column `partition` of table.csv is not taken for splits: its values are 0, 1, 2."
        in read(text, MANY)[1].cautions
    )
    text = table(
        ("file", "kind", "split"), *((n, "ab"[i % 2], ("train", "test", "unused")[i % 3]) for i, n in enumerate(MANY))
    )
    images = read(text, MANY)[2]
    assert {k: len(v) for k, v in images.declared.items()} == {"train": 4, "test": 4}
    assert len(images.split(seed=0).test) == 4


def test_empty_labels_and_classes_that_differ_in_case(read: Read) -> None:
    _, said, images = read("name,label\na.jpg,Cat\nb.jpg,cat\nc.jpg,nan\nd.jpg,\n", ABC)
    assert images.classes == ("Cat", "cat")
    assert any("differ in case only: taken as 2 classes" in c for c in said.cautions)
    assert {q.id for q in images.quarantine} == {"c.jpg", "d.jpg"}


def test_groups_of_images_without_one_stand_alone(read: Read) -> None:
    _, said, images = read("name,label,patient\na.jpg,x,p\nb.jpg,y,p\nc.jpg,x,\nd.jpg,y,\n", ABC, groups="Patient")
    assert images.groups is not None
    assert images.groups[0] == images.groups[1]
    assert len(set(images.groups.tolist())) == 3
    assert any("1 of them over 2 images; 2 images without one stand alone" in n for n in said.notes)


def test_the_same_file_name_in_very_many_folders(read: Read) -> None:
    files = [f"set/{i:03d}/image.png" for i in range(40)]
    rows = [(f"D:\\old\\SET\\{i:03d}\\image.png", "abc"[i % 3]) for i in range(40)]
    found, _, images = read(table(("path", "label"), *rows), files)
    assert found == {f: "abc"[i % 3] for i, f in enumerate(files)}
    assert not images.quarantine
    assert read(table(("path", "label"), ("image.png", "a"), *rows), files)[0] == found


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(sorted(PATHS)),
    mark=st.sampled_from([",", ";", "\t", "|"]),
    header=st.booleans(),
    quoted=st.booleans(),
    extra=st.sets(st.sampled_from(["index", "score", "constant", "split", "md5"])),
    order=st.randoms(use_true_random=False),
    missing=st.integers(0, 6),
)
def test_planted_tables(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    mark: str,
    header: bool,
    quoted: bool,
    extra: set[str],
    order: Random,
    missing: int,
) -> None:
    """Whatever the order of the columns, the delimiter and the way in which files are named: right labels, or a refusal."""
    files = [f"part{i % 2}/img {i:03d}.jpg" for i in range(20)]
    labels = [f"class {(i * 7) % 3}" for i in range(20)]
    columns: dict[str, list[str]] = {"file": [PATHS[form](f) for f in files], "kind of thing": labels}
    more = {
        "index": ("", [str(i) for i in range(20)]),
        "score": ("score", [f"{0.1 + i * 0.0371:.4f}" for i in range(20)]),
        "constant": ("source", ["camera"] * 20),
        "split": ("part", ["train" if i % 4 else "test" for i in range(20)]),
        "md5": ("checksum", [f"{i * 7919:08x}" for i in range(20)]),
    }
    columns |= {more[e][0]: more[e][1] for e in sorted(extra)}
    names = list(columns)
    order.shuffle(names)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    if header:
        writer.writerow(names)
    for i in range(20):
        writer.writerow([columns[n][i] for n in names])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(out.getvalue())
    there = files[: 20 - missing]
    with collecting():
        read = read_labels(path, there, path.parent)
    assert read.label == dict(zip(there, labels, strict=False))
    assert len(read.missing) == missing
    assert read.split == ({f: "train" if i % 4 else "test" for i, f in enumerate(there)} if "split" in extra else {})


@pytest.mark.parametrize(
    ("header", "values", "said"),
    [
        ("label", [20 + i % 15 for i in range(60)], True),  # ages: dense, not counted from 0 or 1
        ("age", [1 + i % 15 for i in range(60)], True),  # by its header
        ("label", [3 * (i // 2) for i in range(60)], True),  # with gaps, and few of each
        ("rating", [1 + i % 9 / 2 for i in range(60)], True),
        ("label", [1 + i % 30 for i in range(60)], False),  # class numbers, two of each
        ("label", [i % 10 for i in range(60)], False),
        ("label", [1000 + 137 * (i % 12) for i in range(60)], False),  # numbers of taxa
        ("label", [f"c{i % 12}" for i in range(60)], False),
    ],
)
def test_numbers_that_may_be_amounts_are_warned_of(read: Read, header: str, values: list[object], said: bool) -> None:
    files = [f"{i}.jpg" for i in range(60)]
    _, remarks, images = read(table(["file", header], *zip(files, values, strict=True)), files)
    assert len(images.classes) == len(set(values))
    assert any("different numbers" in c for c in remarks.cautions) == said
    assert len(remarks.cautions) == said


def test_a_header_that_a_comma_cuts_is_no_label(read: Read) -> None:
    head = ["Image Index", "Finding Labels", "Spacing[x", "y]"]
    label, _, _ = read(table(head, *((f, c, 0.1, 0.2) for f, c in WANT.items())), ABC)
    assert label == WANT


def test_groups_in_two_spellings_are_one(read: Read) -> None:
    files = [f"{i}.jpg" for i in range(24)]
    for spell in (lambda i: f"{'Pp'[i % 2]}{i // 4}", lambda i: f"{i // 4}{['', '.0'][i % 2]}"):
        rows = ((f, "ab"[i // 2 % 2], spell(i)) for i, f in enumerate(files))
        _, said, images = read(table(["file", "label", "patient"], *rows), files, groups="patient")
        by_name = dict(zip(images.ids, images.groups if images.groups is not None else (), strict=True))
        assert all(
            (by_name[f"{i}.jpg"] == by_name[f"{j}.jpg"]) == (i // 4 == j // 4) for i in range(24) for j in range(24)
        )
        assert any("12 names, 6 groups" in n for n in said.notes)


def test_names_relative_to_the_tables_folder(tmp_path: Path) -> None:
    for file in ("train/0.png", "train/1.png", "test/0.png", "test/1.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(image())
    (tmp_path / "train" / "train.csv").write_text("id,label\n0.png,cat\n1.png,dog\n")
    (tmp_path / "train" / "test.csv").write_text("id\n7.png\n")
    with collecting() as said:
        images = load_images(str(tmp_path), labels=tmp_path / "train" / "train.csv")
    assert images.ids == ("train/0.png", "train/1.png")
    assert any("test.csv beside it is not read" in c for c in said.cautions)


def test_images_of_no_split_are_said_and_addresses_end_before_their_query(read: Read) -> None:
    files = [f"{i}.jpg" for i in range(9)]
    rows = ((f"https://a.org/x/{f}?w=1", "ab"[i % 2], ("train", "test", "extra")[i % 3]) for i, f in enumerate(files))
    _, said, images = read(table(["url", "label", "split"], *rows), files)
    assert {name: len(at) for name, at in images.declared.items()} == {"train": 3, "test": 3}
    assert any("not used: extra (3 rows)" in c for c in said.cautions)
