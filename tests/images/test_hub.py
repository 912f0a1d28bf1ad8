"""Parquet, Arrow and hub data sets: columns found by type, splits declared, quick answers without a network."""

from __future__ import annotations

import io
import pickle
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, config
from datasets import Image as ImageFeature
from PIL import Image

from visus.errors import DataError, OfflineError, SpecError
from visus.images import load_images


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (number * 20, 0, 0)).save(out, "PNG")
    return out.getvalue()


def table(path: Path, labels: list[int | None], *, named: bool = True, gap: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [None if i == gap else {"bytes": png(v or 0), "path": f"{i}.png"} for i, v in enumerate(labels)]
    label = ClassLabel(names=["zero", "one", "two"]) if named else Value("int64")
    features = Features({"id": Value("int64"), "picture": ImageFeature(), "label": label})
    made = Dataset.from_dict({"id": list(range(len(labels))), "picture": cells, "label": labels}, features=features)
    made.to_parquet(str(path))


def colours(images: object) -> list[int]:
    return [int(np.asarray(images.decode(i))[0, 0, 0]) // 20 for i in range(len(images))]  # type: ignore[attr-defined,arg-type]


def test_one_file_with_gaps(tmp_path: Path) -> None:
    table(tmp_path / "x.parquet", [0, 1, 2, None, 1, 0], gap=1)
    images = load_images(str(tmp_path / "x.parquet"))
    assert images.classes == ("zero", "one", "two")
    assert images.labels is not None
    assert images.labels.tolist() == colours(images) == [0, 2, 1, 0]
    assert {q.id: q.reason for q in images.quarantine} == {
        "row/000001": "no image in this row",
        "row/000003": "no label in this row",
    }
    again = pickle.loads(pickle.dumps(images))  # noqa: S301  (our own bytes)
    assert colours(again) == colours(images)
    assert again.fingerprint == images.fingerprint


def test_splits_by_file_name(tmp_path: Path) -> None:
    table(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1, 2])
    table(tmp_path / "data" / "test-00000-of-00001.parquet", [2, 1])
    images = load_images(f"parquet:{tmp_path}")
    assert images.labels is not None
    assert images.labels.tolist() == colours(images)
    assert {k: [images.ids[i] for i in v] for k, v in images.declared.items()} == {
        "test": ["test/000000", "test/000001"],
        "train": ["train/000000", "train/000001", "train/000002"],
    }
    only = load_images(f"parquet:{tmp_path}?split=test")
    assert len(only) == 2
    assert not only.declared


def test_columns_by_name_and_plain_numbers(tmp_path: Path) -> None:
    table(tmp_path / "x.parquet", [2, 0, 2], named=False)
    images = load_images(f"parquet:{tmp_path / 'x.parquet'}?image=picture&label=label")
    assert images.classes == ("0", "2")
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 1]
    with pytest.raises(SpecError, match="nearest: picture"):
        load_images(f"parquet:{tmp_path / 'x.parquet'}?image=pictur")
    with pytest.raises(SpecError, match="option"):
        load_images(f"parquet:{tmp_path / 'x.parquet'}?colour=red")


def test_arrow_and_bare_bytes(tmp_path: Path) -> None:
    made = Dataset.from_dict({"image": [{"bytes": png(i)} for i in range(3)], "category": ["b", "a", "b"]})
    made.save_to_disk(str(tmp_path / "saved"))
    images = load_images(f"parquet:{tmp_path / 'saved'}")
    assert colours(images) == [0, 1, 2]
    assert images.classes == ("a", "b")
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 1]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 rubbish")
    with pytest.raises(DataError, match="cannot read"):
        load_images(str(tmp_path / "x.parquet"))
    Dataset.from_dict({"a": [1, 2]}).to_parquet(str(tmp_path / "y.parquet"))
    with pytest.raises(DataError, match="no image column"):
        load_images(str(tmp_path / "y.parquet"))
    with pytest.raises(DataError, match="does not exist"):
        load_images(f"parquet:{tmp_path / 'z.parquet'}")


@pytest.mark.parametrize("allowed", [True, False])
def test_hub_without_network(allowed: bool) -> None:
    start = time.monotonic()
    with pytest.raises(OfflineError, match="parquet:PATH") as caught:
        load_images("hf:owner/nothing-here", download=allowed)
    assert time.monotonic() - start < 5
    assert ("--download" in str(caught.value)) != allowed
    assert "\n" not in str(caught.value)


def test_hub_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(config, "HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(OfflineError, match=r"cannot fetch hf:owner/nothing from http://127\.0\.0\.1:9"):
        load_images("hf:owner/nothing", download=True)
    assert time.monotonic() - start < 5


def test_hub_snapshot_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "train-0.parquet", [0, 1])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    assert len(load_images("hf:owner/kept")) == 2
