"""A cache written before serves: its key, its layout and its manifests are read as they were written (`old_store`, by version 0.1 at 501b48e)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.features import tiny

from visus.features import extract, key, plan
from visus.features.manifest import MANIFEST, part, side
from visus.images import ImageSet
from visus.models.base import Backbone
from visus.models.tap import Tap

OLD = Path(__file__).with_name("old_store")
SETTINGS: dict[str, Any] = {"engine": "torch", "device": "cpu", "batch": 4, "shard_rows": 4, "workers": 2}
TAPS = ("stem/out", "head")


def asked() -> tuple[ImageSet, Backbone]:
    """What the old store holds the features of."""
    images = replace(tiny.noise(10), labels=np.arange(10) % 2, classes=("cat", "dog"))
    model = tiny.backbone()
    model.taps = (model.taps[0], replace(model.taps[1], name="stem/out"), *model.taps[2:])
    return images, model


def laid(store: Path, images: ImageSet, model: Backbone) -> Path:
    """The old store under today's key, which names the versions of today's packages."""
    name = key.feature_key(images, model, pool="mean", precision="fp32", engine="torch", device="cpu")
    shutil.copytree(OLD, store / name)
    return store / name


@pytest.mark.parametrize(
    ("engine", "device", "pool", "expected"),
    [
        ("torch", "cpu", "mean", "02f0a1a6f24b018c5b0e1d8e3b11ea0d"),
        ("openvino", "cpu", "flatten", "dd19798583fb14bf89846d57355bfee4"),
        ("torch", "cuda:1", "cls", "4c1b91638b83343adc29861798a0b62c"),
    ],
)
def test_keys_are_those_of_before(
    monkeypatch: pytest.MonkeyPatch, engine: str, device: str, pool: str, expected: str
) -> None:
    monkeypatch.setattr(key, "minor", lambda package: "1.0")
    monkeypatch.setattr(key, "__version__", "0.0.0")
    taps = (Tap("stem", "0", "spatial", 0.0, (4, 6, 6)), Tap("late/out", "1", "tokens", 1.0, (4,)))
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GELU())
    images: Any = SimpleNamespace(fingerprint="images")
    model: Any = SimpleNamespace(fingerprint="weights", module=module, taps=taps)
    found = key.feature_key(images, model, pool=pool, precision="fp32", engine=engine, device=device)
    assert found == expected


def test_a_store_of_before_is_served_and_not_touched(tmp_path: Path) -> None:
    images, model = asked()
    root = laid(tmp_path, images, model)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    features = extract(images, model, TAPS, store=tmp_path, labelled=True, **SETTINGS)
    assert features.cost["cached"] is True
    assert images.source.reads == []  # type: ignore[attr-defined]
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    assert features.ids == images.ids
    assert len(features.pixels) == 10
    for tap in TAPS:
        np.testing.assert_allclose(features[tap], tiny.reference(images, model, tap), rtol=1e-4, atol=1e-4)
        assert np.array_equal(np.concatenate(list(features.blocks(tap, 3))), features[tap])


def test_a_run_begun_before_goes_on(tmp_path: Path) -> None:
    images, model = asked()
    root = laid(tmp_path, images, model)
    for tap in ("stem%2fout", "head"):
        (root / tap / part(1)).unlink()
        # Begun with today's packages: what other versions began is not gone on with.
        path = side(root / tap) / MANIFEST
        body = json.loads(path.read_text())
        body["run"]["versions"] = plan.versions("torch")
        path.write_text(json.dumps(body))
    before = {p: p.read_bytes() for p in root.rglob("*.parquet")}
    features = extract(images, model, TAPS, store=tmp_path, **SETTINGS)
    assert sorted(images.source.reads) == [4, 5, 6, 7]  # type: ignore[attr-defined]
    assert {p: p.read_bytes() for p in before} == before
    np.testing.assert_allclose(features["head"], tiny.reference(images, model, "head"), rtol=1e-4, atol=1e-4)
