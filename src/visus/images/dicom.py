"""DICOM pictures through pydicom: rescaled, windowed by what the file says, MONOCHROME1 the right way round; the first frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import numpy as np

from visus.images.deep import Deep
from visus.images.errors import DecodeError
from visus.images.foreign import DICOM

_GREY = ("MONOCHROME1", "MONOCHROME2")


def read(file: IO[bytes], check_size: Callable[..., None]) -> Deep:
    """The first frame: uint8 [h, w, 3] of colour, else grey values with black and white where the file says them.

    check_size: raises for what is too large, before a pixel is decoded. Source: DICOM PS3.3 C.7.6.3, C.11.1, C.11.2.
    Raises DecodeError where pydicom is not installed, or cannot decode this kind.
    """
    pydicom = DICOM.load()
    try:
        ds = pydicom.dcmread(file)
        if "PixelData" not in ds:
            raise DecodeError("a DICOM file without an image")
        bits = int(ds.BitsAllocated)
        check_size(int(ds.Columns), int(ds.Rows), depth=2 if bits > 8 else 1)
        from pydicom import pixels  # an optional extra

        stored = pixels.pixel_array(ds, index=0)  # YBR comes as RGB
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            stored = pixels.apply_color_lut(stored, ds)
            return Deep(stored if stored.dtype == np.uint8 else (stored >> 8).astype(np.uint8))
        if ds.PhotometricInterpretation not in _GREY:
            return Deep(stored if stored.dtype == np.uint8 else (stored >> (int(ds.BitsStored) - 8)).astype(np.uint8))
        values = pixels.apply_modality_lut(stored, ds)
        shown, limits = _windowed(ds, values, stored, pixels)
        return Deep(_unpadded(ds, shown, stored), limits, inverted=ds.PhotometricInterpretation == "MONOCHROME1")
    except (
        ImportError,
        RuntimeError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
        IndexError,
        EOFError,
        NotImplementedError,
        OSError,
    ) as error:
        if isinstance(error, DecodeError):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise DecodeError(f"a DICOM picture that pydicom cannot decode ({reason[:80]})") from error


def frames(file: IO[bytes]) -> int:
    """How many frames a DICOM file has, by its header. Raises DecodeError where pydicom is not installed."""
    ds = DICOM.load().dcmread(file, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
    return int(ds.get("NumberOfFrames", 1) or 1)


def _unpadded(ds: Any, values: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Values with NaN where the file has padding in place of a picture (DICOM PS3.3 C.7.5.1.1.2), which must not make the scale."""
    padding = ds.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return values
    low, high = sorted((padding, int(ds.get("PixelPaddingRangeLimit", padding))))
    beyond = (stored >= low) & (stored <= high)
    return np.where(beyond, np.nan, values.astype(np.float64)) if beyond.any() else values


def _windowed(
    ds: Any, values: np.ndarray, stored: np.ndarray, pixels: Any
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Values, and (black, white): by the first VOI table or window, else by the bits stored, else not said."""
    if ds.get("VOILUTSequence"):
        table = ds.VOILUTSequence[0]
        return pixels.apply_voi(values, ds, index=0), (0.0, 2.0 ** int(table.LUTDescriptor[2]) - 1)
    centre, width = (_first(ds.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        kind = str(ds.get("VOILUTFunction", "LINEAR")).upper()
        if kind == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), (0.0, 1.0)
        shift, span = (0.0, width) if kind == "LINEAR_EXACT" else (0.5, max(width - 1, 1e-6))
        return values, (centre - shift - span / 2, centre - shift + span / 2)
    bits, signed = int(ds.BitsStored), int(ds.get("PixelRepresentation", 0))
    if bits >= 16 or "ModalityLUTSequence" in ds:
        return values, None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, offset = float(ds.get("RescaleSlope", 1) or 1), float(ds.get("RescaleIntercept", 0) or 0)
    black, white = sorted((low * slope + offset, high * slope + offset))
    return values, (black, white)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)
