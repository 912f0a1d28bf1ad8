"""Data sets as they lie in the hub's cache: configurations are never merged, splits are found, labels go by class name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from visus.errors import DataError, SpecError
from visus.images import ImageSet, load_images
from visus.images.hub_layout import split_of
from visus.progress import collecting

NAMES = ["cat", "dog", "owl"]
SHADE = {"cat": 10, "dog": 100, "owl": 200}


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), shade).save(out, "PNG")
    return out.getvalue()


def table(path: Path, animals: list[str | None], names: list[str] | str | None = None, **more: list[Any]) -> Path:
    """Pictures whose shade is their animal. names: order of a ClassLabel; 'text': class names; 'number': positions in NAMES; None: hidden (-1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(SHADE[a or "cat"]), "path": None} for a in animals]
    kind: Any = (
        Value("string")
        if names == "text"
        else Value("int64")
        if names == "number"
        else ClassLabel(names=names or NAMES)
    )
    if names == "text":
        labels: list[Any] = list(animals)
    elif names == "number":
        labels = [-1 if a is None else NAMES.index(a) for a in animals]
    else:
        labels = [-1 if a is None or names is None else list(names).index(a) for a in animals]
    features = Features({"image": ImageFeature(), "label": kind, **{k: Value("int64") for k in more}})
    Dataset.from_dict({"image": cells, "label": labels, **more}, features=features).to_parquet(str(path))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a snapshot in the hub's cache, files as links to blobs: cache('owner/name') -> its folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False
    )
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")

    def make(name: str, revision: str = "main", commit: str = "a" * 40) -> Path:
        root = tmp_path / "hub" / f"datasets--{name.replace('/', '--')}"
        (root / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text(commit)
        (root / "snapshots" / commit).mkdir(parents=True)
        return root / "snapshots" / commit

    return make


def right(images: ImageSet) -> bool:
    """Whether every picture bears the name of its shade."""
    assert images.labels is not None
    shades = {v: k for k, v in SHADE.items()}
    seen = [shades[int(np.asarray(images.decode(i))[0, 0, 0])] for i in range(len(images))]
    return seen == [images.classes[c] for c in images.labels]


def sizes(images: ImageSet) -> dict[str, int]:
    return {split: len(at) for split, at in images.declared.items()}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("data/train-00000-of-00002.parquet", ("train", "")),
        ("data/train-00001-of-00002-b6ecb6b2.parquet", ("train", "")),
        ("default/train/0000.parquet", ("train", "default")),
        ("default/partial-train/0000.parquet", ("train", "default")),
        ("plain_text/test-00000-of-00001.parquet", ("test", "plain_text")),
        ("plain_text/cifar10-train.parquet", ("train", "plain_text")),
        ("test.parquet", ("test", "")),
        ("cifar_test.parquet", ("test", "")),
        ("train_augmented.parquet", ("train", "")),
        ("train_extra-00000-of-00001.parquet", ("train_extra", "")),
        ("train_and_test.parquet", ("", "")),
        ("mnist/validation/part-00000-of-00002.parquet", ("validation", "mnist")),
        ("train/train-00000-of-00001.parquet", ("train", "")),
        ("train/data-00000-of-00001.arrow", ("train", "")),
        ("data-00000-of-00001.arrow", ("", "")),
        ("cifar10-train.arrow", ("train", "")),
        ("cifar10-train-00000-of-00003.arrow", ("train", "")),
        ("data/unlabeled-00000-of-00001.parquet", ("unlabeled", "")),
        ("default/train/parquet-train.parquet", ("train", "default")),
        ("0000.parquet", ("", "")),
        ("Training/0.parquet", ("train", "")),
        ("eval-00000-of-00001.parquet", ("test", "")),
    ],
)
def test_what_a_path_tells(path: str, told: tuple[str, str]) -> None:
    assert split_of(PurePosixPath(path)) == told


def two(root: Path) -> None:
    for config in ("cropped", "full"):
        table(root / config / "train-00000-of-00001.parquet", ["cat", "dog"], NAMES)
        table(root / config / "test-00000-of-00001.parquet", ["dog"] if config == "full" else ["dog", "cat"], NAMES)


def card(root: Path) -> None:
    """The same by a card, with files where only it knows what they are."""
    for name, animals in (("a1", ["cat", "dog"]), ("a2", ["owl"]), ("b", ["dog", "owl"])):
        table(root / "files" / f"{name}.parquet", animals, NAMES)
    (root / "README.md").write_text(
        "---\nlicense: mit\nconfigs:\n- config_name: cropped\n  data_files:\n  - split: train\n    path: files/a*.parquet\n"
        "  - split: test\n    path:\n    - files/b.parquet\n- config_name: full\n  data_files: files/b.parquet\n---\n# A set\n"
    )


def converted(root: Path) -> None:
    for config in ("cropped", "full"):
        table(root / config / "train" / "0000.parquet", ["cat", "dog"], NAMES)
        table(root / config / "train" / "0001.parquet", ["owl"], NAMES)
        table(root / config / "test" / "0000.parquet", ["owl", "cat"], NAMES)


@pytest.mark.parametrize(("make", "train"), [(two, 2), (card, 3), (converted, 3)])
@pytest.mark.parametrize("how", ["hf:owner/animals@cropped", "hf:owner/animals?config=cropped"])
def test_several_configurations_are_never_merged(
    cache: Callable[..., Path], make: Callable[[Path], None], train: int, how: str
) -> None:
    make(cache("owner/animals"))
    with pytest.raises(
        DataError, match=r"2 configurations.*: cropped, full; choose one, as hf:owner/animals@cropped"
    ) as caught:
        load_images("hf:owner/animals")
    assert "\n" not in str(caught.value)
    images = load_images(how)
    assert sizes(images) == {"train": train, "test": 2}
    assert right(images)
    with pytest.raises(DataError, match="no configuration 'cropt' here; it has cropped, full"):
        load_images("hf:owner/animals?config=cropt")
    with pytest.raises(DataError, match="no revision 'cropt' on this machine; its configurations: cropped, full"):
        load_images("hf:owner/animals@cropt")


def test_a_folder_fetched_by_hand_is_read_as_the_snapshot_is(tmp_path: Path) -> None:
    two(tmp_path / "x")
    with pytest.raises(DataError, match=r"2 configurations.*parquet:PATH\?config=cropped"):
        load_images(f"parquet:{tmp_path / 'x'}")
    assert sizes(load_images(f"parquet:{tmp_path / 'x'}?config=full")) == {"train": 2, "test": 1}
    # Subfolders of plain shards are one set, as ever.
    for k in range(3):
        table(tmp_path / "y" / f"day{k}" / "x.parquet", ["cat", "dog"], NAMES)
    assert len(load_images(f"parquet:{tmp_path / 'y'}")) == 6


def test_a_default_that_the_card_calls_so_is_taken_and_said(cache: Callable[..., Path]) -> None:
    root = cache("owner/animals")
    card(root)
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("config_name: full", "config_name: full\n  default: true"))
    with collecting() as remarks:
        assert len(load_images("hf:owner/animals")) == 2
    assert any("configuration: full of cropped, full" in line for line in remarks.notes)


def test_a_configuration_of_the_card_may_be_a_folder_alone(tmp_path: Path) -> None:
    for name in ("full", "mini"):
        for split in ("train", "test"):
            table(tmp_path / name / f"{split}.parquet", ["cat", "dog"], NAMES)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: big\n  data_files:\n  - {split: train, path: full/train*}\n- config_name: small\n  data_dir: mini\n---\n"
    )
    assert sizes(load_images(f"parquet:{tmp_path}?config=small")) == {"train": 2, "test": 2}
    with pytest.raises(DataError, match="2 configurations"):
        load_images(f"parquet:{tmp_path}")


def test_one_configuration_needs_no_choice(cache: Callable[..., Path]) -> None:
    root = cache("owner/animals")
    table(root / "data" / "train-00000-of-00001.parquet", ["cat", "dog", "owl"], NAMES)
    table(root / "data" / "test-00000-of-00001.parquet", ["owl", "cat"], NAMES)
    for spec in ("hf:owner/animals", "hf:owner/animals@default", "hf:owner/animals@main"):
        assert sizes(load_images(spec)) == {"train": 3, "test": 2}
    assert len(load_images("hf:owner/animals?split=test")) == 2


def test_a_revision_is_still_a_revision(cache: Callable[..., Path]) -> None:
    table(
        cache("owner/animals", "refs/convert/parquet", "b" * 40) / "default" / "train" / "0000.parquet",
        ["cat", "dog"],
        NAMES,
    )
    assert len(load_images("hf:owner/animals@refs/convert/parquet")) == 2
    two(cache("owner/both"))
    cache("owner/both", "full", "c" * 40)
    table(Path(cache("owner/both", "other", "d" * 40)) / "data" / "train.parquet", ["cat"], NAMES)
    assert (
        len(load_images("hf:owner/both@full?split=test")) == 1
    )  # an empty snapshot of that name is no revision to read


def test_a_name_of_a_revision_and_a_configuration_is_asked_about(cache: Callable[..., Path]) -> None:
    two(cache("owner/both"))
    table(cache("owner/both", "full", "c" * 40) / "train.parquet", ["cat"], NAMES)
    with pytest.raises(SpecError, match=r"\?config=full"):
        load_images("hf:owner/both@full")


def test_labels_of_splits_that_count_in_other_orders_go_by_name(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", ["cat", "dog", "owl"], NAMES)
    table(tmp_path / "test.parquet", ["owl", "cat"], ["owl", "dog", "cat"])
    with collecting() as remarks:
        images = load_images(f"parquet:{tmp_path}")
    assert right(images)
    assert images.classes == ("cat", "dog", "owl")
    assert any("by class name" in line for line in remarks.notes)


@pytest.mark.parametrize("other", ["text", ["dog", "owl"], ["owl", "cat", "dog", "yak"]])
def test_names_of_one_split_meet_names_of_another(tmp_path: Path, other: Any) -> None:
    table(tmp_path / "train.parquet", ["cat", "dog", "owl"], NAMES)
    table(tmp_path / "test.parquet", ["owl", "dog"], other)
    assert right(load_images(f"parquet:{tmp_path}"))


def test_files_of_one_split_may_differ_too(tmp_path: Path) -> None:
    table(tmp_path / "train-00000-of-00002.parquet", ["cat", "owl"], ["cat", "owl"])
    table(tmp_path / "train-00001-of-00002.parquet", ["owl", "dog"], ["owl", "dog"])
    images = load_images(f"parquet:{tmp_path}")
    assert right(images)
    assert images.ids == tuple(f"train/{i:06d}" for i in range(4))


@pytest.mark.parametrize("named", [NAMES, "text"])
def test_numbers_without_names_beside_names_are_refused(tmp_path: Path, named: Any) -> None:
    table(tmp_path / "train.parquet", ["cat", "dog", "owl"], named)
    table(tmp_path / "test.parquet", ["owl", "cat"], "number")
    with pytest.raises(DataError, match="class names in train and numbers without names in test"):
        load_images(f"parquet:{tmp_path}")
    assert len(load_images(f"parquet:{tmp_path}?split=train")) == 3


def test_names_from_the_card_serve_files_without_them(tmp_path: Path) -> None:
    table(tmp_path / "data" / "train-00000-of-00001.parquet", ["cat", "dog", "owl"], "number")
    table(tmp_path / "data" / "test-00000-of-00001.parquet", ["owl"], "number")
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n"
        "        names:\n          '0': cat\n          '1': dog\n          '2': owl\n  splits:\n  - name: train\n---\n"
    )
    assert right(load_images(f"parquet:{tmp_path}"))


def test_names_of_splits_that_differ_in_case_are_one_class_and_said(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", ["cat", "dog"], "text")
    features = Features({"image": ImageFeature(), "label": Value("string")})
    cells = [{"bytes": png(SHADE[a]), "path": None} for a in ("cat", "dog")]
    Dataset.from_dict({"image": cells, "label": ["Cat", "dog"]}, features=features).to_parquet(
        str(tmp_path / "test.parquet")
    )
    with collecting() as remarks:
        images = load_images(f"parquet:{tmp_path}")
    assert (images.classes, right(images)) == (("cat", "dog"), True)
    assert any("differ in case only" in line for line in remarks.cautions)


def test_hidden_labels_are_no_class(tmp_path: Path) -> None:
    table(tmp_path / "a" / "train.parquet", ["cat", "dog", "owl"] * 2, NAMES)
    table(tmp_path / "a" / "test.parquet", ["owl", "cat"])  # ClassLabel, -1 in all rows
    table(tmp_path / "b" / "train.parquet", ["cat", "dog", "owl"] * 2, "number")
    table(tmp_path / "b" / "test.parquet", [None, None], "number")
    for name in "ab":
        with collecting() as remarks:
            images = load_images(f"parquet:{tmp_path / name}")
        assert len(images) == 6
        assert "-1" not in images.classes
        assert not images.declared
        assert not images.quarantine
        assert any("test are hidden" in line for line in remarks.notes)
    table(tmp_path / "c.parquet", ["cat", None, "owl"], "number")
    images = load_images(str(tmp_path / "c.parquet"))
    assert images.classes == ("0", "2")
    assert [q.reason for q in images.quarantine] == ["no label in this row"]


def test_minus_one_and_one_are_two_classes(tmp_path: Path) -> None:
    cells = [{"bytes": png(9), "path": None}] * 4
    Dataset.from_dict({"image": cells, "label": [-1, 1, 1, -1]}).to_parquet(str(tmp_path / "x.parquet"))
    assert set(load_images(str(tmp_path / "x.parquet")).classes) == {"-1", "1"}


def test_splits_of_ones_own_are_not_trained_on(tmp_path: Path) -> None:
    for name, n in (("train", 3), ("test", 2), ("unlabeled", 5)):
        table(tmp_path / f"{name}-00000-of-00001.parquet", ["cat"] * n, NAMES)
    with collecting() as remarks:
        assert sizes(load_images(f"parquet:{tmp_path}")) == {"train": 3, "test": 2}
    assert any("unlabeled are not" in line for line in remarks.notes)
    assert len(load_images(f"parquet:{tmp_path}?split=unlabeled")) == 5
    for name in ("train", "test"):
        (tmp_path / f"{name}-00000-of-00001.parquet").rename(tmp_path / f"{name}_v2-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"splits test_v2, train_v2, unlabeled.*\?split="):
        load_images(f"parquet:{tmp_path}")


def test_a_snapshot_that_was_fetched_in_part_is_refused(cache: Callable[..., Path], tmp_path: Path) -> None:
    table(cache("owner/animals") / "data" / "train-00001-of-00003.parquet", ["cat", "dog"], NAMES)
    with pytest.raises(DataError, match="1 of 3 files of train are here"):
        load_images("hf:owner/animals")
    table(tmp_path / "x" / "train-00001-of-00003.parquet", ["cat", "dog"], NAMES)
    with collecting() as remarks:
        load_images(f"parquet:{tmp_path / 'x'}")
    assert any("1 of 3 files" in line for line in remarks.cautions)


def test_a_snapshot_without_tables_says_what_to_do(cache: Callable[..., Path]) -> None:
    root = cache("owner/photos")
    (root / "train").mkdir()
    (root / "train" / "1.png").write_bytes(png(9))
    with pytest.raises(DataError, match=r"holds no .parquet or .arrow file.*folder:"):
        load_images("hf:owner/photos")


def test_what_datasets_has_built_is_not_mixed_either(cache: Callable[..., Path], tmp_path: Path) -> None:
    for config in ("cropped", "full"):
        table(tmp_path / "src" / config / "train.parquet", ["cat", "dog"] if config == "full" else ["owl"], NAMES)
        built = load_dataset(
            "parquet",
            data_files={"train": str(tmp_path / "src" / config / "train.parquet")},
            cache_dir=str(tmp_path / "raw"),
        )
        (arrow,) = built["train"].cache_files
        home = tmp_path / "datasets" / "owner___animals" / config / "0.0.0" / "abc"
        home.mkdir(parents=True)
        info = built["train"].info
        info.config_name, info.dataset_name, info.builder_name = config, "animals", "parquet"
        info.write_to_directory(str(home))
        (home / "animals-train.arrow").write_bytes(Path(arrow["filename"]).read_bytes())
    with pytest.raises(DataError, match=r"2 configurations.*cropped, full"):
        load_images("hf:owner/animals")
    assert len(load_images("hf:owner/animals@full")) == 2


def test_rows_that_name_their_file_count_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, shade in enumerate((10, 100, 200)):
        (tmp_path / "photos" / f"{i}.png").write_bytes(png(shade))
    cells = [{"bytes": None, "path": str(tmp_path / "photos/0.png")}, {"bytes": None, "path": "photos/1.png"},
             {"bytes": png(200), "path": "2.png"}, {"bytes": None, "path": "photos/9.png"}]  # fmt: skip
    features = Features({"image": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    path = tmp_path / "x.parquet"
    Dataset.from_dict({"image": cells, "label": ["cat", "dog", "owl", "cat"]}, features=features).to_parquet(str(path))
    images = load_images(str(path))
    assert right(images)
    assert [q.reason for q in images.quarantine] == ["photos/9.png: not found"]
    first = images.fingerprint
    assert load_images(str(path)).fingerprint == first
    (tmp_path / "photos/1.png").write_bytes(png(101))
    assert load_images(str(path)).fingerprint != first


def test_several_columns_of_labels_are_asked_about(tmp_path: Path) -> None:
    kinds = Features(
        {"image": ImageFeature(), "species": ClassLabel(names=NAMES), "colour": ClassLabel(names=["red", "blue"])}
    )
    rows = {"image": [{"bytes": png(9), "path": None}] * 2, "species": [0, 1], "colour": [1, 0]}
    Dataset.from_dict(rows, features=kinds).to_parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match=r"species, colour; choose one with \?label=species"):
        load_images(str(tmp_path / "x.parquet"))
    assert load_images(f"parquet:{tmp_path / 'x.parquet'}?label=colour").classes == ("red", "blue")


def test_lists_of_labels_are_refused(tmp_path: Path) -> None:
    kinds = Features({"image": ImageFeature(), "label": Sequence(Value("int64"))})
    Dataset.from_dict({"image": [{"bytes": png(9), "path": None}], "label": [[0, 1]]}, features=kinds).to_parquet(
        str(tmp_path / "x.parquet")
    )
    with pytest.raises(DataError, match="holds no class names or numbers"):
        load_images(str(tmp_path / "x.parquet"))
