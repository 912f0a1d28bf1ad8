"""Groups of Parquet sets: the column `group`, or one that is named."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image

from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.progress import collecting


@pytest.fixture
def file(tmp_path: Path) -> Path:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    rows = {
        "image": [{"bytes": out.getvalue(), "path": None}] * 6,
        "label": [0, 1] * 3,
        "other": ["a", "b"] * 3,
        "group": [5, 5, 6, 6, None, None],
        "patient": ["x", "y", "z"] * 2,
        "typed": ["P1", "p1 ", "p2", "P2", "", ""],
    }
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "x.parquet"))
    return tmp_path / "x.parquet"


def test_groups_of_a_parquet_file(file: Path) -> None:
    with collecting() as said:
        images = load_images(str(file))
    assert images.groups is not None
    assert images.groups[0] == images.groups[1] != images.groups[2]
    assert len(set(images.groups.tolist())) == 4  # rows without one stand alone
    assert "groups: column `group`, 4 of them over 6 images" in said.notes
    patients = load_images(str(file), groups="patient").groups
    assert patients is not None
    assert (patients[:3] == patients[3:]).all()
    typed = load_images(str(file), groups="typed").groups
    assert typed is not None
    assert typed[0] == typed[1] != typed[2] == typed[3]
    assert typed[4] != typed[5]  # a blank is no group
    assert load_images(f"{file}?groups=").groups is None
    with pytest.raises(SpecError, match=r"unknown column .* nearest: .*patient"):
        load_images(f"{file}?groups=patiet")


def test_the_label_column_of_a_parquet_file(file: Path) -> None:
    assert load_images(str(file), label_column="other").classes == ("a", "b")
    with pytest.raises(DataError, match="contradicts label=label"):
        load_images(f"{file}?label=label", label_column="other")


def test_groups_that_straddle_declared_splits_are_an_error_with_a_way_out(file: Path) -> None:
    for name in ("train", "test"):
        (file.parent / "d").mkdir(exist_ok=True)
        (file.parent / "d" / f"{name}.parquet").write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"must not straddle.*\?groups="):
        load_images(f"parquet:{file.parent / 'd'}").split(seed=0)
