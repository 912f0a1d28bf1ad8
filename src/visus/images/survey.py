"""Looking at a source as a whole before its pictures are decoded: what scale its deep pictures have, which files hold several pages or frames."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from visus import paths
from visus.errors import DataError, StoreError
from visus.images import dicom, foreign
from visus.images.decode import deep_values, open_header
from visus.images.deep import Range, merged
from visus.images.errors import DecodeError
from visus.images.reading import patiently
from visus.progress import caution, log, note, task

if TYPE_CHECKING:
    from visus.images.base import ImageSet, Source

LOOKED_AT = 16
THREADS = 4


def measured(source: Source) -> Range:
    """The range of all deep pictures of a source; every one of its files is read for it, once, and the answer kept by their content."""
    kept = paths.home() / "depths" / f"{source.digest()}.json"
    if (known := _read(kept)) is not None:
        return known

    def one(i: int) -> Range:
        try:
            found = deep_values(patiently(lambda: source.read(i), f"picture {i}"))
        except DecodeError:
            return Range()
        return Range() if found is None else found.range()

    ranges = []
    with task("measuring pictures of more than 8 bits", len(source)) as progress, ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(one, range(len(source))):
            ranges.append(found)
            progress.advance()
    whole = merged(ranges)
    _write(kept, whole)
    return whole


def look(images: ImageSet) -> ImageSet:
    """Say how pictures of more than 8 bits and files of several pages or frames are read, where a few looked at are such. Returns the set itself."""
    deep, pages = 0, []
    for i in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)) if len(images) else ():
        try:
            raw = patiently(lambda i=i: images.source.read(int(images.rows[i])), images.ids[i])  # type: ignore[misc]
            found = None if isinstance(raw, np.ndarray) and raw.dtype == np.uint8 else deep_values(raw)
        except DataError:
            continue
        deep += found is not None and found.limits is None and not found.plain
        if isinstance(raw, bytes) and _pages(raw) > 1:
            pages.append(images.ids[i])
    if pages:
        note(
            f"pixels: files of several pages or frames ({pages[0]}{' and others' if len(pages) > 1 else ''}) give their first"
        )
    if deep:
        _tell(images.span())
    return images


def _tell(span: Range) -> None:
    if not (words := span.words()):
        return
    note(f"pixels: {span.pictures:,} picture{'s' * (span.pictures > 1)} hold {words}")
    if (few := span.outliers()) is not None:
        caution(
            f"pictures of more than 8 bits: {few[0]:,} of {span.values:,} values are above {few[1]} bits and make the scale ({words}), so that all "
            "others come out nearly black; cut these values before"
        )
    if span.flat():
        caution(
            f"pictures of more than 8 bits use little of their scale ({words}) and come out as nearly one grey; "
            "bring the values of interest to 8 bits before"
        )


def _pages(data: bytes) -> int:
    try:
        if foreign.dicom(data[: foreign.HEAD]):
            return dicom.frames(io.BytesIO(data))
        return int(getattr(open_header(io.BytesIO(data)), "n_frames", 1))
    except (DecodeError, OSError, EOFError, ValueError, SyntaxError, KeyError, TypeError):
        return 1


def _read(path: Any) -> Range | None:
    try:
        body = json.loads(path.read_text("utf-8"))
        pairs = [None if body[k] is None else (float(body[k][0]), float(body[k][1])) for k in ("whole", "floats")]
        return Range(pairs[0], pairs[1], int(body["pictures"]), int(body["values"]), tuple(map(int, body["above"])))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _write(path: Any, found: Range) -> None:
    body = asdict(found)
    try:
        paths.write_text(path, json.dumps(body))
    except StoreError as error:  # it only saves time: say so and go on
        log(f"the range of deep pictures is not remembered: {error}")
