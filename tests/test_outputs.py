"""Where an output may go: never over what visus did not write, never into what is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from visus.errors import StoreError
from visus.outputs import check_out, mark
from visus.report import write_report
from visus.result import Result

EMPTY = Result(study="vae", title="Nothing", sections=())


@pytest.mark.parametrize(
    ("name", "study"),
    [
        ("index.html", "vae"),
        ("result.json", "vae"),
        ("arrays.npz", "predict"),
        ("predictions.parquet", "transfer"),
        ("figures/mine.png", "vit"),
        ("tables/mine.csv", "clip"),
        ("features/mine.parquet", "extract"),
        ("config.json", "train"),
        ("model.safetensors", "train"),
        ("checkpoints/last.ckpt", "train"),
    ],
)
def test_what_somebody_else_wrote_is_never_overwritten(tmp_path: Path, name: str, study: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("<html>my site</html>")
    with pytest.raises(
        StoreError, match="which visus did not write and would overwrite; give an empty or a new folder"
    ) as caught:
        check_out(tmp_path, study)
    assert name.partition("/")[0] in str(caught.value)
    assert file.read_text() == "<html>my site</html>"
    assert [p.name for p in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_what_leaves_room_for_an_output_is_taken(tmp_path: Path) -> None:
    assert check_out(tmp_path / "new" / "er", "vae") == tmp_path / "new" / "er"
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints").mkdir()
    assert check_out(tmp_path, "vae") == tmp_path
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "notes.txt"]


@pytest.mark.parametrize("study", ["vae", "transfer", "train", "extract"])
def test_an_output_of_ours_is_used_again_by_any_study(tmp_path: Path, study: str) -> None:
    write_report(EMPTY, tmp_path)
    check_out(tmp_path, study)
    (tmp_path / ".visus").unlink()  # as versions without a marker left it
    check_out(tmp_path, study)


def test_a_page_that_came_beside_ours_is_not_ours(tmp_path: Path) -> None:
    mark(tmp_path, ["features/"])
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(StoreError, match=r"holds index\.html"):
        check_out(tmp_path, "extract")


def test_a_file_a_device_and_a_dead_link_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for out in (tmp_path / "file", "/dev/null", tmp_path / "link"):
        with pytest.raises(StoreError, match="is no folder"):
            check_out(out, "vae")
    with pytest.raises(StoreError, match="cannot write to the folder"):
        check_out(tmp_path / "file" / "below", "vae")
    with pytest.raises(StoreError, match="--out is empty"):
        check_out(" ", "vae")


@pytest.mark.parametrize("form", ["{}", "folder:{}", "folder:{}?train=a&test=b", "{}/"])
def test_the_folder_that_is_read_is_not_written_to(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    given = [3, None, ["visus:digits", form.format(photos)], "x" * 5000, "a\0b"]
    with pytest.raises(StoreError, match=r"is the folder that is read; give another, as .*visus-out/predict"):
        check_out(photos, "predict", given)
    monkeypatch.chdir(photos)
    with pytest.raises(StoreError, match="is the folder that is read"):
        check_out(".", "predict", given)
    assert check_out(photos / "visus-out" / "predict", "predict", given)
    assert list(photos.iterdir()) == []
