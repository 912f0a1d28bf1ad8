"""A model of one library never makes a run wait for another: read off the imports at the top of files, so that nothing has to be loaded."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from visus.models import families

LIBRARIES = {"timm", "transformers", "open_clip", "peft"}


@cache
def imported(module: str) -> frozenset[str]:
    """Names of the modules that a file imports when it is imported itself."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    found: set[str] = set()
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {n for n in names if n.startswith("visus.") and _is_module(n)} or {node.module}
    return frozenset(found)


@cache
def _is_module(name: str) -> bool:
    parent = find_spec(name.rpartition(".")[0])
    return parent is not None and parent.submodule_search_locations is not None and find_spec(name) is not None


def reached(module: str) -> set[str]:
    """Libraries of models that importing a file of ours imports."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [n for n in imported(name) if n.startswith("visus")] if name.startswith("visus") else []
            seen |= {n for n in imported(name) if not n.startswith("visus")} if name.startswith("visus") else set()
    return {name.partition(".")[0] for name in seen} & LIBRARIES


OPENED = {
    "visus.models.from_timm": {"timm"},
    "visus.models.timm_files": {"timm"},
    "visus.models.effnet": {"timm"},
    "visus.models.from_hf": {"transformers"},
    "visus.models.adapters": {"transformers"},
    "visus.models.dual_hf": {"transformers"},
    "visus.models.from_torchvision": set(),
    "visus.models.from_openclip": {"open_clip"},
    "visus.models.dual_openclip": {"open_clip"},
    "visus.models.tuned": set(),
    "visus.models.local": set(),
    "visus.models.shipped": set(),
}
TABLES = (families.SOURCES, families.SHIPPED, families.FOLDERS, families.FILES, families.DUALS)


def test_a_family_needs_its_own_library_alone():
    assert {module: reached(module) for module in OPENED} == OPENED
    assert {t.partition(":")[0] for table in TABLES for t in table.values()} == set(OPENED)


@pytest.mark.parametrize("module", ["registry", "dual_open", "classifier", "skips", "vit", "classify", "tapped_module"])
def test_what_runs_any_model_needs_no_library_of_models(module):
    assert reached(f"visus.models.{module}") == set()


def test_every_opener_of_a_table_takes_the_same_arguments():
    for table in TABLES[:-1]:
        taken = {
            tuple((p.name, p.kind) for p in inspect.signature(families.opener(table, name)).parameters.values())
            for name in table
        }
        assert len({tuple(kind for _, kind in t) for t in taken}) == 1, taken
