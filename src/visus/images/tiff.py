"""What a TIFF's tags say before its pixels are trusted: raw files and thumbnails in disguise, bands without a colour, bit depth."""

from __future__ import annotations

import io
import struct
from typing import IO, Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from visus.images.deep import BITS, Deep
from visus.images.errors import DecodeError
from visus.images.foreign import DEVELOP

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOUR, _MAKE = 254, 256, 257, 258, 259, 262, 271
_BANDS, _LARGEST, _SUBIFD, _EXTRA, _FORMAT, _LARGEST_S, _DNG, _NODATA = 277, 281, 330, 338, 339, 341, 50706, 42113
_RAW_COLOURS = (32803, 34892)  # a colour filter array, linear raw
_RAW_KINDS = (32767, 32769, 34713, 34892, 65000, 65535)  # compressions of ARW, EPSON, NEF, lossy DNG, DCR, PEF
_CMYK = 5


class Tags:
    """The tags of a TIFF's first page. Raises DecodeError where they cannot be read."""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        head = file.read(8)
        if head[2:3] == b"+" or head[3:4] == b"+":
            head += file.read(8)
        try:
            self._tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(self._tags.next)
            self._tags.load(file)
        except (
            OSError,
            SyntaxError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            struct.error,
            OverflowError,
        ) as error:
            raise DecodeError("damaged TIFF header") from error
        self._canon = head[:4] in MARKS and _at(file, 8, 2) == b"CR"

    def _get(self, tag: int, default: Any = None) -> Any:
        try:
            return self._tags.get(tag, default)
        except (ValueError, KeyError, IndexError, TypeError, struct.error, AttributeError):
            return default

    def _number(self, tag: int, default: int) -> int:
        value = self._get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return int(value) if isinstance(value, int | float) else default

    @property
    def bands(self) -> int:
        return self._number(_BANDS, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._number(_WIDTH, 0), self._number(_HEIGHT, 0)

    @property
    def bits(self) -> int:
        return self._number(_BITS, 1)

    @property
    def floating(self) -> bool:
        return self._number(_FORMAT, 1) == 3

    @property
    def signed_bytes(self) -> bool:
        return self._number(_FORMAT, 1) == 2 and self.bits == 8

    @property
    def white_is_zero(self) -> bool:
        return self._number(_COLOUR, 1) == 0

    def refuse(self) -> None:
        """Raise DecodeError where the first page is not the picture, or its bands are no colours."""
        thumbnail = bool(self._number(_SUBFILE, 0) & 1)
        developed = self._number(_COLOUR, 1) not in _RAW_COLOURS and self._number(_COMPRESSION, 1) not in _RAW_KINDS
        inside = thumbnail and (self._get(_SUBIFD) is not None or self._get(_MAKE) is not None)
        if self._canon or self._get(_DNG) is not None or not developed or inside:
            raise DecodeError(DEVELOP)
        if thumbnail:
            raise DecodeError("a TIFF whose first page is a thumbnail of another; save the page that is meant")
        self._refuse_bands()

    def _refuse_bands(self) -> None:
        bands, colour, extra = self.bands, self._number(_COLOUR, 1), self._get(_EXTRA, ())
        extra = extra if isinstance(extra, tuple) else (extra,)
        own = {0: 1, 1: 1, 3: 1, _CMYK: 4}.get(colour, 3)
        clear = (1, 2, 999)  # alpha, premultiplied or not; Corel Draw's way to say it
        if bands == own or (colour == _CMYK and bands > own) or (bands == own + 1 and extra[:1] and extra[0] in clear):
            return
        if bands > own or bands == 2:
            raise DecodeError(
                f"{bands} bands of {self.bits} bits, of which none is said to be red, green or blue; save three of them as RGB"
            )

    def white(self) -> float | None:
        """The value that the tags call the largest, at the top of its bits; None where they say nothing."""
        if self.floating:
            return None
        if 8 < self.bits < 16:
            return float(2**self.bits - 1)
        largest = max(self._number(_LARGEST, 0), self._number(_LARGEST_S, 0))
        return next((2.0**b - 1 for b in BITS if 0 < largest <= 2**b - 1), None)

    def nodata(self) -> float | None:
        """GDAL's value for pixels without data."""
        text = self._get(_NODATA)
        try:
            return float(str(text).strip("\0 ")) if text is not None else None
        except ValueError:
            return None


class Unknown(Image.Image):
    """A TIFF that Pillow cannot open: its values as read by other means, and its size."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.tags: Any
        self.values, self.tags = values, None
        self._size = (values.shape[1], values.shape[0])
        self._mode = "F"


def _at(file: IO[bytes], offset: int, n: int) -> bytes:
    file.seek(offset)
    return file.read(n)


def deep(tags: Tags, values: np.ndarray) -> Deep:
    """Values as read from a TIFF, with what its tags say of black and white."""
    white = tags.white()
    floating = values.dtype.kind == "f"
    if (gone := tags.nodata()) is not None and values.ndim == 2:
        missing = values == gone
        if missing.any():
            values = np.where(missing, np.nan, values.astype(np.float64))
    largest = np.nanmax(values) if values.size and not np.isnan(values).all() else 0
    said = None if white is None or largest > white or np.nanmin(values) < 0 else (0.0, white)
    return Deep(values, said, inverted=tags.white_is_zero, floating=floating)


def by_tifffile(data: bytes) -> np.ndarray:
    """The first page's values by tifffile, which reads kinds that Pillow does not. Raises DecodeError."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            found: np.ndarray = page.asarray()
            if page.axes.startswith("S"):  # bands one after the other
                found = np.moveaxis(found, 0, -1)
    except (
        tifffile.TiffFileError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OSError,
        RuntimeError,
        struct.error,
        AttributeError,
    ) as error:
        raise DecodeError(
            f"a TIFF of a kind that cannot be read ({(str(error).splitlines() or [''])[0][:80]})"
        ) from error
    if found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[2] not in (3, 4)) or found.dtype.kind not in "buif":
        raise DecodeError(f"a TIFF of a kind that cannot be read (its first page is {found.dtype} {list(found.shape)})")
    return found
