"""More than 8 bits: 12 bits in 16 are not black, one scale for a whole set, and what a file says of itself is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from tests.images.encoders import chunk, encoded, png16, tiff

from visus.images import DecodeError, load_images
from visus.images.decode import decode
from visus.images.deep import limits
from visus.progress import collecting

RNG = np.random.default_rng(0)


def twelve(*shape: int) -> np.ndarray:
    """uint16 that uses 12 bits, whatever is drawn."""
    x = RNG.integers(0, 4096, shape).astype(np.uint16)
    x.flat[0] = 4095
    return x


def shown(x: np.ndarray, white: float = 4095.0, black: float = 0.0) -> np.ndarray:
    """What should come out, by plain arithmetic."""
    out = np.rint((x.astype(np.float64) - black) * 255 / (white - black)).astype(int)
    return out if out.ndim == 3 else np.repeat(out[..., None], 3, 2)


def array(data: bytes | np.ndarray) -> np.ndarray:
    return np.asarray(decode(data)).astype(int)


GREY: dict[str, Callable[[np.ndarray], bytes]] = {
    "png": lambda x: encoded(Image.fromarray(x), "PNG"),
    "tiff": lambda x: encoded(Image.fromarray(x), "TIFF"),
    "lzw": lambda x: encoded(Image.fromarray(x), "TIFF", compression="tiff_lzw"),
    "motorola": lambda x: tiff(x.astype(">u2"), byteorder=">"),
    "big tiff": lambda x: tiff(x, bigtiff=True),
    "32 bits": lambda x: tiff(x.astype(np.uint32)),
    "png with alpha": lambda x: png16(np.dstack([x, np.full(x.shape, 65535, np.uint16)])),
    "floats": lambda x: tiff(x.astype(np.float32)),
}


@pytest.mark.parametrize("kind", GREY)
def test_12_bits_in_16_are_as_bright_as_they_were(kind: str) -> None:
    x = twelve(6, 7)
    assert np.array_equal(array(GREY[kind](x)), shown(x))


COLOUR: dict[str, Callable[[np.ndarray], bytes]] = {
    "png": png16,
    "png with alpha": lambda x: png16(np.dstack([x, np.full(x.shape[:2], 65535, np.uint16)])),
    "tiff": lambda x: tiff(x, photometric="rgb"),
    "motorola": lambda x: tiff(x.astype(">u2"), photometric="rgb", byteorder=">"),
    "zlib": lambda x: tiff(x, photometric="rgb", compression="zlib"),
    "planes": lambda x: tiff(np.moveaxis(x, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
    "tiles": lambda x: tiff(x, photometric="rgb", tile=(16, 16)),
}


@pytest.mark.parametrize("kind", COLOUR)
def test_colour_of_12_bits(kind: str) -> None:
    x = twelve(18, 17, 3)
    assert np.array_equal(array(COLOUR[kind](x)), shown(x))


def test_what_a_file_says_of_its_bits_is_believed() -> None:
    dark = twelve(6, 7) // 4
    assert np.array_equal(array(png16(dark, chunk(b"sBIT", b"\x10"))), shown(dark, 65535))
    assert np.array_equal(array(tiff(dark, extratags=[(281, "H", 1, 65535, True)])), shown(dark, 65535))
    assert np.array_equal(array(tiff(dark, extratags=[(281, "H", 1, 4000, True)])), shown(dark, 4095))
    assert np.array_equal(array(b"P5 7 6 4095\n" + dark.astype(">u2").tobytes()), shown(dark, 4095))
    # A tag that the values contradict says nothing.
    assert np.array_equal(array(tiff(twelve(6, 7), extratags=[(281, "H", 1, 255, True)]))[0, 0], [255, 255, 255])


@pytest.mark.parametrize("kind", ["P6", "P5", "P3"])
def test_pnm_of_16_bits_says_no_more_than_a_png(kind: str) -> None:
    x = twelve(6, 7)
    whole = np.dstack([x, x // 2, x]) if kind != "P5" else x
    body = whole.astype(">u2").tobytes() if kind != "P3" else " ".join(map(str, whole.ravel())).encode()
    assert np.array_equal(array(kind.encode() + b"\n7 6\n65535\n" + body)[..., 0], shown(x)[..., 0])
    with pytest.raises(DecodeError, match="truncated"):
        decode(kind.encode() + b"\n7 6\n65535\n" + body[:41])


def test_floats_in_a_pnm_and_signed_bytes_are_read_as_such() -> None:
    x = np.linspace(0, 1, 42, dtype=np.float32).reshape(6, 7)
    assert np.array_equal(array(b"Pf\n7 6\n-1.0\n" + x[::-1].tobytes()), shown(x, 1))
    signed = np.linspace(-128, 127, 42).astype(np.int8).reshape(6, 7)
    assert np.array_equal(array(tiff(signed)), shown(signed, 127, -128))


def test_half_floats_are_ranged_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    x = np.linspace(0, 1, 42, dtype=np.float16).reshape(6, 7)
    assert np.array_equal(array(tiff(x)), shown(x, 1))
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.skipif(not features.check_codec("jpg_2000"), reason="this Pillow has no JPEG 2000")
def test_jpeg_2000_of_16_bits_says_no_more_than_a_png() -> None:
    x = twelve(40, 41)
    assert np.array_equal(array(encoded(Image.fromarray(x), "JPEG2000")), shown(x))


def test_white_is_zero_and_pixels_without_data() -> None:
    x = twelve(6, 7)
    assert np.array_equal(array(tiff(x, photometric="miniswhite")), 255 - shown(x))
    heights = x.astype(np.float32)
    heights[2] = -9999
    got = array(tiff(heights, extratags=[(42113, "s", 0, "-9999", True)]))
    assert (got[2] == 0).all()
    assert np.array_equal(got[3], shown(x)[3])


def test_negative_values_go_from_the_smallest_to_the_largest() -> None:
    hounsfield = (twelve(6, 7).astype(int) - 1024).astype(np.int16)
    assert np.array_equal(array(tiff(hounsfield)), shown(hounsfield, hounsfield.max(), hounsfield.min()))


@given(st.floats(0, 65535), st.floats(0, 65535), st.booleans())
def test_the_rule_holds_all_values_and_never_a_dark_picture_brighter(a: float, b: float, floating: bool) -> None:
    black, white = limits(0, a, floating=floating)
    assert black == 0
    assert a <= white
    assert (limits(0, b, floating=floating)[1] >= white) or b < a


def folder(root: Path, *pictures: np.ndarray) -> Path:
    for i, x in enumerate(pictures):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16(x))
    return root


def test_one_scale_for_a_whole_set(tmp_path: Path) -> None:
    bright, dark = twelve(5, 5), np.full((5, 5), 40, np.uint16)
    with collecting() as remarks:
        images = load_images(str(folder(tmp_path, bright, dark)))
    assert np.array_equal(np.asarray(images.decode(0)), shown(bright))
    assert np.array_equal(
        np.asarray(images.decode(1)), shown(dark)
    )  # alone it would be read as 8 bits, six times brighter
    assert np.array_equal(np.asarray(images.subset(np.array([1])).decode(0)), shown(dark))
    assert any("12 bits" in line and "4,095" in line for line in remarks.notes)
    assert not remarks.cautions


def test_a_set_that_uses_a_corner_of_the_scale_is_cautioned(tmp_path: Path) -> None:
    with collecting() as remarks:
        load_images(str(folder(tmp_path, *(RNG.integers(30000, 31000, (2, 4, 4)).astype(np.uint16)))))
    assert any("nearly one grey" in line for line in remarks.cautions)


def test_a_few_hot_pixels_that_make_the_scale_are_cautioned(tmp_path: Path) -> None:
    pictures = [twelve(40, 40) for _ in range(6)]
    pictures[3][0, 0] = 65535
    with collecting() as remarks:
        load_images(str(folder(tmp_path, *pictures)))
        load_images(str(tmp_path))  # as remembered
    (line,) = remarks.cautions
    assert "1 of 9,600 values are above 12 bits" in line
    assert "nearly black" in line


def test_a_picture_deeper_than_those_looked_at_changes_the_scale_of_all(tmp_path: Path) -> None:
    pictures = [np.full((3, 3), 255, np.uint16)] * 40
    root = folder(tmp_path, *pictures, np.full((3, 3), 60000, np.uint16))
    images = load_images(str(root))
    # From the first picture on, whichever is decoded first: 255 of 65,535 is one step above black.
    assert np.asarray(images.decode(0)).max() == 1


def test_8_bit_sets_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "1.png")
    images = load_images(str(tmp_path))
    monkeypatch.setattr("visus.images.base.measure_range", lambda source: pytest.fail("measured"))
    assert np.asarray(images.decode(0))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.zeros((20, 20, 13), np.uint16), photometric="minisblack", planarconfig="contig"), "13 bands of 16 bits"),
        (tiff(np.zeros((20, 20, 4), np.uint8), photometric="rgb", extrasamples=["unspecified"]), "4 bands of 8 bits"),
        (tiff(np.zeros((20, 20, 2), np.uint8), photometric="minisblack", planarconfig="contig"), "2 bands"),
        (tiff(np.zeros((8, 8), np.uint16), extratags=[(50706, "B", 4, (1, 4, 0, 0), True)]), "camera's raw file"),
        (tiff(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1, extratags=[(271, "s", 0, "NIKON", True)]), "raw"),
        (tiff(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1), "thumbnail"),
    ],
)  # fmt: skip
def test_a_tiff_whose_pixels_are_no_picture_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(data)


def test_ordinary_tiffs_stay_what_they_are() -> None:
    for image in (
        Image.new("RGB", (5, 5), (9, 8, 7)), Image.new("RGBA", (5, 5), (9, 8, 7, 255)), Image.new("CMYK", (5, 5), (246, 247, 248, 0)),
        Image.new("RGB", (5, 5), (9, 8, 7)).quantize(4),
    ):  # fmt: skip
        assert array(encoded(image, "TIFF"))[0, 0].tolist() == [9, 8, 7]


def test_pages_are_said(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(
        tiff(np.stack([np.full((5, 5), v, np.uint8) for v in (10, 20)]), photometric="minisblack")
    )
    with collecting() as remarks:
        images = load_images(str(tmp_path))
    assert np.asarray(images.decode(0)).max() == 10
    assert any("stack.tif" in line and "give their first" in line for line in remarks.notes)
