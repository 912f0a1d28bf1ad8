"""The disk, the network and memory may fail for a moment, or for good: no picture is ever lost for it without a word."""

from __future__ import annotations

import builtins
import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image, ImageFile
from tests.features import tiny

from visus.errors import ReadError
from visus.features import extract
from visus.images import DecodeError, ImageSet, known, load_images, reading
from visus.images.header import problem
from visus.models.preprocess import Preprocess

MOMENTS = [
    errno.EIO,
    errno.ESTALE,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EREMOTEIO,
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.0, 0.0))


@dataclass
class Failing:
    """A source whose `bad` picture fails the first `times` times it is read."""

    inner: tiny.Pictures
    error: BaseException
    bad: int = 3
    times: int = 99
    seen: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, i: int) -> bytes:
        if i == self.bad:
            self.seen.append(i)
            if len(self.seen) <= self.times:
                raise self.error
        return self.inner.read(i)

    def digest(self) -> str:
        return self.inner.digest()


def failing(error: BaseException, times: int = 99) -> ImageSet:
    images = tiny.noise(8)
    return ImageSet("noise", Failing(images.source, error, times=times), images.rows, images.ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [*(OSError(e, "sick disk") for e in MOMENTS), MemoryError()])
def test_a_short_failure_is_waited_out(error: BaseException) -> None:
    images = failing(error, times=2)
    assert images.decode(3).size == (tiny.SIZE, tiny.SIZE)


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), MemoryError(), OSError(errno.ENOENT, "gone")]
)
def test_a_run_whose_disk_or_memory_fails_ends_in_one_line_and_remembers_nothing(
    error: BaseException, tmp_path: Path
) -> None:
    images, model = failing(error), tiny.backbone()
    settings: dict[str, Any] = {"engine": "torch", "batch": 2, "shard_rows": 2, "store": tmp_path}
    with pytest.raises(ReadError, match="run the same command again") as caught:
        extract(images, model, ["late"], **settings)
    assert "\n" not in str(caught.value)
    images.source.times = 0  # type: ignore[attr-defined]  # the disk is well again
    features = extract(images, model, ["late"], **settings)
    assert features.rows.tolist() == list(range(8))
    assert not features.quarantine


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_memory_that_is_short_while_decoding(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    images = tiny.noise(2)
    real, calls = ImageFile.ImageFile.load, []

    def short(self: Any) -> Any:
        calls.append(1)
        if len(calls) in bad:
            raise error
        return real(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", short)
    bad = {1}
    assert images.decode(0).size == (tiny.SIZE, tiny.SIZE)
    bad = set(range(99))
    with pytest.raises(ReadError, match=r"0\.png: there is not enough memory"):
        images.decode(0)


def test_a_sick_disk_while_headers_are_read_is_no_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    real, calls = Path.open, []

    def sick(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "2.png" and len(calls) < 99:
            calls.append(1)
            raise OSError(errno.EIO, "Input/output error")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", sick)
    with pytest.raises(ReadError, match=r"2\.png"):
        load_images(str(tmp_path))
    calls[:] = [1] * 98
    assert problem(tmp_path / "2.png") is None


def test_a_sick_disk_while_contents_are_hashed_is_no_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    images = load_images(str(tmp_path))
    good = images.fingerprint
    images = load_images(str(tmp_path))

    def sick(path: Any, *args: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("visus.images.digest.file_hash", sick)
        (tmp_path / "1.png").touch()
        with pytest.raises(ReadError):
            _ = images.fingerprint
    assert load_images(str(tmp_path)).fingerprint == good


def test_files_are_read_with_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    images = load_images(str(tmp_path))
    real, calls = builtins.open, []

    def sick(path: Any, *args: Any, **options: Any) -> Any:
        if str(path).endswith("1.png"):
            calls.append(1)
            if len(calls) < 3:
                raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *args, **options)

    monkeypatch.setattr(builtins, "open", sick)
    assert images.decode(0).size == (4, 4)
    assert len(calls) == 3


def test_thin_pictures_are_set_aside_before_they_fill_the_memory(tmp_path: Path) -> None:
    Image.new("L", (1, 60000)).save(tmp_path / "thin.png")
    Image.new("L", (4, 4)).save(tmp_path / "fine.png")
    Image.new("L", (300, 2)).save(tmp_path / "line.tif")  # a line of text is no attack
    images = load_images(str(tmp_path))
    assert images.ids == ("fine.png", "line.tif")
    assert "too long and thin: 1 x 60000" in images.quarantine[0].reason


def test_what_a_model_would_make_of_a_picture_is_bounded_too() -> None:
    large = Preprocess((1024, 1024), 1024, "bicubic", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(DecodeError, match="250 x 2 would be resized to 128,000 x 1,024"):
        large(Image.new("RGB", (250, 2)))
    assert np.asarray(large(Image.new("RGB", (60, 2)))).shape == (1024, 1024, 3)


def test_tables_and_known_sets_on_a_sick_disk_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    Dataset.from_dict({"image": [{"bytes": tiny.noise(1).source.read(0), "path": None}]}).to_parquet(str(path))

    def sick(*args: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "from_parquet", sick)
        with pytest.raises(ReadError, match="run the same command again"):
            load_images(str(path))
    assert len(load_images(str(path))) == 1

    layout = known.KNOWN["mnist"].layouts[0]
    monkeypatch.setattr(known, "find_files", lambda *a: (known.FileLayout(layout.files, (), sick, ()), tmp_path))
    with pytest.raises(ReadError, match="mnist"):
        load_images("mnist")
