"""What is said of a set's pixels when it is loaded: what scale deep pictures have, and which files hold several pages or frames."""

from __future__ import annotations

import io

import numpy as np

from visus.errors import DataError
from visus.images import dicom, foreign
from visus.images.base import ImageSet
from visus.images.decode import deep_values, open_header
from visus.images.deep import ValueRange
from visus.images.errors import DecodeError
from visus.images.reading import retrying
from visus.progress import caution, note

LOOKED_AT = 16


def remark_on_pixels(images: ImageSet) -> None:
    """Say how pictures of more than 8 bits and files of several pages or frames are read, where a few looked at are such."""
    deep, pages = 0, []
    for i in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)) if len(images) else ():
        try:
            raw = retrying(lambda i=i: images.source.read(int(images.rows[i])), images.ids[i])  # type: ignore[misc]
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
        _tell(images.value_range())


def _tell(found: ValueRange) -> None:
    if not (words := found.words()):
        return
    note(f"pixels: {found.pictures:,} picture{'s' * (found.pictures > 1)} hold {words}")
    if (few := found.outliers()) is not None:
        caution(
            f"pictures of more than 8 bits: {few[0]:,} of {found.values:,} values are above {few[1]} bits and make the scale ({words}), so that all "
            "others come out nearly black; cut these values before"
        )
    if found.flat():
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
