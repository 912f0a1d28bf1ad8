"""Each number of the results of schema 1 stands in those of today, to the last digit, where the study's map says. No run is done."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.golden.maps import HERE, map_of, missing, stale, study_of
from tests.golden.record import golden

V1 = HERE / "v1"
RUNS = sorted(file.stem for file in V1.glob("*.json"))


@pytest.mark.parametrize("run", RUNS)
def test_every_number_of_schema_1_stands_where_the_map_says(run: str) -> None:
    found = missing(golden(run, V1), golden(run), map_of(study_of(run)))
    assert not found, f"{len(found)} gaps:\n" + "\n".join(found[:30])


def test_maps_speak_of_what_there_was_and_drop_nothing_without_a_reason() -> None:
    for file in sorted((HERE / "maps").glob("*.json")):
        olds = [golden(run, V1) for run in RUNS if study_of(run) == file.stem]
        assert olds, f"{file.name} is named after no study"
        assert stale(map_of(file.stem) or {}, olds) == [], file.name


OLD: dict[str, Any] = {
    "tables": {
        "knn": {"columns": ["model", "k = 1", "k = 5", "n", "low, %"], "rows": [["b", 0.5, 0.25, 4, 10.0], ["a", 0.1, 0.3, 4, 70.0]]}
    },
    "figures": [{"name": "knn", "data": {"y": [50.0, 0.25]}}],
}  # fmt: skip
NEW: dict[str, Any] = {
    "sections": [
        {
            "key": "layers", "figures": [{"key": "knn", "series": [{"y": [0.5, 0.25]}]}],
            "tables": [
                {"key": "knn", "columns": [{"key": "model"}, {"key": "k"}, {"key": "accuracy"}, {"key": "low"}],
                 "rows": [["A", 1, 0.1, 0.7], ["A", 5, 0.3, 0.7], ["B", 1, 0.5, 0.1], ["B", 5, 0.25, 0.1]]},
            ],
        }
    ]
}  # fmt: skip
ONE = {"to": "layers/knn", "key": ["model"], "renamed": {"a": "A", "b": "B"}}
MAP: dict[str, Any] = {
    "tables": {
        "knn": [
            {**ONE, "where": {"k": 1}, "columns": {"model": "model", "k = 1": "accuracy", "low, %": ["low", 0.01]}},
            {**ONE, "where": {"k": 5}, "columns": {"model": "model", "k = 5": "accuracy"}},
        ]
    },
    "dropped": {"knn": {"n": "stands in the table of images"}},
}


def test_a_map_holds_and_what_it_does_not_hold_is_named() -> None:
    assert missing(OLD, NEW, MAP) == []
    assert stale(MAP, [OLD]) == []
    one_digit = copy.deepcopy(NEW)
    one_digit["sections"][0]["tables"][0]["rows"][0][2] += 1e-9
    assert "'k = 1', row 1: 0.1 is 0.1" in "".join(missing(OLD, one_digit, MAP))
    assert "'low, %', row 0" in "".join(missing(OLD, NEW, {**MAP, "tables": _scaled(1)}))
    assert missing(OLD, NEW, {**MAP, "dropped": {}}) == [
        "'knn', 'n': 2 numbers are neither mapped nor dropped with a reason"
    ]
    undrawn = copy.deepcopy(NEW)
    undrawn["sections"][0]["tables"] = copy.deepcopy(NEW["sections"][0]["tables"])
    del undrawn["sections"][0]["figures"]
    assert missing({**OLD, "figures": [{"name": "loss", "data": {"y": [7.5]}}]}, undrawn, MAP) == [
        "figure 'loss': 1 numbers stand nowhere, as [7.5]"
    ]
    assert stale({**MAP, "dropped": {"knn": {"m": "gone"}}}, [OLD]) == [
        "no run had 'm' in 'knn'",
        "'gone' is no reason",
    ]


def _scaled(scale: float) -> dict[str, Any]:
    return {"knn": [{**ONE, "where": {"k": 1}, "columns": {"model": "model", "low, %": ["low", scale]}}]}


def test_a_study_without_a_map_must_not_have_moved() -> None:
    moved = copy.deepcopy(OLD)
    assert missing(OLD, moved, None) == []
    moved["tables"]["knn"]["rows"][1][1] = 0.2
    assert len(missing(OLD, moved, None)) == 1
    del moved["tables"]["knn"]
    assert missing(OLD, moved, None)[0] == "'knn': there is no table 'knn', but "
