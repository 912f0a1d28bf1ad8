"""Locks: the second waits and says for what; a killed holder blocks nobody; a file system without flock is named, and stops nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests import shapes

from visus.errors import StoreError
from visus.locks import locked
from visus.memory import halving, out_of_memory
from visus.progress import Silent, collecting, reporting
from visus.report.write import LOCK, write_report
from visus.result import Result
from visus.training import checkpoint

HOLD = """
import sys, time
from pathlib import Path
from visus.locks import locked
with locked(Path(sys.argv[1]), waiting="x"):
    print("held", flush=True)
    time.sleep(60)
"""


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waits = threading.Event()

    def log(self, message: str) -> None:
        self.lines.append(message)
        self.waits.set()


def test_who_comes_second_waits_says_for_what_and_goes_on_when_the_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        heard = Heard()
        threading.Thread(target=lambda: heard.waits.wait(30) and os.kill(holder.pid, signal.SIGKILL)).start()
        with reporting(heard), locked(tmp_path / "run", waiting="another process is training; waiting"):
            assert heard.lines == ["another process is training; waiting"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    with reporting(heard), locked(tmp_path / "run", waiting="never said"):  # the file stays, the lock does not
        assert len(heard.lines) == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_flock_is_named_and_stops_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(fd: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuses)
    with collecting() as remarks, locked(tmp_path, waiting=""):
        pass
    assert remarks.cautions == [f"{tmp_path} is on a file system without locks: do not run two commands there at once"]


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StoreError, match=r"^cannot write in .*; free some space or choose another folder$"),
        locked(tmp_path / "file" / "run", waiting=""),
    ):
        pass


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    for name in (".last.ckpt.abc.tmp", ".best.ckpt.part", "last.ckpt", ".lock"):
        (tmp_path / name).touch()
    checkpoint.clear_litter(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "last.ckpt"]


def test_a_pass_over_rows_halves_where_memory_is_too_little_and_loses_none() -> None:
    seen: list[int] = []

    def run(at: slice) -> list[int]:
        if at.stop - at.start > 3:
            raise RuntimeError("CUDA error: out of memory")
        seen.extend(range(at.start, at.stop))
        return seen

    assert [p.stop - p.start for p, _ in halving(10, 8, run, what="rows")] == [2, 2, 2, 2, 2]
    assert seen == list(range(10))
    assert not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(halving(2, 2, lambda at: (_ for _ in ()).throw(RuntimeError("shapes differ")), what="rows"))


def test_of_two_reports_into_one_folder_the_second_waits(tmp_path: Path) -> None:
    result = Result(study="predict", title="A page", sections=())
    writer = threading.Thread(target=write_report, args=(result, tmp_path))
    with locked(tmp_path, waiting="", name=LOCK):
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert not (tmp_path / "index.html").exists()
    writer.join(60)
    assert (tmp_path / "index.html").is_file()


def command(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "visus.app.cli", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def both(*options: str, out: tuple[Path, Path]) -> list[str]:
    """Two of the same command at once; what they said. Both end well."""
    running = [command(*options, f"--out={o}") for o in out]
    said = [p.communicate(timeout=280) for p in running]
    assert [p.returncode for p in running] == [0, 0], said
    return [err for _, err in said]


@pytest.mark.slow
def test_two_commands_that_train_into_one_folder_train_once(tmp_path: Path) -> None:
    images = shapes.write(tmp_path / "set", each=6)
    small = ["--epochs=8", "--batch=8", "--size=16", "--patch=8", "--width=64", "--layers=1", "--device=cpu"]
    out = tmp_path / "m"
    said = both("train", "vit", f"--images={images}", *small, out=(out, out))
    assert sum("another command trains into" in s for s in said) == 1
    assert (out / "model.safetensors").is_file()
    assert (out / "index.html").is_file()
    assert not [p for p in out.rglob(".*") if p.suffix in (".tmp", ".part")]


@pytest.mark.slow
def test_two_commands_that_ask_for_one_regime_train_it_once(tmp_path: Path) -> None:
    images = shapes.write(tmp_path / "set", each=6)
    options = ["--model=timm:test_vit?weights=none", f"--images={images}", "--regime=head", "--epochs=2", "--batch=8"]
    said = both("transfer", *options, "--no-maps", "--budget=none", out=(tmp_path / "a", tmp_path / "b"))
    home = Path(os.environ["VISUS_HOME"]) / "training"
    assert len(list(home.glob("head-*/seed-0/run.json"))) == 1
    assert not [p for p in home.rglob(".*") if p.suffix in (".tmp", ".part")]
    assert all((tmp_path / name / "index.html").is_file() for name in "ab")
    assert all("Traceback" not in s for s in said)
