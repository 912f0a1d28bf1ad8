"""Files that are no pictures for us are called what they are; HEIC, JPEG XL and DICOM open where their package is installed."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image

import visus
from visus.errors import DataError
from visus.images import DecodeError, load_images
from visus.images.decode import decode
from visus.images.header import problem
from visus.progress import collecting

HEIC = b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf\x00\x00\x01|meta" + b"\0" * 200
CANON = b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heix" + b"\0" * 200
JXL = b"\xff\x0a\xe8\x30\x10\x09\x08\x00"
BOXED = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40
DICOM = b"\0" * 128 + b"DICM" + b"\0" * 40


@pytest.mark.parametrize(
    ("data", "package"),
    [
        (HEIC, "pillow-heif"),
        (CANON, "pillow-heif"),
        (JXL, "pillow-jxl-plugin"),
        (BOXED, "pillow-jxl-plugin"),
        (DICOM, "pydicom"),
    ],
)
def test_what_needs_a_package_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, package: str
) -> None:
    for module in ("pillow_heif", "pillow_jxl", "pydicom"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DecodeError, match=f"pip install {package}"):
        decode(data)
    (tmp_path / "IMG_0001.x").write_bytes(data)
    assert f"pip install {package}" in str(problem(tmp_path / "IMG_0001.x"))


def test_a_heic_by_name_is_answered_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "cat.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"cat\.heic: .*pip install pillow-heif"):
        visus.predict([str(tmp_path / "cat.heic")])


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'></svg>", "a.svg", "SVG"),
        (b"  <svg width='3'></svg>", "a.png", "SVG"),
        (b"8BPS\0\1", "a.psd", "Photoshop"),
        (b"\xc5\xd0\xd3\xc6\0", "a.eps", "EPS"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a.mp4", "video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a.mov", "video"),
        (b"\x1aE\xdf\xa3\x01", "a.webm", "video"),
        (b"RIFF\x24\0\0\0AVI LIST", "a.avi", "video"),
        (b"\x93NUMPY\1\0v\0", "a.npy", "array"),
        (b"\x1f\x8b\x08\0", "scan.nii.gz", "NIfTI"),
        (b"\0" * 344 + b"n+1\0", "scan.nii", "NIfTI"),
        (b"PK\x03\x04", "a.npz", "archive"),
        (b"\0\0\2\0" + b"\0" * 60, "a.tga", "TGA"),
        (b"II*\0\x08\0\0\0", "a.NEF", "raw file"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a.cr3", "raw file"),
        (b"FUJIFILMCCD-RAW 0201", "a.raf", "raw file"),
        (b"IIU\0\x18\0\0\0", "a.rw2", "raw file"),
        (b"<!DOCTYPE html>\n<html>", "a.jpg", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a.jpg", "server's answer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a.png", "git lfs pull"),
        (b"%PDF-1.7\n", "a.pdf", "PDF"),
    ],
)
def test_files_are_called_what_they_are(tmp_path: Path, data: bytes, name: str, what: str) -> None:
    (tmp_path / name).write_bytes(data)
    Image.new("RGB", (4, 4)).save(tmp_path / "fine.png")
    images = load_images(str(tmp_path))
    assert images.ids == ("fine.png",)
    assert [q.id for q in images.quarantine] == [name]
    assert what in images.quarantine[0].reason
    assert "\n" not in images.quarantine[0].reason


def test_heic_through_its_package_and_jxl_by_pillows_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages' own faces, played by Pillow's reader of BMP: what is opened is what they give."""
    image = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(image, "BMP")

    def opened(_file: Any, _name: str = "") -> Any:
        return BmpImagePlugin.BmpImageFile(io.BytesIO(image.getvalue()))

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(HeifImageFile=opened))
    monkeypatch.setitem(sys.modules, "pillow_jxl", types.ModuleType("pillow_jxl"))
    monkeypatch.setitem(Image.OPEN, "JXL", (opened, None))
    for data in (HEIC, CANON, JXL, BOXED):
        assert np.asarray(decode(data))[0, 0].tolist() == [1, 2, 3]


def test_a_real_heic() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(np.tile(np.arange(0, 240, 4, np.uint8)[:, None, None], (1, 40, 3)))
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=95)
    assert np.abs(np.asarray(decode(out.getvalue())).astype(int) - np.asarray(image)).max() < 12


def test_a_real_jxl() -> None:
    pytest.importorskip("pillow_jxl")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8))
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(out, "JXL", lossless=True, exif=exif.tobytes())
    assert np.array_equal(np.asarray(decode(out.getvalue())), np.asarray(image))


def dicom(values: np.ndarray, **said: Any) -> bytes:
    """A DICOM file without compression. values: uint16 or int16 [h, w]. said: attributes."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    ds = pydicom.dataset.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in said.items():
        setattr(ds, name, value)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = values.tobytes()
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


X = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)


@pytest.mark.parametrize(
    ("said", "black", "white", "inverted"),
    [
        ({"BitsStored": 12}, 0, 4095, False),
        ({"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"}, 0, 4095, True),
        ({}, 0, 4095, False),  # nothing said: by the values
        ({"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 1001}, 1547.5, 2547.5, False),
        ({"BitsStored": 12, "WindowCenter": [2048, 9], "WindowWidth": [1001, 9]}, 1547.5, 2547.5, False),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 1001}, 261.75, 761.75, False),
    ],
)
def test_a_real_dicom(said: dict[str, Any], black: float, white: float, inverted: bool) -> None:
    expected = np.rint(np.clip((X.astype(float) - black) * 255 / (white - black), 0, 255)).astype(int)
    got = np.asarray(decode(dicom(X, **said))).astype(int)[..., 0]
    assert np.abs(got - (255 - expected if inverted else expected)).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_of_a_dicom_makes_no_scale_and_is_black(photometric: str) -> None:
    x = (X.astype(int) - 1024).astype(np.int16)
    x[0] = -32768
    said = {"PhotometricInterpretation": photometric, "PixelPaddingValue": -32768}
    got = np.asarray(decode(dicom(x, **said))).astype(int)[..., 0]
    assert (got[0] == 0).all()
    low = int(x[1:].min())
    expected = np.rint((x[1:].astype(float) - low) * 255 / (x.max() - low)).astype(int)
    assert np.abs(got[1:] - (255 - expected if photometric == "MONOCHROME1" else expected)).max() <= 1


def test_frames_of_a_dicom_are_said(tmp_path: Path) -> None:
    (tmp_path / "cine.dcm").write_bytes(dicom(np.concatenate([X, X // 2]), Rows=8, NumberOfFrames=2))
    (tmp_path / "one.dcm").write_bytes(dicom(X))
    with collecting() as remarks:
        images = load_images(str(tmp_path))
    assert np.asarray(images.decode(0)).max() == 255
    assert [
        line for line in remarks.notes if "cine.dcm" in line and "one.dcm" not in line and "give their first" in line
    ]
