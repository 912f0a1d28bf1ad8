"""Which images are read: everything below a folder, but never what visus wrote itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image

import visus
from visus.app.cli import main
from visus.errors import DataError, StoreError
from visus.images import load_images
from visus.images.gather import gather
from visus.outputs import MARKER, mark, written_in
from visus.paths import check_writable
from visus.progress import collecting
from visus.report import write_report
from visus.result import Column, Result, Section, Table

Plant = Callable[..., None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    return root


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    return data.getvalue()


def plant(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 7 % 256, 9, 9)).save(root / name, "PNG")


def output(folder: Path) -> None:
    """A study's output, with a picture among its figures."""
    table = Table(key="one", title="One", columns=(Column("a", "a"),), rows=[(1,)])
    section = Section(key="s", title="?", source="visus.studies.predict", tables=(table,))
    write_report(Result(study="predict", title="t", sections=(section,)), folder)
    (folder / "figures").mkdir(exist_ok=True)
    plant(folder, "figures/x.png")
    mark(folder, ["figures/x.png"])


def test_output_is_never_a_class_nor_hides_the_pictures(photos: Path) -> None:
    plant(photos, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    before = load_images(str(photos))
    output(photos / "visus-out" / "transfer")
    output(photos / "results")
    with collecting() as said:
        after = load_images(str(photos))
    assert after.ids == before.ids
    assert after.classes == ("a", "b")
    assert not after.quarantine
    assert "results, visus-out" in said.notes[0]


def test_a_flat_folder_stays_flat_beside_output(photos: Path) -> None:
    plant(photos, *(f"{i}.png" for i in range(4)))
    output(photos / "visus-out" / "predict")
    for kind in ("needed", "wanted", "unused"):
        images = load_images(str(photos), classes=kind)
        assert len(images) == 4
        assert images.labels is None


def test_output_into_the_folder_of_the_pictures_itself(photos: Path) -> None:
    plant(photos, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    output(photos)
    output(photos / "dog")
    images = load_images(str(photos))
    assert images.ids == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert images.classes == ("cat", "dog")
    assert not images.quarantine


def test_output_of_a_version_without_marker(photos: Path) -> None:
    plant(photos, "a/1.png", "b/1.png")
    output(photos / "runs")
    (photos / "runs" / MARKER).unlink()
    assert load_images(str(photos)).classes == ("a", "b")
    (photos / "runs" / "result.json").write_text(json.dumps({"accuracy": 1}))  # somebody else's
    assert "runs" in load_images(str(photos)).classes


def test_an_interrupted_training_and_an_empty_default_folder_are_no_classes(photos: Path) -> None:
    plant(photos, "a/1.png", "b/1.png")
    mark(photos / "visus-out" / "train", ["checkpoints/"])
    (photos / "visus-out" / "train" / "training.json").write_text("{}")
    (photos / "visus-out" / "train" / "checkpoints").mkdir()
    (photos / "visus-out" / "train" / "checkpoints" / "last.ckpt").write_bytes(b"x")
    (photos / "visus-out" / "vae").mkdir()
    images = load_images(str(photos))
    assert images.classes == ("a", "b")
    assert not images.quarantine


def test_a_page_leaves_what_a_training_needs(photos: Path) -> None:
    mark(photos, ["checkpoints/"])
    (photos / "training.json").write_text("{}")
    (photos / "checkpoints").mkdir()
    (photos / "checkpoints" / "last.ckpt").write_bytes(b"x")
    for _ in range(2):
        output(photos)
    assert (photos / "training.json").is_file()
    assert (photos / "checkpoints" / "last.ckpt").is_file()


def test_the_cache_inside_the_folder_is_not_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(photos, "a/1.png", "b/1.png", "cache/thumbnails/x.png")
    monkeypatch.setenv("VISUS_HOME", str(photos / "cache"))
    assert load_images(str(photos)).classes == ("a", "b")


def test_a_folder_called_visus_out_with_pictures_is_the_users(photos: Path) -> None:
    plant(photos, "visus-out/1.png", "other/1.png")
    assert load_images(str(photos)).classes == ("other", "visus-out")


def test_marker_lists_what_was_written_and_is_added_to(photos: Path) -> None:
    mark(photos, ["a/", "b.txt"])
    mark(photos, ["c"])
    assert written_in(photos) == {MARKER, "a/", "b.txt", "c"}


@pytest.mark.parametrize("theirs", [b"\xff\xfe\xff", b"a.png\n", b""])
def test_anothers_file_of_that_name_hides_nothing_and_is_kept(photos: Path, theirs: bytes) -> None:
    plant(photos, "a.png", "b.png")
    (photos / MARKER).write_bytes(theirs)
    assert len(load_images(str(photos))) == 2
    with pytest.raises(StoreError, match="was not written by visus"):
        mark(photos, ["d"])
    assert (photos / MARKER).read_bytes() == theirs


def test_tables_of_features_are_no_tables_of_pictures(tmp_path: Path) -> None:
    cells = [{"bytes": picture(), "path": None}] * 4
    Dataset.from_dict({"image": cells, "label": [0, 1, 0, 1]}).to_parquet(str(tmp_path / "x.parquet"))
    mark(tmp_path / "visus-out" / "extract", ["features/"])
    (tmp_path / "visus-out" / "extract" / "features").mkdir()
    Dataset.from_dict({"f0": [1.0]}).to_parquet(str(tmp_path / "visus-out" / "extract" / "features" / "p.parquet"))
    assert len(load_images(f"parquet:{tmp_path}")) == 4


def test_nothing_is_made_before_the_listing(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        visus.predict([str(tmp_path)], out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    for bad in ("file", "file/out", "loose"):
        with pytest.raises(StoreError, match="--out"):
            check_writable(tmp_path / bad)
    with pytest.raises(StoreError, match="--out"):
        check_writable("/proc/visus/out")


def test_predict_twice_in_a_folder_of_pictures(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(photos, *(f"{i}.png" for i in range(3)), "more/4.png")
    monkeypatch.chdir(photos)
    monkeypatch.setattr("sys.argv", ["visus", "predict", ".", "--json"])
    for _ in range(2):
        with pytest.raises(SystemExit) as done:
            main()
        assert not done.value.code
        (section, *_) = json.loads(capsys.readouterr().out)["sections"]
        (rows,) = (table["rows"] for table in section["tables"] if table["key"] == "predictions")
        assert {r[0] for r in rows} == {"0.png", "1.png", "2.png", "more/4.png"}
        assert (photos / "visus-out" / "predict" / "index.html").is_file()


def test_commands_without_classes_read_everything_below(photos: Path) -> None:
    plant(photos, *(f"{i}.png" for i in range(10)), *(f"sub/{i}.png" for i in range(4)), "sub/deep/x.png")
    images, aside = gather([str(photos)], limit=None, seed=0, download=False)
    assert len(images) == 15
    assert not aside
    (photos / "docs").mkdir()
    (photos / "docs" / "notes.txt").write_text("x")
    for kind in ("wanted", "needed"):  # one subfolder beside pictures is no set of classes
        assert len(load_images(str(photos), classes=kind)) == 15


def test_pictures_beside_class_folders(photos: Path) -> None:
    plant(photos, "a/1.png", "a/2.png", "b/1.png", "stray.png", "stray2.png")
    (photos / "README.md").write_text("# notes")
    with collecting() as said:
        needed = load_images(str(photos))
    assert needed.classes == ("a", "b")
    assert len(needed) == 3
    assert {q.id for q in needed.quarantine} == {"stray.png", "stray2.png", "README.md"}
    assert said.cautions == ["2 pictures lie outside the class folders and are left out: stray.png, stray2.png."]
    with collecting() as said:
        wanted = load_images(str(photos), classes="wanted")
    assert len(wanted) == 5
    assert wanted.labels is None
    assert "all are read, without classes" in said.cautions[0]
    (photos / "stray.png").unlink()
    (photos / "stray2.png").unlink()
    with collecting() as said:
        assert load_images(str(photos), classes="wanted").classes == ("a", "b")
    assert not said.cautions


@pytest.mark.parametrize(
    "junk",
    [
        ".ipynb_checkpoints",
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        ".thumbnails",
        "@Recycle",
        "System Volume Information",
    ],
)
def test_what_systems_leave_behind_is_no_class(photos: Path, junk: str) -> None:
    plant(photos, "a/1.png", "b/1.png", f"{junk}/x.png", f"a/{junk}/x.png", "a/._1.png")
    images = load_images(str(photos))
    assert images.ids == ("a/1.png", "b/1.png")
    assert not images.quarantine


def test_a_shells_star_names_the_output_as_well(photos: Path) -> None:
    plant(photos, "1.png", "2.png")
    output(photos / "visus-out" / "predict")
    images, _ = gather([str(p) for p in sorted(photos.iterdir())], limit=None, seed=0, download=False)
    assert images.ids == ("1.png", "2.png")
    output(photos)  # marked as well, but with pictures of the user's
    images, _ = gather([str(photos), str(photos / "1.png")], limit=None, seed=0, download=False)
    assert len(images) == 3


def test_an_output_given_as_images(photos: Path) -> None:
    output(photos / "visus-out" / "predict")
    for name in ("visus-out", "visus-out/predict"):
        with pytest.raises(DataError, match="nothing but what visus wrote itself"):
            load_images(str(photos / name))


def test_links_to_folders_and_files_are_followed(photos: Path, tmp_path: Path) -> None:
    plant(tmp_path / "store", "x/1.png", "x/2.png")
    plant(photos, "b/1.png")
    (photos / "a").symlink_to(tmp_path / "store" / "x")
    (photos / "b" / "2.png").symlink_to(tmp_path / "store" / "x" / "2.png")
    images = load_images(str(photos))
    assert images.ids == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
