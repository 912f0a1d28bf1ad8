"""Label files in the formats in which they lie about: what the columns mean is told by what they hold, or it is asked."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visus.errors import DataError, SpecError
from visus.images import ImageSet, load_images
from visus.images.label_file import read_labels
from visus.progress import Remarks, collecting

Read = Callable[..., tuple[dict[str, str], Remarks, ImageSet]]


@functools.cache
def image() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(table, files, ...): file -> class, what was said, and the set."""

    def one(table: str | bytes, files: Sequence[str], **how: str) -> tuple[dict[str, str], Remarks, ImageSet]:
        root = tmp_path / "pictures"
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(image())
        path = tmp_path / "table.csv"
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
        with collecting() as said:
            images = load_images(str(root), labels=path, **how)
        assert images.labels is not None
        return {name: images.classes[k] for name, k in zip(images.ids, images.labels, strict=True)}, said, images

    return one


ABC = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
WANT = {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat", "d.jpg": "dog"}

SAME = {
    "plain": "a.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n",
    "label first": "label,image\ncat,a.jpg\ndog,b.jpg\ncat,c.jpg\ndog,d.jpg\n",
    "label first, no header": "cat,a.jpg\ndog,b.jpg\ncat,c.jpg\ndog,d.jpg\n",
    "pandas index": ",name,label\n0,a.jpg,cat\n1,b.jpg,dog\n2,c.jpg,cat\n3,d.jpg,dog\n",
    "pandas index read back": "Unnamed: 0,name,label\n0,a.jpg,cat\n1,b.jpg,dog\n2,c.jpg,cat\n3,d.jpg,dog\n",
    "index without header": "0,a.jpg,cat\n1,b.jpg,dog\n2,c.jpg,cat\n3,d.jpg,dog\n",
    "semicolons": "Datei;Wert;class_name\na.jpg;0,5;cat\nb.jpg;1,25;dog\nc.jpg;0,5;cat\nd.jpg;2,5;dog\n",
    "excel's first line": "sep=;\nname;label\na.jpg;cat\nb.jpg;dog\nc.jpg;cat\nd.jpg;dog\n",
    "tabs and spaces": "name \t label\na.jpg \tcat \nb.jpg\t dog\nc.jpg\tcat\nd.jpg\tdog\n",
    "pipes": "name|label\na.jpg|cat\nb.jpg|dog\nc.jpg|cat\nd.jpg|dog\n",
    "space between": "a.jpg cat\nb.jpg dog\nc.jpg cat\nd.jpg dog\n",
    "several spaces": "a.jpg   cat\nb.jpg   dog\nc.jpg   cat\nd.jpg   dog\n",
    "all quoted": '"name","label"\n"a.jpg","cat"\n"b.jpg","dog"\n"c.jpg","cat"\n"d.jpg","dog"\n',
    "spaces after commas, quotes": 'name, label\na.jpg, "cat"\nb.jpg, "dog"\nc.jpg, "cat"\nd.jpg, "dog"\n',
    "windows line ends": "name,label\r\na.jpg,cat\r\nb.jpg,dog\r\nc.jpg,cat\r\nd.jpg,dog\r\n",
    "old mac line ends": "name,label\ra.jpg,cat\rb.jpg,dog\rc.jpg,cat\rd.jpg,dog\r",
    "trailing delimiter": "name,label,\na.jpg,cat,\nb.jpg,dog,\nc.jpg,cat,\nd.jpg,dog,\n",
    "without endings": "id,breed\na,cat\nb,dog\nc,cat\nd,dog\n",
    "other endings": "id,breed\na.tif,cat\nb.tif,dog\nc.tif,cat\nd.tif,dog\n",
    "capitals": "FILE,CLASS\nA.JPG,cat\nB.JPG,dog\nC.JPG,cat\nD.JPG,dog\n",
    "absolute": "path,target\n/home/ana/d/a.jpg,cat\n/home/ana/d/b.jpg,dog\n/home/ana/d/c.jpg,cat\n/home/ana/d/d.jpg,dog\n",
    "windows paths": "path,target\nC:\\d\\a.jpg,cat\nC:\\d\\b.jpg,dog\nC:\\d\\c.jpg,cat\nC:\\d\\d.jpg,dog\n",
    "urls": "url,label\nhttps://x.org/i/a.jpg,cat\nhttps://x.org/i/b.jpg,dog\nhttps://x.org/i/c.jpg,cat\nhttps://x.org/i/d.jpg,dog\n",
    "ids beside names": "image,class_id,class_name\na.jpg,0,cat\nb.jpg,1,dog\nc.jpg,0,cat\nd.jpg,1,dog\n",
    "the same row twice": "name,label\na.jpg,cat\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n",
    "r's row names": '"name" "label"\n"1" "a.jpg" "cat"\n"2" "b.jpg" "dog"\n"3" "c.jpg" "cat"\n"4" "d.jpg" "dog"\n',
    "words of their own": "Bild,Tier\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n",
    "empty lines": "\n\nname,label\n\na.jpg,cat\nb.jpg,dog\n\nc.jpg,cat\nd.jpg,dog\n\n",
    "one-hot": "image,cat,dog,bird\na.jpg,1.0,0.0,0.0\nb.jpg,0.0,1.0,0.0\nc.jpg,1.0,0.0,0.0\nd.jpg,0.0,1.0,0.0\n",
    "one-hot of two": "image,cat,dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,1,0\nd.jpg,0,1\n",
    "one-hot as words": "image,cat,dog,bird\na.jpg,True,False,False\nb.jpg,False,True,False\nc.jpg,True,False,False\nd.jpg,False,True,False\n",
    "boxes of imagenet": "ImageId,PredictionString\na,cat 111 108 230 366\nb,dog 1 2 3 4 dog 5 6 7 8 \nc,cat 0 0 9 9\nd,dog 1 1 2 2\n",
}  # fmt: skip


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


HAM = (
    "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    "HAM_1,ISIC_01,bkl,histo,80.0,male,scalp\nHAM_1,ISIC_02,bkl,histo,80.0,male,scalp\nHAM_2,ISIC_03,nv,follow_up,45.0,female,ear\n"
    "HAM_3,ISIC_04,mel,histo,,male,back\nHAM_3,ISIC_99,mel,histo,,male,back\nHAM_4,ISIC_05,nv,follow_up,50.0,female,ear\n"
)


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


def table(*rows: Sequence[object]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


REAL: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "aptos": (
        "id_code,diagnosis\n00a,2\n00b,0\n00c,10\n",
        ["00a.png", "00b.png", "00c.png"],
        {"00a": "2", "00b": "0", "00c": "10"},
    ),
    "cassava": (
        "image_id,label\n10.jpg,0\n11.jpg,3\n12.jpg,1\n",
        ["10.jpg", "11.jpg", "12.jpg"],
        {"10": "0", "11": "3", "12": "1"},
    ),
    "floats for numbers": (
        "id,label\n10,0.0\n11,3.0\n12,0.0\n",
        ["10.jpg", "11.jpg", "12.jpg"],
        {"10": "0", "11": "3", "12": "0"},
    ),
    "cactus": (
        "id,has_cactus\n04.jpg,1\n05.jpg,1\n06.jpg,0\n",
        ["04.jpg", "05.jpg", "06.jpg"],
        {"04": "1", "05": "1", "06": "0"},
    ),
    "plant pathology": (
        "image_id,healthy,multiple_diseases,rust,scab\nTrain_0,0,0,0,1\nTrain_1,0,1,0,0\nTrain_2,1,0,0,0\n",
        ["images/Train_0.jpg", "images/Train_1.jpg", "images/Train_2.jpg"],
        {"Train_0": "scab", "Train_1": "multiple_diseases", "Train_2": "healthy"},
    ),
    "isic with metadata": (
        "image,MEL,NV,BCC,age,site\nI1,1.0,0.0,0.0,50,back\nI2,0.0,1.0,0.0,60,arm\nI3,0.0,1.0,0.0,50,arm\n",
        ["I1.jpg", "I2.jpg", "I3.jpg"],
        {"I1": "MEL", "I2": "NV", "I3": "NV"},
    ),
    "fastai": (
        "name,label\ntrain/3/7463.png,3\ntrain/7/21.png,7\n",
        ["train/3/7463.png", "train/7/21.png"],
        {"7463": "3", "21": "7"},
    ),
    "gtsrb": (
        "Filename;Width;Height;Roi.X1;Roi.Y1;ClassId\n00000.ppm;53;54;6;5;16\n00001.ppm;42;45;5;5;1\n00002.ppm;48;52;6;6;16\n",
        ["00000.ppm", "00001.ppm", "00002.ppm"],
        {"00000": "16", "00001": "1", "00002": "16"},
    ),
    "caltech lists": (
        "a/1.jpg 0\nb/1.jpg 1\nb/2.jpg 1\n",
        ["a/1.jpg", "b/1.jpg", "b/2.jpg"],
        {"a/1": "0", "b/1": "1", "b/2": "1"},
    ),
    "names with spaces": (
        "my cat 1.jpg 0\nmy dog.jpg 1\n",
        ["my cat 1.jpg", "my dog.jpg"],
        {"my cat 1": "0", "my dog": "1"},
    ),
    "commas in labels": (
        'image,label\na.jpg,"tench, Tinca tinca"\nb.jpg,"goldfish, Carassius"\nc.jpg,crane\n',
        ["a.jpg", "b.jpg", "c.jpg"],
        {"a": "tench, Tinca tinca", "b": "goldfish, Carassius", "c": "crane"},
    ),
    "names of several words": (
        "image,label\na.jpg,golden retriever\nb.jpg,flat coated retriever\nc.jpg,poodle\nd.jpg,retriever\n",
        ABC,
        {"a": "golden retriever", "b": "flat coated retriever", "c": "poodle", "d": "retriever"},
    ),
    "leading zeros gone": (
        "id,label\n1,x\n7,y\n12,x\n",
        ["0001.png", "0007.png", "0012.png"],
        {"0001": "x", "0007": "y", "0012": "x"},
    ),
    "names with dots": ("id,label\nim.v1,x\nim.v2,y\n", ["im.v1.jpg", "im.v2.jpg"], {"im.v1": "x", "im.v2": "y"}),
    "fractions that come again": (
        "id,label\na,1.5\nb,2.5\nc,1.5\nd,2.5\n",
        ABC,
        {"a": "1.5", "b": "2.5", "c": "1.5", "d": "2.5"},
    ),
    "nih with single findings": (
        "Image Index,Finding Labels,Follow-up #,Patient Age\na.jpg,Mass,0,58\nb.jpg,No Finding,1,58\nc.jpg,Mass,0,60\n",
        ["a.jpg", "b.jpg", "c.jpg"],
        {"a": "Mass", "b": "No Finding", "c": "Mass"},
    ),
    "a foreign folder above": (
        "path,label\n/data/raw/x/a.jpg,p\n/data/raw/y/a.jpg,q\n",
        ["set/x/a.jpg", "set/y/a.jpg"],
        {"set/x/a": "p", "set/y/a": "q"},
    ),
    "another folder on either side": (
        "path,label\nold/a.jpg,p\nold/b.jpg,q\n",
        ["new/a.jpg", "new/b.jpg"],
        {"a": "p", "b": "q"},
    ),
    "a mask beside": (
        "image,mask,label\ni/a.png,m/a.png,p\ni/b.png,m/b.png,q\n",
        ["i/a.png", "i/b.png"],
        {"a": "p", "b": "q"},
    ),
    "comments above": ("# made by hand\n# name label\na.jpg x\nb.jpg y\n", ["a.jpg", "b.jpg"], {"a": "x", "b": "y"}),
    "names that start so": ("#1.jpg,x\n#2.jpg,y\n", ["#1.jpg", "#2.jpg"], {"#1": "x", "#2": "y"}),
    "path and name": (
        "path,filename,kind\n/d/a.jpg,a.jpg,x\n/d/b.jpg,b.jpg,y\n",
        ["a.jpg", "b.jpg"],
        {"a": "x", "b": "y"},
    ),
    "another id": (
        "uuid,file,kind\n9f,a.jpg,x\n3e,b.jpg,y\n7c,c.jpg,x\n",
        ["a.jpg", "b.jpg", "c.jpg"],
        {"a": "x", "b": "y", "c": "x"},
    ),
    "an escaped sign": ("name,label\na.jpg,R&amp;B\nb.jpg,Rock\n", ["a.jpg", "b.jpg"], {"a": "R&amp;B", "b": "Rock"}),
    "a value of two lines": (
        'name,note,label\na.jpg,"one\ntwo",x\nb.jpg,"5"" wide",y\n',
        ["a.jpg", "b.jpg"],
        {"a": "x", "b": "y"},
    ),
    "inches": ('name\tlabel\na.jpg\t5" pipe\nb.jpg\t7" pipe\n', ["a.jpg", "b.jpg"], {"a": '5" pipe', "b": '7" pipe'}),
    "a count above": (
        "3\nkind other\na.jpg 1 5\nb.jpg -1 5\nc.jpg 1 5\n",
        ["a.jpg", "b.jpg", "c.jpg"],
        {"a": "1", "b": "-1", "c": "1"},
    ),
    "a nameless column of names": (",0\na.jpg,x\nb.jpg,y\n", ["a.jpg", "b.jpg"], {"a": "x", "b": "y"}),
    "addresses": (
        "file,label\nhttp://x.org/my%20a.jpg,x\nb%2520.jpg,y\n",
        ["my a.jpg", "b%20.jpg"],
        {"my a": "x", "b%20": "y"},
    ),
    "x and y of keras": ("x,y\na.jpg,cat\nb.jpg,dog\n", ["a.jpg", "b.jpg"], {"a": "cat", "b": "dog"}),
}


@pytest.mark.parametrize(("text", "files", "want"), REAL.values(), ids=REAL.keys())
def test_tables_as_they_are_published(read: Read, text: str, files: list[str], want: dict[str, str]) -> None:
    found, _, _ = read(text, files)
    by_path = {f.rpartition(".")[0]: c for f, c in found.items()}
    by_name = {Path(f).name.rpartition(".")[0]: c for f, c in found.items()}
    assert want in (by_path, by_name)


MANY = [f"{i:02d}.jpg" for i in range(12)]
CHEXPERT = (("1.0", "", ""), ("", "1.0", "1.0"), ("", "-1.0", "0.0"))
REFUSED: dict[str, tuple[str, str]] = {
    "chexpert": (
        table(
            ("Path", "Sex", "Age", "No Finding", "Edema", "Pneumonia"),
            *((f"CheXpert/train/{n}", "FM"[i % 2], 50 + i % 7, *CHEXPERT[i % 3]) for i, n in enumerate(MANY)),
        ),
        "multi-label table: `No Finding`, `Edema`, `Pneumonia`",
    ),
    "celeba": (
        table(("image_id", "Bald", "Male", "Young"), *((n, "-1", (-1, 1)[i % 2], "1") for i, n in enumerate(MANY))),
        "multi-label table",
    ),
    "nih": (
        table(("Image Index", "Finding Labels"), *((n, ("Mass", "Mass|Edema")[i % 2]) for i, n in enumerate(MANY))),
        "`Finding Labels` is multi-label",
    ),
    "planet": (
        table(("image_name", "tags"), *((n[:2], ("haze primary", "clear", "clear primary road")[i % 3]) for i, n in enumerate(MANY))),
        "`tags` is multi-label",
    ),
    "lists in quotes": (
        "name,label\n" + "".join(f'{n},"{("cat", "cat,dog", "dog")[i % 3]}"\n' for i, n in enumerate(MANY)), "multi-label",
    ),
    "python lists": ("name,labels\n" + "".join(f"{n},\"['cat', 'dog']\"\n" for n in MANY), "multi-label"),
    "a number to predict": (
        table(("name", "price"), *((n, 1.5 + i * 0.37) for i, n in enumerate(MANY))), r"12 different fractions: a number to be predicted",
    ),
    "fractions of which some repeat": (
        table(("name", "target"), *((n, round(0.1 + (i // 1.2) * 0.13, 2)) for i, n in enumerate(MANY))), "to be predicted, no class",
    ),
    "captions": (table(("name", "label"), *((n, f"a photo of thing {i}") for i, n in enumerate(MANY))), "another value in each of 12 rows"),
    "coordinates": (table(("filename", "x", "y"), *((n, i % 3, i % 4) for i, n in enumerate(MANY))), "`x` is a place or a size"),
    "several candidates": (
        table(("file", "colour", "shape"), *((n, "rg"[i % 2], "abc"[i % 3]) for i, n in enumerate(MANY))),
        "2 columns may hold the classes, `colour`, `shape`; say which with --label-column",
    ),
    "two usual ones": (
        table(("file", "species", "breed"), *((n, "cd"[i % 2], "wxyz"[i % 4]) for i, n in enumerate(MANY))),
        "`species`, `breed`; say which with --label-column",
    ),
    "cub's list of images": ("".join(f"{i + 1} {n}\n" for i, n in enumerate(MANY)), "no column of classes"),
    "celeba's partition": (table(("image_id", "partition"), *((n, i % 3) for i, n in enumerate(MANY))), "is about splits"),
    "pairs": (
        table(("left", "right", "same"), *((n, MANY[(i + 1) % 12], i % 2) for i, n in enumerate(MANY))), "`left` and `right` both name images",
    ),
    "a comma that is not quoted": ("name,label\n00.jpg,cat\n01.jpg,cat, wild\n02.jpg,dog\n", "line 3: 3 cells where the first line has 2"),
    "two labels": ("name,label\n00.jpg,cat\n00.jpg,dog\n", "line 3: '00.jpg' has two labels, 'cat' and 'dog'"),
    "two labels by two paths": ("name,label\nx/00.jpg,cat\ny/00.jpg,dog\n", "has two labels"),
    "artists alone": (table(("name", "artist"), *((n, "ab"[i % 2]) for i, n in enumerate(MANY))), "give it as --groups"),
    "boxes of two classes": ("ImageId,PredictionString\n00,a 1 2 3 4 b 1 2 3 4\n01,a 1 2 3 4\n", "multi-label"),
    "a quote never closed": ('name,label\n00.jpg,cat\n01.jpg,"big\n02.jpg,dog\n03.jpg,cat\n', "line 3: a quote is opened here"),
    "ids that are only part of the names": ("id,label\nx00,a\nx01,b\n", "the first names 'x00', the folder holds '00.jpg'"),
    "labels that are row numbers": (table(("name", "label"), *((n, i) for i, n in enumerate(MANY))), "`label` is no column of classes"),
    "names alone": ("name\n" + "".join(f"{n}\n" for n in MANY), "expected name,label"),
    "no row fits": (
        "name,label\nx.jpg,a\ny.jpg,b\n", r"no usable image: no row of table.csv names one \(the first names 'x.jpg', the folder holds '00.jpg'\)",
    ),
}  # fmt: skip


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


SPLIT = [
    ("split", ["train", "val", "test"]), ("Usage", ["Training", "PublicTest", "PrivateTest"]), ("set", ["TRAIN", "dev", "eval"]),
    ("data set", ["train", "valid", "test"]), ("is_valid", ["False", "True", "False"]), ("is_train", ["1", "1", "0"]),
    ("subset", ["training", "validation", "testing"]),
]  # fmt: skip


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


PATHS = {
    "relative": lambda f: f,
    "name": lambda f: f.rpartition("/")[2],
    "stem": lambda f: f.rpartition("/")[2].rpartition(".")[0],
    "windows": lambda f: "E:\\x\\" + f.replace("/", "\\"),
    "absolute": lambda f: "/mnt/x/" + f,
    "upper": str.upper,
    "dotted": lambda f: "./" + f,
}


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
