"""What lies in the store: folders of Parquet files and nothing else, one schema, labels, ids that no other set has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.features import tiny

import visus
from visus.features import Features, extract, store
from visus.features import manifest as manifests
from visus.images import ImageSet

COLUMNS = ["index", "id", "name", "label", "pixels", "vector"]
SETTINGS = {"engine": "torch", "batch": 4, "shard_rows": 4}


def labelled(n: int, *names: str, seed: int = 0) -> ImageSet:
    return replace(tiny.noise(n, seed), labels=np.arange(n) % len(names), classes=names)


def made(images: ImageSet, folder: Path | None = None, **options: object) -> Features:
    return extract(images, tiny.backbone(), ["stem", "late"], store=folder, **{**SETTINGS, **options})  # type: ignore[arg-type]


def test_a_folder_of_data_holds_parquet_files_of_one_schema_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = made(labelled(10, "cat", "dog"), tmp_path)
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    for tap in features.taps:
        assert isinstance(store.read_vectors(features.folders[tap], limit=0), np.memmap)  # its map lies elsewhere
        lying = sorted(features.folders[tap].iterdir())
        assert [p.name for p in lying] == [f"part-{k:05d}.parquet" for k in range(3)]
        assert {tuple(pq.read_schema(p).names) for p in lying} == {tuple(COLUMNS)}
        assert len({str(pq.read_schema(p)) for p in lying}) == 1
    # Nothing but hidden folders and locks beside the taps.
    (root,) = tmp_path.iterdir()
    assert sorted(p.name for p in root.iterdir()) == [".lock", ".visus", "head", "stem"]


def test_pandas_and_datasets_read_the_folder(tmp_path: Path) -> None:
    import pandas as pd
    from datasets import Dataset

    features = made(labelled(10, "cat", "dog"), tmp_path)
    folder = features.folders["head"]
    frame = pd.read_parquet(folder)
    assert frame["label"].tolist() == ["cat", "dog"] * 5
    assert np.array_equal(np.stack(frame["vector"].tolist()), features["head"])
    assert Dataset.from_parquet(str(folder / "*.parquet"), cache_dir=str(tmp_path / "hf")).num_rows == 10


def test_polars_reads_the_folder(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    features = made(labelled(10, "cat", "dog"), tmp_path)
    for frame in (
        polars.read_parquet(features.folders["head"]),
        polars.scan_parquet(features.folders["head"]).collect(),
    ):
        assert frame.columns == COLUMNS
        assert frame["label"].to_list() == ["cat", "dog"] * 5
        assert np.array_equal(frame["vector"].to_numpy(), features["head"])


def test_duckdb_reads_the_folder(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder = made(labelled(10, "cat", "dog"), tmp_path).folders["head"]
    rows = duckdb.sql(f"select label, count(*) from '{folder}/*.parquet' group by label order by label").fetchall()
    assert rows == [("cat", 5), ("dog", 5)]


def frame(features: Features, tap: str = "head") -> dict[str, list]:
    return pq.read_table(features.folders[tap]).to_pydict()


def test_labels_follow_the_one_who_asks_and_vectors_stay(tmp_path: Path) -> None:
    images = labelled(10, "cat", "dog")
    first = made(images, tmp_path)
    assert frame(first)["label"] == ["cat", "dog"] * 5
    other = replace(images, labels=np.arange(10) // 5, classes=("young", "old"))
    images.source.reads.clear()  # type: ignore[attr-defined]
    # A study has labels of its own and leaves the column alone; `visus extract` shows its labels.
    assert made(other, tmp_path).cost["cached"]
    assert frame(first)["label"] == ["cat", "dog"] * 5
    again = made(other, tmp_path, labelled=True)
    assert again.folders == first.folders
    assert frame(again)["label"] == ["young"] * 5 + ["old"] * 5
    assert np.array_equal(again["head"], first["head"])
    assert images.source.reads == []  # type: ignore[attr-defined]
    assert made(other, tmp_path, labelled=True).cost["cached"]
    assert frame(made(replace(images, labels=None), tmp_path, labelled=True))["label"] == [None] * 10


def test_a_run_that_goes_on_under_other_labels_ends_with_one_labelling(tmp_path: Path) -> None:
    images = labelled(10, "cat", "dog")
    first = made(images, tmp_path)
    for tap in first.taps:
        (first.folders[tap] / manifests.part(1)).unlink()
    other = replace(images, labels=np.arange(10) // 5, classes=("young", "old"))
    mixed = made(other, tmp_path)
    assert frame(mixed)["label"][4:6] == ["young", "old"]
    assert frame(made(images, tmp_path, labelled=True))["label"] == ["cat", "dog"] * 5


def test_ids_are_unique_across_sets_and_the_same_in_a_sample_of_one(tmp_path: Path) -> None:
    images, other = labelled(10, "cat", "dog"), labelled(10, "cat", "dog", seed=1)
    assert images.ids == other.ids
    a, b, part = (frame(made(s, tmp_path)) for s in (images, other, images.subset(np.arange(0, 10, 3))))
    assert len({*a["id"], *b["id"]}) == 20
    assert a["name"] == list(images.ids)
    assert set(part["id"]) < set(a["id"])


def test_hashes_of_pixels_are_in_the_store(tmp_path: Path) -> None:
    images = tiny.plain_images(9, broken=(4,))
    twice = replace(images, rows=np.array([0, 1, 2, 0, 4, 5, 1, 7]), ids=tuple("abcdefgh"))
    features = made(twice, tmp_path)
    pixels = features.pixels
    assert len(pixels) == len(features) == 7
    assert pixels[0] == pixels[3]
    assert pixels[1] == pixels[5]
    assert len(set(pixels)) == 5
    assert frame(features)["pixels"] == pixels.tolist()
    assert np.array_equal(made(twice, tmp_path).pixels, pixels)  # from the store


def test_visus_extract_gives_labels(tmp_path: Path) -> None:
    for i, name in enumerate(("cat", "dog") * 2):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(tmp_path / "photos" / name / f"{i}.png")
    result = visus.extract(images=str(tmp_path / "photos"), taps=["late"], engine="torch", out=str(tmp_path / "out"))
    folder = Path(result.tables["features"].rows[0][-1])
    assert pq.read_table(folder)["label"].to_pylist() == ["cat", "cat", "dog", "dog"]
    assert all(p.suffix == ".parquet" for p in folder.iterdir())
