"""Decoding: what a person would see, or a short reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from visus.images import DecodeError
from visus.images.decode import MAX_PIXELS, decode


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def photo() -> Image.Image:
    """24 x 16, smooth, no two corners alike."""
    y, x = np.mgrid[:16, :24]
    return Image.fromarray(np.stack([x * 10, y * 15, (x + y) * 5], -1).astype(np.uint8))


def array(data: bytes | np.ndarray) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_plain_jpeg_is_exactly_pillows(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", quality=90)
    assert np.array_equal(array(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF"])
def test_lossless_formats(photo: Image.Image, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = photo.quantize(256) if kind == "GIF" else photo
    assert np.array_equal(array(encoded(image, kind, **options)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation(photo: Image.Image, orientation: int, kind: str) -> None:
    # Where row 0 and column 0 of the stored picture are to be shown, from the EXIF standard, by numpy alone.
    x = np.asarray(photo)
    shown = {
        1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1], 5: x.swapaxes(0, 1), 6: np.rot90(x, -1),
        7: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(x, 1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    got = array(encoded(photo, kind, exif=exif, **options))
    assert got.shape == shown.shape
    assert np.abs(got - shown).max() <= 8


def test_damaged_exif_is_no_reason_to_lose_the_picture(photo: Image.Image) -> None:
    damaged = array(encoded(photo, "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"))
    assert np.array_equal(damaged, array(encoded(photo, "JPEG")))


def test_cmyk_jpeg_comes_out_in_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 40))
    got = array(encoded(red.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(got - (220, 30, 40)).max() < 8


def test_cmyk_with_a_foreign_profile_still_decodes() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", icc_profile=profile)
    assert np.array_equal(array(data)[0, 0], (255, 0, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    got = array(encoded(Image.fromarray(deep), kind))
    assert np.array_equal(got[..., 0], np.rint(deep / 257).astype(int))
    assert np.array_equal(got[..., 0], got[..., 2])


def test_16_bit_rgb_png_is_scaled() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    pixels = np.array([[[65535, 32768, 0], [256, 512, 65280]]], np.uint16)
    body = zlib.compress(b"\0" + pixels.astype(">u2").tobytes())
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)) + chunk(b"IDAT", body)
    got = array(png + chunk(b"IEND", b""))
    assert np.abs(got - pixels.astype(int) // 256).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[-1000, 1000]], np.int32), [0, 255]),
        (np.array([[0.0, 1.0]], np.float32), [0, 255]),
        (np.array([[0.0, 200.0]], np.float32), [0, 200]),
        (np.array([[0.0, 65535.0]], np.float32), [0, 255]),
        (np.array([[0.0, np.nan]], np.float32), [0, 0]),
    ],
)
def test_deep_tiff(values: np.ndarray, expected: list[int]) -> None:
    assert array(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    assert (array(encoded(clear, "PNG")) == 255).all()
    assert np.abs(array(encoded(half, "PNG")) - 127).max() <= 1
    assert (array(encoded(half.convert("LA"), "PNG")) - 127).max() <= 1
    assert np.array_equal(array(encoded(palette, "PNG"))[0, 0], (200, 0, 0))
    assert (array(encoded(palette, "PNG", transparency=1)) == 255).all()
    assert (array(encoded(palette, "PNG", transparency=b"\xff\x00")) == 255).all()
    assert (array(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(array(data)[0, 0], (255, 0, 0))


def test_grey_and_one_bit() -> None:
    assert (array(encoded(Image.new("L", (4, 4), 77), "JPEG")) == 77).all()
    assert (array(encoded(Image.new("1", (4, 4), 1), "PNG")) == 255).all()


def attempt(data: bytes) -> tuple[tuple[int, int] | None, str]:
    """The picture's size, or the reason why there is none; any other error escapes."""
    try:
        return decode(data).size, ""
    except DecodeError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_cut_is_refused_or_whole(kind: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    data = encoded(image, kind)
    with pytest.raises(DecodeError):
        decode(data[: len(data) // 2])
    for cut in range(1, len(data), max(1, len(data) // 40)):
        size, reason = attempt(data[:cut])
        assert (size, reason) == ((40, 40), "") if size else 0 < len(reason) < 120
        assert "\n" not in reason


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000"):
        clean = encoded(image, kind)
        for _ in range(40):
            data = bytearray(clean)
            for at in rng.integers(0, len(data), 6):
                data[at] = int(rng.integers(256))
            size, reason = attempt(bytes(data))
            assert (size is None) == bool(reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am no picture", "not an image"),
        (b"\0" * 5000, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript drawing"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"%PDF-1.7", "a PDF document"),
    ],
)
def test_what_is_no_picture(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(data)


def bomb(width: int, height: int, *, bits: int = 8) -> bytes:
    """The head of a PNG that claims to be huge."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    idat = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + idat


def test_bombs_are_refused_unread_and_without_warnings() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (bomb(60000, 60000), bomb(10000, 9000), bomb(8000, 8000, bits=16)):
            with pytest.raises(DecodeError, match="too large"):
                decode(data)
    with pytest.raises(DecodeError, match=r"truncated|damaged"):
        decode(bomb(8000, 8000))
    assert before == Image.MAX_IMAGE_PIXELS
    assert 10000 * 9000 > MAX_PIXELS > 8000 * 8000


def test_arrays(photo: Image.Image) -> None:
    x = np.asarray(photo)
    assert np.array_equal(array(x), x)
    assert np.array_equal(array(x[:, ::2]), x[:, ::2])
    assert np.array_equal(array(x[..., 0])[..., 2], x[..., 0])
    assert np.array_equal(array(x[..., :1])[..., 1], x[..., 0])
    assert np.array_equal(array(x.astype(np.uint16) * 257), x)
    assert (array(np.dstack([x, np.zeros((16, 24), np.uint8)])) == 255).all()
    assert (array(np.ones((2, 2), bool)) == 255).all()
    for bad in (np.zeros(3, np.uint8), np.zeros((2, 2, 7), np.uint8), np.zeros((0, 4), np.uint8), np.array([["a"]])):
        with pytest.raises(DecodeError):
            decode(bad)


def test_many_threads_agree(photo: Image.Image) -> None:
    data = [encoded(photo, kind) for kind in ("PNG", "JPEG", "BMP", "WEBP")] * 25
    alone = [array(d) for d in data[:4]]
    with ThreadPoolExecutor(8) as pool:
        for i, got in enumerate(pool.map(array, data)):
            assert np.array_equal(got, alone[i % 4])
