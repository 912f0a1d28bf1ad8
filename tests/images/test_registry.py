"""The table of loaders: paths that are resolved when a name is first asked for, so that only a test sees a wrong one at once."""

from __future__ import annotations

import inspect

import pytest

from visus.images.registry import LOADERS, SCHEMES
from visus.lazy import named


@pytest.mark.parametrize("name", LOADERS)
def test_every_name_has_a_loader_that_takes_what_it_is_given(name: str) -> None:
    loader = LOADERS[name]
    taken = inspect.signature(named(loader.path)).parameters
    assert next(iter(taken)) == "spec"
    assert set(taken) - {"spec"} == set(loader.takes)
    assert all(p.kind is p.KEYWORD_ONLY for n, p in taken.items() if n != "spec")


def test_every_scheme_leads_somewhere() -> None:
    assert {name.partition(":")[0] for name in LOADERS if ":" in name} == set(SCHEMES)
