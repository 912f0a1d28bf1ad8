"""Made for test_label_file, test_label_file_columns."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from visus.images import ImageSet, load_images
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


HAM = (
    "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    "HAM_1,ISIC_01,bkl,histo,80.0,male,scalp\nHAM_1,ISIC_02,bkl,histo,80.0,male,scalp\nHAM_2,ISIC_03,nv,follow_up,45.0,female,ear\n"
    "HAM_3,ISIC_04,mel,histo,,male,back\nHAM_3,ISIC_99,mel,histo,,male,back\nHAM_4,ISIC_05,nv,follow_up,50.0,female,ear\n"
)


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


SPLIT = [
    ("split", ["train", "val", "test"]), ("Usage", ["Training", "PublicTest", "PrivateTest"]), ("set", ["TRAIN", "dev", "eval"]),
    ("data set", ["train", "valid", "test"]), ("is_valid", ["False", "True", "False"]), ("is_train", ["1", "1", "0"]),
    ("subset", ["training", "validation", "testing"]),
]  # fmt: skip


PATHS = {
    "relative": lambda f: f,
    "name": lambda f: f.rpartition("/")[2],
    "stem": lambda f: f.rpartition("/")[2].rpartition(".")[0],
    "windows": lambda f: "E:\\x\\" + f.replace("/", "\\"),
    "absolute": lambda f: "/mnt/x/" + f,
    "upper": str.upper,
    "dotted": lambda f: "./" + f,
}
