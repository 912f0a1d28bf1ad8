"""What was measured once is taken over, and only where nothing that could change a digit has changed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visus.measures.maps import layer_maps
from visus.measures.probe import linear_probe
from visus.measures.probe_null import PermutationNull, ProbeSetting
from visus.studies.common import remembered as module
from visus.studies.common.remembered import remembered

X = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
Y = np.arange(60) % 3
ROWS = np.arange(60)
SPLIT: dict[str, Any] = {"folds": ((ROWS[:30], ROWS[30:40]),), "train": ROWS[:40], "test": ROWS[40:], "n_classes": 3}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISUS_HOME", str(tmp_path))
    return tmp_path


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A function that stands for one of the lab's, and the arguments that it was called with."""
    calls: list[Any] = []

    def measure(*args: Any, **options: Any) -> Any:
        calls.append((args, options))
        return PermutationNull(np.array([0.25, 0.5])), {1: 0.5, 5: float("nan")}, None, "text", (1, 2.5)

    monkeypatch.setattr(measure, "__module__", "visus.measures.pretend")
    return measure, calls


def same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for field in fields(a):
        mine, yours = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, yours)
            assert mine.dtype == yours.dtype
        elif hasattr(mine, "__dataclass_fields__"):
            same(mine, yours)
        else:
            assert mine == yours


def test_a_probe_and_maps_come_back_whole() -> None:
    found, again = (remembered(linear_probe, X, Y, **SPLIT) for _ in range(2))
    assert found is not again
    same(found, again)
    drawn, kept = (remembered(layer_maps, X, methods=["tsne"], threads=1) for _ in range(2))
    same(drawn["tsne"], kept["tsne"])


def test_equal_arguments_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measure, calls = counted(monkeypatch)
    first, second = (remembered(measure, X, (1, None), name="a", setting=ProbeSetting(3, 0.1)) for _ in range(2))
    assert len(calls) == 1
    np.testing.assert_array_equal(first[0].accuracy, second[0].accuracy)
    assert second[1][1] == 0.5
    assert list(second[1]) == [1, 5]
    assert second[2:] == (None, "text", (1, 2.5))


def test_whatever_differs_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    measure, calls = counted(monkeypatch)
    nudged = X.copy()
    nudged[-1, -1] = np.nextafter(nudged[-1, -1], np.float32(9))
    for args in [
        (X,),
        (nudged,),
        (X.astype(np.float64),),
        (X.reshape(30, 16),),
        (X, 1),
        (X, 1.0),
        (X, True),
        (X, "1"),
        (X, None),
    ]:
        remembered(measure, *args)
    remembered(measure, X, setting=ProbeSetting(3, 0.1))
    remembered(measure, X, setting=ProbeSetting(3, 0.2))
    remembered(measure, (X, X))
    remembered(measure, (X,), X)
    monkeypatch.setattr(module, "source_digest", lambda: b"other source")
    remembered(measure, X)
    assert len(calls) == 14


def test_an_entry_that_is_cut_off_is_computed_again(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    measure, calls = counted(monkeypatch)
    remembered(measure, X)
    (entry,) = (own_home / "measures").rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:200])
    remembered(measure, X)
    entry.write_bytes(b"")
    remembered(measure, X)
    assert len(calls) == 3
    remembered(measure, X)
    assert len(calls) == 3


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    measure, calls = counted(monkeypatch)
    (own_home / "measures").write_text("a file stands in the way")
    for _ in range(2):
        assert remembered(measure, X)[3] == "text"
    assert len(calls) == 2


def test_what_is_not_the_labs_is_only_called(own_home: Path) -> None:
    assert remembered(lambda x: len(x), X) == 60
    assert not (own_home / "measures").exists()
