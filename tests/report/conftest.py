"""The sample study, once for all tests of the report."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from visus.report import write_report
from visus.result import Result


def _sample() -> Callable[..., Result]:
    spec = importlib.util.spec_from_file_location("visus_report_sample", Path(__file__).with_name("sample.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sample


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Result]:
    """sample(n, count, classes) -> Result."""
    return _sample()


@pytest.fixture(scope="session")
def written(make_sample: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A small sample and the folder of its report."""
    result = make_sample(n=120, count=2)
    out = tmp_path_factory.mktemp("report")
    assert write_report(result, out) == out / "index.html"
    return result, out
