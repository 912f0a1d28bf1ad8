"""What the contract asks of every result, held to the golden ones: short sentences, keys that exist, fractions, files that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import visus

GOLDEN = {file.stem: json.loads(file.read_text("utf-8")) for file in (Path(__file__).parent / "golden").glob("*.json")}
RESULTS = {name: body for name, body in GOLDEN.items() if body["schema"] == 2}
LIMITS = {"share": (0.0, 1.0), "points": (-1.0, 1.0)}

each_result = pytest.mark.parametrize("body", RESULTS.values(), ids=RESULTS)


def parts(body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """All findings, tables, figures or metrics of a result."""
    return [one for section in body["sections"] for one in section[kind]]


def keys(body: dict[str, Any], *kinds: str) -> set[str]:
    return {one["key"] for kind in kinds for one in parts(body, kind)}


@each_result
def test_the_answer_is_one_short_sentence_and_the_headline_a_few_metrics(body: dict[str, Any]) -> None:
    assert 1 <= len(body["answer"].split()) <= 25, body["answer"]
    assert len(body["headline"]) <= 5
    assert set(body["headline"]) <= keys(body, "metrics")


@each_result
def test_findings_are_short_and_name_what_is_there(body: dict[str, Any]) -> None:
    shown, metrics = keys(body, "figures", "tables"), keys(body, "metrics")
    for finding in parts(body, "findings"):
        assert len(finding["text"].split()) <= 35, finding["text"]
        assert set(finding["shows"]) <= shown, finding
        assert set(finding["metrics"]) <= metrics, finding


@each_result
def test_a_section_asks_a_question_and_names_the_file_that_made_it(body: dict[str, Any]) -> None:
    source = Path(visus.__file__).parent
    for section in body["sections"]:
        assert section["title"].endswith("?"), section["title"]
        file = source / section["source"].removeprefix("visus.").replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__init__.py").is_file(), section["source"]


@each_result
def test_shares_and_points_are_fractions_in_tables_metrics_and_figures(body: dict[str, Any]) -> None:
    for where, unit, value in numbers(body):
        low, high = LIMITS[unit]
        assert low - 1e-6 <= value <= high + 1e-6, (where, unit, value)


def numbers(body: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(where, unit, value) of every number that is a share or a difference of two; ends of intervals may lie beyond."""
    for metric in parts(body, "metrics"):
        if metric["unit"] in LIMITS and metric["value"] is not None:
            yield f"metric {metric['key']}", metric["unit"], metric["value"]
    for table in parts(body, "tables"):
        for i, column in enumerate(table["columns"]):
            cells = [row[i] for row in table["rows"] if isinstance(row[i], int | float)]
            yield from (
                (f"table {table['key']}/{column['key']}", column["unit"], cell)
                for cell in cells
                if column["unit"] in LIMITS
            )
    for figure in parts(body, "figures"):
        if figure.get("unit") in LIMITS:
            drawn = [
                value
                for name in ("groups", "series", "panels", "points", "values")
                for value in leaves(figure.get(name))
            ]
            yield from ((f"figure {figure['key']}", figure["unit"], value) for value in drawn)


def leaves(value: Any) -> Iterator[float]:
    """What a figure draws along its y axis, or in its cells."""
    if isinstance(value, list):
        for one in value:
            yield from leaves(one) if not isinstance(one, int | float) else [one]
    elif isinstance(value, dict):
        for name in ("values", "y", "series"):
            found = value.get(name)
            yield from [found] if isinstance(found, int | float) else leaves(found)
