"""Where each number of schema 1 stands today. Reads the golden files and the map of a study, and runs nothing."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.figures import key_of

HERE = Path(__file__).parent
# x / n and 100 x / n differ in the last bits by where the 100 was multiplied in; differences of two such by a few more.
ROUNDING = {"rel_tol": 1e-12, "abs_tol": 1e-14}

METRIC = ("key", "value", "low", "high", "n")


@dataclass(frozen=True)
class Rows:
    """A table of either schema: columns by label (schema 1) or key."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def cell(self, row: Sequence[Any], column: str) -> Any:
        return row[self.columns.index(column)]

    def where(self, wanted: Mapping[str, Any]) -> list[tuple[int, Sequence[Any]]]:
        return [(i, r) for i, r in enumerate(self.rows) if all(self.cell(r, k) == v for k, v in wanted.items())]


def study_of(run: str) -> str:
    return run.partition("-")[0]


def map_of(study: str) -> dict[str, Any] | None:
    file = HERE / "maps" / f"{study}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def tables(body: Mapping[str, Any]) -> dict[str, Rows]:
    """Tables by name (schema 1) or by 'section/table'; all metrics of a result as the table 'metrics'."""
    if "sections" not in body:
        return {name: Rows(t["columns"], t["rows"]) for name, t in body["tables"].items()}
    found = {
        f"{s['key']}/{t['key']}": Rows([c["key"] for c in t["columns"]], t["rows"])
        for s in body["sections"]
        for t in s["tables"]
    }
    metrics = [m for s in body["sections"] for m in s.get("metrics", [])]
    return found | {"metrics": Rows(METRIC, [[m.get(k) for k in METRIC] for m in metrics])}


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def missing(old: Mapping[str, Any], new: Mapping[str, Any], mapping: Mapping[str, Any] | None) -> list[str]:
    """A line for each number of `old` that `new` has not where the map says, and for each that the map does not speak of."""
    if mapping is None:
        mapping = {"tables": _unmoved(old, new)}
    return [*_missing_in_tables(old, new, mapping), *_missing_in_figures(old, new, mapping)]


def _unmoved(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The map of a study that has not moved: the same tables, with the columns where they stood."""
    now = tables(new)
    found = {}
    for name, table in tables(old).items():
        to = next((t for t in now if name == t or key_of(name) == t.rpartition("/")[2]), name)
        columns = now[to].columns if to in now else table.columns
        found[name] = {"to": to, "columns": dict(zip(table.columns, columns, strict=False))}
    return found


def _missing_in_tables(old: Mapping[str, Any], new: Mapping[str, Any], mapping: Mapping[str, Any]) -> Iterator[str]:
    now, dropped = tables(new), mapping.get("dropped", {})
    for name, table in tables(old).items():
        given = dropped.get(name, {})
        gone = set(table.columns) if isinstance(given, str) else set(given)
        spoken: set[tuple[int, str]] = set()
        entries = mapping["tables"].get(name, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            yield from _compared(name, table, now, entry, spoken)
        for column in table.columns:
            rows = [i for i, r in enumerate(table.rows) if number(table.cell(r, column)) and (i, column) not in spoken]
            if rows and column not in gone:
                yield f"{name!r}, {column!r}: {len(rows)} numbers are neither mapped nor dropped with a reason"


def _compared(
    name: str, table: Rows, now: Mapping[str, Rows], entry: Mapping[str, Any], spoken: set[tuple[int, str]]
) -> Iterator[str]:
    columns = {k: v for k, v in entry["columns"].items() if k in table.columns}
    if not columns:
        return
    if entry["to"] not in now:
        yield f"{name!r}: there is no table {entry['to']!r}, but {', '.join(now)}"
        return
    target = now[entry["to"]]
    aims = {old: (aim, 1) if isinstance(aim, str) else (aim[0], aim[1]) for old, aim in columns.items()}
    lacking = {aim for aim, _ in aims.values()} - set(target.columns)
    if lacking:
        yield f"{name!r}: {entry['to']} has no column {', '.join(sorted(lacking))}, but {', '.join(target.columns)}"
        return
    before, after = table.where(entry.get("from", {})), target.where(entry.get("where", {}))
    for i, j in _pairs(table, target, before, after, entry, aims):
        spoken |= {(i, column) for column in columns}
        if j is None:
            yield f"{name!r}: row {i} ({table.rows[i][:4]}) has no row in {entry['to']}"
            continue
        for column, (aim, scale) in aims.items():
            was, now_is = table.cell(table.rows[i], column), target.cell(target.rows[j], aim)
            if number(was) and not _stands(was, now_is, scale):
                yield f"{name!r}, {column!r}, row {i}: {was!r} is {now_is!r} in {entry['to']}, {aim!r}, row {j} (scale {scale})"


def _pairs(
    table: Rows, target: Rows, before: list[tuple[int, Sequence[Any]]], after: list[tuple[int, Sequence[Any]]],
    entry: Mapping[str, Any], aims: Mapping[str, tuple[str, float]],
) -> Iterator[tuple[int, int | None]]:  # fmt: skip
    """Rows that belong together: in order, or by the columns under 'key'."""
    keys, renamed = entry.get("key"), entry.get("renamed", {})
    if not keys:
        for k, (i, _) in enumerate(before):
            yield i, after[k][0] if len(before) == len(after) else None
        return
    by_key = {tuple(str(target.cell(r, aims[k][0])) for k in keys): j for j, r in after}
    for i, row in before:
        key = tuple(str(renamed.get(str(table.cell(row, k)), table.cell(row, k))) for k in keys)
        yield i, by_key.get(key)


def _stands(was: float, now_is: Any, scale: float) -> bool:
    return number(now_is) and (was == now_is if scale == 1 else math.isclose(was * scale, now_is, **ROUNDING))


def _missing_in_figures(old: Mapping[str, Any], new: Mapping[str, Any], mapping: Mapping[str, Any]) -> Iterator[str]:
    """Numbers of figures: each must stand somewhere in the new result, as it was or as a fraction of what was percent."""
    pool = sorted({float(v) for v in _numbers({k: v for k, v in new.items() if k not in ("provenance", "arrays")})})
    for figure in old["figures"]:
        if figure["name"] in mapping.get("dropped figures", {}):
            continue
        lost = [v for v in _numbers(figure["data"]) if not _among(v, pool) and not _among(v * 0.01, pool)]
        if lost:
            yield f"figure {figure['name']!r}: {len(lost)} numbers stand nowhere, as {lost[:3]}"


def _among(value: float, pool: Sequence[float]) -> bool:
    at = bisect_left(pool, value)
    return any(math.isclose(value, v, **ROUNDING) for v in pool[max(at - 1, 0) : at + 1])


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from _numbers(v)
    elif number(value):
        yield value


def stale(mapping: Mapping[str, Any], olds: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a map speaks of that no run of the study had, and what it drops without a reason."""
    known = [{name: set(t.columns) for name, t in tables(old).items()} for old in olds]
    columns = {name: set().union(*(k.get(name, set()) for k in known)) for k in known for name in k}
    figures = {f["name"] for old in olds for f in old["figures"]}
    found = [f"no run had a figure {name!r}" for name in mapping.get("dropped figures", {}) if name not in figures]
    dropped = mapping.get("dropped", {})
    named: list[tuple[str, Any]] = [
        *((t, e["columns"]) for t, es in mapping["tables"].items() for e in (es if isinstance(es, list) else [es])),
        *((t, given if isinstance(given, dict) else {}) for t, given in dropped.items()),
    ]
    for table, spoken in named:
        lacking = set(spoken) - columns[table] if table in columns else {"(the table)"}
        found += [f"no run had {column!r} in {table!r}" for column in sorted(lacking)]
    reasons = [*mapping.get("dropped figures", {}).values()]
    reasons += [r for given in dropped.values() for r in (given.values() if isinstance(given, dict) else [given])]
    return found + [f"{reason!r} is no reason" for reason in reasons if len(str(reason).split()) < 3]
