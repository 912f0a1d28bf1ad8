"""Every test gets a cache folder of its own, no network, and one torch thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any library reads them: no hub is ever asked, and two busy OpenMP teams on two cores are ten times slower.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("visus-home")
    monkeypatch.setenv("VISUS_HOME", str(home))
    return home
