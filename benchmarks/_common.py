"""What every benchmark shares: a fair environment, alternated timings, and docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
HANDICAPS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def fair_environment() -> None:
    """Re-execute this script without the settings that would slow a peer's BLAS down. Call it before importing numpy."""
    if any(name in os.environ for name in HANDICAPS):
        clean = {k: v for k, v in os.environ.items() if k not in HANDICAPS}
        os.execve(sys.executable, [sys.executable, *sys.argv], clean)


def alternate(runs: int, **work: Callable[[], Any]) -> dict[str, list[float]]:
    """Time each function `runs` times, in turn (a b a b ...), so that a drift of the machine hits all alike; seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median over paired runs of slow / fast."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def machine() -> str:
    """The processor and its number of cores, without the machine's name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def record(section: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = (), *, dry: bool = False) -> None:
    """Merge a section into docs/benchmarks.json and write docs/benchmarks.md anew; print the section.

    rows: mappings with the same keys, one a line of the table. notes: sentences below it (data, settings, versions). dry: print alone.
    """
    if dry:
        print(*rows, *notes, sep="\n")
        return
    DOCS.mkdir(exist_ok=True)
    store = DOCS / "benchmarks.json"
    sections = json.loads(store.read_text("utf-8")) if store.exists() else {}
    sections[section] = {
        "rows": [dict(row) for row in rows],
        "notes": list(notes),
        "machine": machine(),
        "date": date.today().isoformat(),
        "command": "python " + " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    store.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", "utf-8")
    page = [
        "# Benchmarks",
        "",
        "Written by the scripts in `benchmarks/`; every ratio was measured side by side in one run.",
        "",
    ]
    for name in sorted(sections):
        page += _section(name, sections[name])
    (DOCS / "benchmarks.md").write_text("\n".join(page), "utf-8")
    print("\n".join(_section(section, sections[section])))


def _section(name: str, body: Mapping[str, Any]) -> list[str]:
    columns = list(body["rows"][0]) if body["rows"] else []
    lines = [f"## {name}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(c)) for c in columns) + " |" for row in body["rows"]]
    lines += ["", *(f"- {note}" for note in body["notes"])]
    return [*lines, f"- `{body['command']}`, {body['date']}, {body['machine']}", ""]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
