"""Decoding: any picture file -> an upright 8-bit RGB image, the way a person sees it.

Pillow's process-wide settings are never touched, so that any number of threads may decode at once.
"""

from __future__ import annotations

import gc
import io
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from typing import IO, Any, TypeVar, cast

import numpy as np
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, TiffImagePlugin

from visus.errors import ReadError
from visus.images import deep, dicom, foreign, pnm, tiff
from visus.images.deep import Deep, ValueRange
from visus.images.errors import DecodeError
from visus.images.reading import is_permanent

T = TypeVar("T")

# Pictures above this many 8-bit pixels are refused unread: Pillow's own alarm level, 0.27 GB as RGB. A pixel with 16 bits a
# channel counts twice, one with 32 bits four times.
MAX_PIXELS = 89_478_485
# Models bring the shorter side to hundreds of pixels: of what is longer than this many times its width too much would come out.
MAX_RATIO = 256

# Formats that hold photographs or drawings and have a signature of their own. EPS is not among them (it runs Ghostscript),
# nor are formats without a signature (TGA), which take any bytes for a picture.
FORMATS = ("PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "QOI")

# What Pillow's plugins raise on damaged files. MemoryError is not among them: it speaks of the machine.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
    ArithmeticError, NotImplementedError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

_DEEP = {"I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2, "I": 4, "F": 4}
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLAIN = ("RGB", "RGBA", "RGBX", "R", "G", "B", "A")  # raw modes that hand every byte on as it is
_plugins = threading.Lock()
_alone = threading.Lock()


def decode(data: bytes | np.ndarray, *, value_range: Callable[[], ValueRange] | None = None) -> Image.Image:
    """An encoded file, or an array, as an RGB image the way a person sees it.

    data: a whole file's bytes (JPEG, PNG, GIF, WebP, BMP, TIFF, PPM, JPEG 2000, AVIF, ICO, QOI; HEIC, JPEG XL and DICOM where their
    package is installed), or an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] of uint8, uint16, bool or float.
    Turned upright by EXIF; the first frame of an animation, the first page of a TIFF; alpha and transparent palette entries on white;
    CMYK through its embedded ICC profile where it has one (profiles of RGB files are left alone, as training pipelines leave them).
    More than 8 bits are brought to 8 by `deep.limits`; value_range: the range of the whole set, asked for by such a picture only (None: this
    picture stands alone). Raises DecodeError: empty, not an image (with what it is, where that can be told), truncated or damaged, more
    than MAX_PIXELS pixels, longer than MAX_RATIO times its width; ReadError where memory is short. Thread-safe.
    """
    return _in_memory(lambda: _decoded(data, value_range))


def deep_values(data: bytes | np.ndarray) -> Deep | None:
    """The values of a picture of more than 8 bits, as they are stored; None for all others. Raises as `decode`."""
    return _in_memory(lambda: _deep_of(data))


def _in_memory(action: Callable[[], T]) -> T:
    """What `action` gives; where memory is short, once more with no other picture beside it. Raises ReadError if that does not help."""
    try:
        return action()
    except MemoryError:
        pass
    with _alone:
        gc.collect()
        try:
            return action()
        except MemoryError as error:
            raise ReadError(
                "there is not enough memory to decode this image, which was not set aside; close other programs, then run the same command again"
            ) from error


def _decoded(data: bytes | np.ndarray, value_range: Callable[[], ValueRange] | None) -> Image.Image:
    if isinstance(data, np.ndarray):
        return _from_array(data, value_range)
    if not data:
        raise DecodeError("empty file")
    try:
        if foreign.dicom(data[: foreign.HEAD]):
            return _shown(dicom.read(io.BytesIO(data), check_size), value_range)
        opened = open_header(io.BytesIO(data))
        if not _is_deep(opened):
            opened.load()
            return _to_rgb(opened)
        turn = _upright(opened)
        image = _shown(_stored(opened, data), value_range)
        return image.transpose(turn) if turn is not None else image
    except DecodeError:
        raise
    except BROKEN as error:
        _raise_if_transient(error)
        raise DecodeError(_reason(error)) from error


def _deep_of(data: bytes | np.ndarray) -> Deep | None:
    if isinstance(data, np.ndarray):
        return None if data.dtype in (np.uint8, np.bool_) else deep.of_array(data)
    if not data:
        raise DecodeError("empty file")
    try:
        if foreign.dicom(data[: foreign.HEAD]):
            found = dicom.read(io.BytesIO(data), check_size)
            return None if found.plain else found
        image = open_header(io.BytesIO(data))
        return _stored(image, data) if _is_deep(image) else None
    except DecodeError:
        raise
    except BROKEN as error:
        _raise_if_transient(error)
        raise DecodeError(_reason(error)) from error


def _raise_if_transient(error: BaseException) -> None:
    """Let through what is no fault of the picture: memory, as Pillow's decoders report it, and what the disk says."""
    if "out of memory" in str(error).lower():
        raise MemoryError(str(error)) from error
    if isinstance(error, OSError) and error.errno is not None and not is_permanent(error):
        raise error


def open_header(file: IO[bytes], name: str = "") -> ImageFile.ImageFile:
    """Read a picture's header and check its size; no pixel is decoded. name: the file's, where it has one. Raises DecodeError.

    Pillow's `open` is gone around because it warns about large pictures through a process-wide switch.
    """
    head = file.read(foreign.HEAD)
    file.seek(0)
    if not head:
        raise DecodeError("empty file")
    image = _jpeg(file) if head[:3] == b"\xff\xd8\xff" else _by_plugin(file, head)
    if image is None:
        raise DecodeError(foreign.name_of(head, name) or "not an image")
    check_size(*image.size, depth=_depth(image))
    return image


def check_size(width: int, height: int, *, depth: int = 1) -> None:
    """Raise DecodeError for a picture of `width` x `height` pixels, `depth` bytes a channel, that is too large, too thin or empty."""
    if width < 1 or height < 1:
        raise DecodeError("has no pixels")
    if width * height * depth > MAX_PIXELS:
        deep = f" of {8 * depth} bits" if depth > 1 else ""
        raise DecodeError(f"too large: {width} x {height}{deep}, limit {MAX_PIXELS // depth / 1e6:.0f} megapixels")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise DecodeError(f"too long and thin: {width} x {height}, limit {MAX_RATIO} times as long as wide")


def _jpeg(file: IO[bytes]) -> ImageFile.ImageFile:
    try:
        return JpegImagePlugin.JpegImageFile(file)
    except BROKEN as error:
        _raise_if_transient(error)
        if "12-bit" in str(error):
            raise DecodeError("a JPEG of 12 bits, which nothing here decodes; export it as PNG or TIFF") from error
        raise DecodeError("damaged JPEG header") from error


def _by_plugin(file: IO[bytes], head: bytes) -> ImageFile.ImageFile | None:
    if "QOI" not in Image.OPEN:
        with _plugins:
            Image.init()
    if foreign.heif(head) or foreign.jxl(head):
        package = foreign.HEIF if foreign.heif(head) else foreign.JXL
        opened = foreign.open_heif if foreign.heif(head) else foreign.open_jxl
        package.load()
        return _opened(lambda: opened(file), package.what)
    if head[:4] in tiff.MARKS:
        return _tiff(file)
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or accept(head[:16]) is not True:
            continue
        file.seek(0)
        return _opened(lambda factory=factory: factory(file, ""), name)  # type: ignore[misc]
    return None


def _opened(open_: Callable[[], Any], what: str) -> ImageFile.ImageFile:
    try:
        image: ImageFile.ImageFile = open_()
    except BROKEN as error:
        _raise_if_transient(error)
        raise DecodeError(f"damaged {what} header") from error
    return image


def _tiff(file: IO[bytes]) -> ImageFile.ImageFile:
    """A TIFF's first page; kinds that Pillow does not know are read by tifffile, and stand in for the file as an image of their size."""
    tags = tiff.Tags(file)
    tags.refuse()
    file.seek(0)
    try:
        image: ImageFile.ImageFile = TiffImagePlugin.TiffImageFile(file, "")
    except BROKEN as error:
        _raise_if_transient(error)
        return _by_tifffile(file, tags)
    if tags.signed_bytes or (tags.bits > 8 and not _is_deep(image) and image.mode != "CMYK"):
        return _by_tifffile(file, tags)  # Pillow reads some of them as if they had 8 bits, or no sign
    image.tags = tags  # type: ignore[attr-defined]
    return image


def _by_tifffile(file: IO[bytes], tags: tiff.Tags) -> ImageFile.ImageFile:
    check_size(*tags.size, depth=min(max(tags.bits // 8, 1), 4))
    file.seek(0)
    image = tiff.Unknown(tiff.by_tifffile(file.read()))
    image.tags = tags
    return cast("ImageFile.ImageFile", image)


def _is_deep(image: Image.Image) -> bool:
    return (
        image.mode in _DEEP
        or isinstance(image, tiff.Unknown)
        or (";16" in _raw(image) and image.mode != "CMYK")
        or pnm.largest(image) == 65535
    )


def _raw(image: Image.Image) -> str:
    """Pillow's name for how the pixels are stored; '' where it does not say."""
    tiles: Any = getattr(image, "tile", None)
    raw = tiles[0][3] if tiles and len(tiles[0]) > 3 else None
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return raw if isinstance(raw, str) else ""


def _depth(image: Image.Image) -> int:
    """Bytes a channel of the stored pixels: RGB of 16 bits arrives in mode RGB, its raw mode tells."""
    return _DEEP.get(image.mode) or (2 if ";16" in _raw(image) or pnm.largest(image) > 255 else 1)


def _stored(image: ImageFile.ImageFile, data: bytes) -> Deep:
    """The values of a deep picture, with what its file says of black and white."""
    if isinstance(image, tiff.Unknown):
        return tiff.deep(image.tags, image.values)
    kind, largest = image.format, pnm.largest(image)  # asked before the pixels are read
    if largest == 65535 and image.mode == "RGB":
        return Deep(pnm.colour(image, data))
    values = np.asarray(image) if image.mode in _DEEP else _both_bytes(image, data)
    if kind == "TIFF":
        return tiff.deep(image.tags, values)  # type: ignore[attr-defined]
    # Pillow brings PNM and JPEG 2000 of other depths to 16 bits; of 16 bits they say no more than a PNG does.
    said = {"PPM": 0 < largest < 65535, "JPEG2000": _precision(data) != 16, "PNG": _significant(data) == 16}
    limits = (0.0, 65535.0) if said.get(kind or "") else None
    return Deep(values, limits, floating=values.dtype.kind == "f")


def _precision(data: bytes) -> int:
    """Bits a sample of a JPEG 2000 codestream, by its SIZ marker; 0 where it is not found."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 127) + 1 if 0 <= at < len(data) - 42 else 0


def _significant(data: bytes) -> int:
    """The most significant bits that a PNG's sBIT chunk tells of a channel; 0 where it has none."""
    at = data.find(b"sBIT", 0, 4096)
    return max(data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")], default=0) if at >= 4 else 0


def _both_bytes(image: ImageFile.ImageFile, data: bytes) -> np.ndarray:
    """uint16 [h, w, c] of a picture that Pillow reads with the high bytes alone: read again for the low ones.

    Raw modes of 16 bits come in two byte orders, and each takes the first or the second byte: the other order gives the other byte.
    """
    raw = _raw(image)
    again = open_header(io.BytesIO(data))
    if raw == "LA;16B":  # four bytes a pixel, as RGBA
        _read_as(again, {"LA;16B": "RGBA"})
        four = np.asarray(again).astype(np.uint16)
        pair: np.ndarray = four[..., ::2] * 256 + four[..., 1::2]
        return pair
    other = "B" if sys.byteorder == "little" else "L"
    swapped = {f"{c};16{a}": f"{c};16{b}" for c in _PLAIN for a, b in (("B", "L"), ("L", "B"), ("N", other))}
    if raw not in swapped:
        return np.asarray(image).astype(np.uint16) * 257
    _read_as(again, swapped)
    whole: np.ndarray = np.asarray(image).astype(np.uint16) * 256 + np.asarray(again)
    return whole


def _read_as(image: ImageFile.ImageFile, names: dict[str, str]) -> None:
    """Have a picture's pixels unpacked under other raw modes than its file's."""

    def renamed(arguments: Any) -> Any:
        if isinstance(arguments, tuple):
            return tuple(names.get(a, a) if isinstance(a, str) else a for a in arguments)
        return names.get(arguments, arguments)

    image.tile = [t._replace(args=renamed(t.args)) for t in image.tile]


def _shown(found: Deep, value_range: Callable[[], ValueRange] | None) -> Image.Image:
    """Deep values as an RGB image."""
    known = value_range() if value_range is not None and found.limits is None and not found.plain else None
    pixels = found.values if found.plain else found.to_bytes(known)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _on_white(image) if image.mode == "RGBA" else image if image.mode == "RGB" else image.convert("RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    turn = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        rgb = image
    elif image.mode == "CMYK":
        rgb = _from_cmyk(image)
    elif image.mode == "LAB":
        rgb = _by_profile(image, "lab") or image.convert("RGB")
    elif image.mode in _ALPHA or "transparency" in image.info:
        rgb = _on_white(image)
    else:
        rgb = image.convert("RGB")
    return rgb.transpose(turn) if turn is not None else rgb


def _upright(image: Image.Image) -> Image.Transpose | None:
    if image.format == "JXL":
        return None  # its decoder has turned it: what EXIF says besides is to be ignored (ISO/IEC 18181-2)
    if "exif" not in image.info and "Raw profile type exif" not in image.info:
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except BROKEN:
        return None  # damaged EXIF says nothing about the pixels: show them as they lie


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    return (_by_profile(image, profile) if profile else None) or image.convert("RGB")


def _by_profile(image: Image.Image, profile: bytes | str) -> Image.Image | None:
    """Through an ICC profile to sRGB, or None where the profile is damaged or belongs to another kind of image."""
    try:
        source: Any = ImageCms.createProfile("LAB") if profile == "lab" else io.BytesIO(bytes(profile))  # type: ignore[arg-type]
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *BROKEN):
        return None


def _from_array(x: np.ndarray, value_range: Callable[[], ValueRange] | None) -> Image.Image:
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[:, :, 0]
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (3, 4)) or x.dtype.kind not in "buif":
        raise DecodeError(f"not a picture: an array of shape {x.shape} and type {x.dtype}")
    check_size(x.shape[1], x.shape[0], depth=min(x.dtype.itemsize, 4))
    if x.dtype == bool:
        x = x.astype(np.uint8) * 255
    return _shown(deep.of_array(x), value_range)


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated file"
    return f"damaged file ({text[:80]})"
