"""Files that Pillow alone does not open: HEIC, JPEG XL and DICOM where their package is installed, the others by their names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any

from PIL import Image

from visus.images.errors import DecodeError

HEAD = 512  # bytes that tell every kind

_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_EXPORT = "export it as PNG or TIFF"
DEVELOP = f"a camera's raw file, which has no pixels before it is developed; {_EXPORT}"
_VIDEO = "a video; save its frames as images"
_ARCHIVE = "an archive; unpack it"
_ARRAY = "an array, not an image; save it as PNG or TIFF"
_MEDICAL = "a NIfTI volume; save its slices as images"

# (where, bytes, what it is). An empty `bytes` never matches.
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", f"a PDF document; {_EXPORT}"),
    (0, b"%!PS", f"a PostScript drawing; {_EXPORT}"),
    (0, b"\xc5\xd0\xd3\xc6", f"an EPS drawing; {_EXPORT}"),
    (0, b"8BPS", f"a Photoshop file; {_EXPORT}"),
    (0, b"gimp xcf", f"a GIMP file; {_EXPORT}"),
    (0, b"FUJIFILMCCD-RAW", DEVELOP),
    (0, b"IIRO", DEVELOP),
    (0, b"IIRS", DEVELOP),
    (0, b"MMOR", DEVELOP),
    (0, b"IIU\0", DEVELOP),
    (0, b"FOVb", DEVELOP),
    (0, b"\0MRM", DEVELOP),
    (4, b"ftypcrx ", DEVELOP),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (4, b"ftypavi", "an AVIF picture, which this Pillow cannot open; pip install -U pillow"),
    (4, b"ftyp", _VIDEO),
    (4, b"moov", _VIDEO),
    (0, b"\0\0\x01\xba", _VIDEO),
    (0, b"\0\0\x01\xb3", _VIDEO),
    (0, b"FLV\x01", _VIDEO),
    (0, b"OggS", _VIDEO),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (8, b"WAVE", "a sound"),
    (0, b"ID3", "a sound"),
    (0, b"\x93NUMPY", _ARRAY),
    (0, b"\x89HDF\r\n\x1a\n", _ARRAY),
    (0, b"MATLAB 5.0", _ARRAY),
    (0, b"SIMPLE  =", f"a FITS image; {_EXPORT}"),
    (0, b"v/1\x01", f"an OpenEXR image; {_EXPORT}"),
    (0, b"#?RADIANCE", f"a Radiance HDR image; {_EXPORT}"),
    (0, b"DDS ", f"a DDS texture; {_EXPORT}"),
    (0, b"icns", f"an icon set of macOS; {_EXPORT}"),
    (344, b"n+1\0", _MEDICAL),
    (344, b"ni1\0", _MEDICAL),
    (0, b"PK\x03\x04", _ARCHIVE),
    (0, b"\x1f\x8b", _ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (0, b"Rar!", _ARCHIVE),
    (257, b"ustar", _ARCHIVE),
    (0, b"PAR1", "a Parquet table; give it as parquet:PATH"),
    (0, b"version https://git-lfs", "a Git LFS pointer in place of the image; run git lfs pull"),
)
# By the name alone: kinds without a mark of their own, and raw files that look like TIFF.
RAW = frozenset(
    [".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef",
     ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"]
)  # fmt: skip
_NAMES = {
    ".tga": f"a TGA image; {_EXPORT}",
    ".svgz": f"an SVG drawing; {_EXPORT}",
    ".nii.gz": _MEDICAL,
    ".dcm": "no DICOM file that can be told as one (its DICM mark is missing)",
}


def heif(head: bytes) -> bool:
    """Whether these first bytes are those of a HEIC or HEIF picture (not of AVIF, which shares the container)."""
    if head[4:8] != b"ftyp":
        return False
    size = min(max(int.from_bytes(head[:4], "big"), 16), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, size - 3, 4))}
    return bool(brands & _HEIF) or (bool(brands & {b"mif1", b"msf1"}) and not brands & {b"avif", b"avis"})


def jxl(head: bytes) -> bool:
    """Whether these first bytes are those of a JPEG XL picture, bare or in its container."""
    return head[:2] == b"\xff\x0a" or head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n"


def dicom(head: bytes) -> bool:
    """Whether these first bytes are those of a DICOM file."""
    return head[128:132] == b"DICM"


def name_of(head: bytes, name: str = "") -> str | None:
    """What a file is that is no picture for us, in a few words with what to do; None where nothing is known of it.

    head: its first HEAD bytes. name: the file's name, where there is one.
    """
    suffixes = [s.lower() for s in PurePath(name).suffixes]
    for ending in ("".join(suffixes[-2:]), suffixes[-1] if suffixes else ""):
        if ending in _NAMES:
            return _NAMES[ending]
    if suffixes and suffixes[-1] in RAW:
        return DEVELOP
    found = next((what for at, mark, what in _MARKS if head[at : at + len(mark)] == mark), None)
    return found or _text(head)


def _text(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text:
        return f"an SVG drawing, which has no pixels; {_EXPORT}"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<error")):
        return "a web page or a server's answer in place of the image; fetch it again"
    return None


@dataclass(frozen=True)
class Package:
    """An optional package that opens a kind of picture. what: the kind. pip: what to install. module: what to import."""

    what: str
    pip: str
    module: str

    def load(self) -> Any:
        """The module. Raises DecodeError with what to install."""
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise DecodeError(f"a {self.what} picture, which needs a package: pip install {self.pip}") from error


HEIF = Package("HEIC", "pillow-heif", "pillow_heif")
JXL = Package("JPEG XL", "pillow-jxl-plugin", "pillow_jxl")
DICOM = Package("DICOM", "pydicom", "pydicom")


def open_heif(file: IO[bytes]) -> Image.Image:
    """A HEIC picture through pillow-heif, not decoded yet. Raises DecodeError where the package is missing."""
    image: Image.Image = HEIF.load().HeifImageFile(file)
    return image


def open_jxl(file: IO[bytes]) -> Image.Image:
    """A JPEG XL picture through pillow-jxl-plugin. Raises DecodeError where the package is missing."""
    JXL.load()  # registers its plugin with Pillow
    factory = Image.OPEN["JXL"][0]
    image: Image.Image = factory(file, "")
    return image
