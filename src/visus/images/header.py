"""Headers: is this file a picture, and how large? Answered from its first bytes, without decoding a pixel."""

from __future__ import annotations

import struct
from pathlib import Path
from stat import S_ISREG
from typing import IO

from visus.images.decode import check_size, open_header
from visus.images.errors import DecodeError
from visus.images.foreign import DEVELOP, DICOM, HEAD, RAW, dicom
from visus.images.reading import retrying
from visus.images.tiff import MARKS

# JPEG segments that carry the size (start of frame); C4, C8 and CC share their range and do not.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])


def problem(path: Path) -> str | None:
    """Why this file cannot be an image of a set, in a few words; None when its header is that of a picture of usable size.

    Catches: broken links, pipes and devices, files without permission, empty files, non-images (with what they are), damaged headers,
    bombs. Raises ReadError where the disk fails: that says nothing about the file.
    """
    try:
        return retrying(lambda: _problem(path), str(path))
    except FileNotFoundError:
        return "broken link" if path.is_symlink() else "not found"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _problem(path: Path) -> str | None:
    stat = path.stat()
    if not S_ISREG(stat.st_mode):
        return "not a file"
    if stat.st_size == 0:
        return "empty file"
    try:
        with path.open("rb") as file:
            _check(file, path.name)
    except DecodeError as error:
        return str(error)
    return None


def _check(file: IO[bytes], name: str) -> None:
    """The common formats are read here, some ten times faster than by Pillow's plugins, which read the rest."""
    prefix = file.read(HEAD)
    if prefix[:8] == b"\x89PNG\r\n\x1a\n" and prefix[12:16] == b"IHDR" and len(prefix) >= 26:
        width, height, bits = struct.unpack(">IIB", prefix[16:25])
        check_size(width, height, depth=2 if bits == 16 else 1)
        return
    if prefix[:3] == b"\xff\xd8\xff":
        size = jpeg_size(file)
        if size is None:
            raise DecodeError("damaged JPEG header")
        check_size(*size)
        return
    if prefix[:6] in (b"GIF87a", b"GIF89a") and len(prefix) >= 10:
        check_size(*struct.unpack("<HH", prefix[6:10]))
        return
    if dicom(prefix):
        DICOM.load()
        return
    # Raw files of cameras are TIFFs whose first page is a thumbnail: their names tell them, where the tags may not.
    if Path(name).suffix.lower() in RAW and prefix[:4] in MARKS:
        raise DecodeError(DEVELOP)
    file.seek(0)
    open_header(file, name)


def jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """(width, height) by the start of frame of a JPEG; None where the header is damaged."""
    file.seek(2)
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte or byte == b"\xda":
            return None
        marker = byte[0]
        if marker in _ALONE or marker == 0:
            continue
        head = file.read(7) if marker in _FRAMES else file.read(2)
        if marker in _FRAMES:
            if len(head) < 7:
                return None
            height, width = struct.unpack(">HH", head[3:7])
            return (width, height)
        if len(head) < 2 or (length := struct.unpack(">H", head)[0]) < 2:
            return None
        file.seek(length - 2, 1)
