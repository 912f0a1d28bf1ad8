"""Decoding: any picture file -> an upright 8-bit RGB image, the way a person sees it.

Pillow's process-wide settings are never touched, so that any number of threads may decode at once.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from visus.errors import DataError

if TYPE_CHECKING:
    from typing import IO

# Pictures above this many 8-bit pixels are refused unread: Pillow's own alarm level, 0.27 GB as RGB. A pixel with 16 bits a
# channel counts twice, one with 32 bits four times.
MAX_PIXELS = 89_478_485

# Formats that hold photographs or drawings and have a signature of their own. EPS is not among them (it runs Ghostscript),
# nor are formats without a signature (TGA), which take any bytes for a picture.
FORMATS = ("PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "QOI")

# What Pillow's plugins raise on damaged files.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
    ArithmeticError, MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
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
_plugins = threading.Lock()


class DecodeError(DataError):
    """A picture cannot be decoded; the message is the reason in a few words, without the picture's name."""


def decode(data: bytes | np.ndarray) -> Image.Image:
    """An encoded file, or an array, as an RGB image the way a person sees it.

    data: a whole file's bytes (JPEG, PNG, GIF, WebP, BMP, TIFF, PPM, JPEG 2000, AVIF, ICO, QOI), or an array [h, w],
    [h, w, 1], [h, w, 3] or [h, w, 4] of uint8, uint16, bool or float.
    Turned upright by EXIF; the first frame of an animation; alpha and transparent palette entries on white; CMYK through its
    embedded ICC profile where it has one (profiles of RGB files are left alone, as training pipelines leave them). Deep
    grey is scaled, not clipped: 16 bits by 1/257; 32-bit integers as 16 bits where they fit, else stretched from their
    smallest to their largest value; floats as [0, 1], [0, 255] or [0, 65535], whichever is the first to hold them, else stretched.
    Raises DecodeError: empty, not an image, truncated or damaged, more than MAX_PIXELS pixels. Thread-safe.
    """
    if isinstance(data, np.ndarray):
        return _from_array(data)
    if not data:
        raise DecodeError("empty file")
    try:
        picture = open_header(io.BytesIO(data))
        picture.load()
        return _to_rgb(picture)
    except DecodeError:
        raise
    except BROKEN as error:
        raise DecodeError(_reason(error)) from error


def open_header(file: IO[bytes]) -> ImageFile.ImageFile:
    """Read a picture's header and check its size; no pixel is decoded. Raises DecodeError.

    Pillow's `open` is gone around because it warns about large pictures through a process-wide switch.
    """
    prefix = file.read(16)
    file.seek(0)
    if not prefix:
        raise DecodeError("empty file")
    picture = _jpeg(file) if prefix[:3] == b"\xff\xd8\xff" else _by_plugin(file, prefix)
    if picture is None:
        raise DecodeError("not an image")
    check_size(*picture.size, depth=_depth(picture))
    return picture


def check_size(width: int, height: int, *, depth: int = 1) -> None:
    """Raise DecodeError for a picture of `width` x `height` pixels, `depth` bytes a channel, that is too large or empty."""
    if width < 1 or height < 1:
        raise DecodeError("has no pixels")
    if width * height * depth > MAX_PIXELS:
        deep = f" of {8 * depth} bits" if depth > 1 else ""
        raise DecodeError(f"too large: {width} x {height}{deep}, limit {MAX_PIXELS // depth / 1e6:.0f} megapixels")


def _jpeg(file: IO[bytes]) -> ImageFile.ImageFile:
    try:
        return JpegImagePlugin.JpegImageFile(file)
    except BROKEN as error:
        raise DecodeError("damaged JPEG header") from error


def _by_plugin(file: IO[bytes], prefix: bytes) -> ImageFile.ImageFile | None:
    if "QOI" not in Image.OPEN:
        with _plugins:
            Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or accept(prefix) is not True:
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except BROKEN as error:
            raise DecodeError(f"damaged {name} header") from error
    return None


def _depth(picture: ImageFile.ImageFile) -> int:
    """Bytes a channel of the stored pixels: RGB of 16 bits arrives in mode RGB, its raw mode tells."""
    if picture.mode in _DEEP:
        return _DEEP[picture.mode]
    tile: Any = picture.tile[0] if picture.tile else None
    raw = tile[3] if tile is not None and len(tile) > 3 else None
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return 2 if isinstance(raw, str) and ";16" in raw else 1


def _to_rgb(picture: Image.Image) -> Image.Image:
    turn = _upright(picture)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        image = picture
    elif picture.mode in _DEEP:
        image = Image.fromarray(_shallow(np.asarray(picture))).convert("RGB")
    elif picture.mode == "CMYK":
        image = _from_cmyk(picture)
    elif picture.mode == "LAB":
        image = _by_profile(picture, "lab") or picture.convert("RGB")
    elif picture.mode in _ALPHA or "transparency" in picture.info:
        image = _on_white(picture)
    else:
        image = picture.convert("RGB")
    return image.transpose(turn) if turn is not None else image


def _upright(picture: Image.Image) -> Image.Transpose | None:
    if "exif" not in picture.info and "Raw profile type exif" not in picture.info:
        return None
    try:
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except BROKEN:
        return None  # damaged EXIF says nothing about the pixels: show them as they lie


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _from_cmyk(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    return (_by_profile(picture, profile) if profile else None) or picture.convert("RGB")


def _by_profile(picture: Image.Image, profile: bytes | str) -> Image.Image | None:
    """Through an ICC profile to sRGB, or None where the profile is damaged or belongs to another kind of image."""
    from PIL import ImageCms

    try:
        source: Any = ImageCms.createProfile("LAB") if profile == "lab" else io.BytesIO(bytes(profile))  # type: ignore[arg-type]
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *BROKEN):
        return None


def _shallow(x: np.ndarray) -> np.ndarray:
    """Integers or floats of more than 8 bits -> uint8, scaled as `decode` says."""
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * 255
    if x.dtype.itemsize == 2 and x.dtype.kind == "u":
        return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    tops: tuple[float, ...] = (1.0, 255.0, 65535.0) if x.dtype.kind == "f" else (65535.0,)
    top = next((t for t in tops if low >= 0 and high <= t), None)
    if top is not None:
        wide *= 255.0 / top
    elif high > low:
        wide = (wide - low) * (255.0 / (high - low))
    return np.rint(wide).astype(np.uint8)


def _from_array(x: np.ndarray) -> Image.Image:
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[:, :, 0]
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (3, 4)) or x.dtype.kind not in "buif":
        raise DecodeError(f"not a picture: an array of shape {x.shape} and type {x.dtype}")
    check_size(x.shape[1], x.shape[0], depth=min(x.dtype.itemsize, 4))
    image = Image.fromarray(np.ascontiguousarray(_shallow(x)))
    if image.mode == "RGBA":
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated file"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    return f"damaged file ({text[:80]})"
