"""Made for test_train_study, test_train_files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import shapes

import visus

SMALL: dict[str, Any] = {
    "size": 32, "patch": 8, "width": 64, "layers": 2, "text_width": 64, "text_layers": 1, "batch": 16, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.write(tmp_path_factory.mktemp("shapes"), each=16)


@pytest.fixture(scope="session")
def clip(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, visus.Result]:
    out = tmp_path_factory.mktemp("clip") / "model"
    result = visus.train(
        "clip", images=str(pictures), zero_shot=str(pictures), epochs=40, lr=2e-3, drop=0.25, out=str(out), **SMALL
    )
    return out, result


@pytest.fixture(scope="session")
def vit(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, visus.Result]:
    out = tmp_path_factory.mktemp("vit") / "model"
    result = visus.train(
        "vit", images=str(pictures), names=str(pictures), epochs=12, lr=2e-3, drop=0.25, out=str(out), **SMALL
    )
    return out, result


def rows(result: visus.Result, table: str) -> dict[str, dict[str, Any]]:
    t = result.tables[table]
    return {row[0]: record for row, record in zip(t.rows, t.records(), strict=True)}


def shapes_sorted() -> tuple[str, ...]:
    return tuple(sorted(shapes.SHAPES))


def stop() -> None:
    raise KeyboardInterrupt


def whole(name: str, files: list[str]) -> str:
    return next(f for f in files if Path(f).name == Path(name).name)
