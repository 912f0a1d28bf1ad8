"""What scale the pictures of a source have that hold more than 8 bits: measured over all of them, once, and kept by their content."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from visus import paths
from visus.errors import StoreError
from visus.images.decode import deep_values
from visus.images.deep import ValueRange, merge_ranges
from visus.images.errors import DecodeError
from visus.images.protocols import Source
from visus.images.reading import retrying
from visus.progress import log, task

THREADS = 4


def measure_range(source: Source) -> ValueRange:
    """The range of all deep pictures of a source; every one of its files is read for it, once, and the answer kept by their content."""
    kept = paths.home() / "depths" / f"{source.digest()}.json"
    if (known := _read(kept)) is not None:
        return known

    def one(i: int) -> ValueRange:
        try:
            found = deep_values(retrying(lambda: source.read(i), f"picture {i}"))
        except DecodeError:
            return ValueRange()
        return ValueRange() if found is None else found.range()

    ranges = []
    with task("measuring pictures of more than 8 bits", len(source)) as progress, ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(one, range(len(source))):
            ranges.append(found)
            progress.advance()
    whole = merge_ranges(ranges)
    _write(kept, whole)
    return whole


def _read(path: Path) -> ValueRange | None:
    try:
        body = json.loads(path.read_text("utf-8"))
        pairs = [None if body[k] is None else (float(body[k][0]), float(body[k][1])) for k in ("whole", "floats")]
        return ValueRange(
            pairs[0], pairs[1], int(body["pictures"]), int(body["values"]), tuple(map(int, body["above"]))
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _write(path: Path, found: ValueRange) -> None:
    body = asdict(found)
    try:
        paths.write_text(path, json.dumps(body))
    except StoreError as error:  # it only saves time: say so and go on
        log(f"the range of deep pictures is not remembered: {error}")
