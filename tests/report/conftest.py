"""The sample study, once for all tests of the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.sample import sample

from visus.report import write_report
from visus.result import Result


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Result]:
    """sample(n, count, classes) -> Result."""
    return sample


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A small sample and the folder of its report."""
    result = sample(n=120, count=2)
    out = tmp_path_factory.mktemp("report")
    assert write_report(result, out) == out / "index.html"
    return result, out
