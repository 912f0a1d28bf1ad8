"""Two processes train what one trains, and what happens to one of them happens to both, in one line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from tests import shapes
from tests.training.small_networks import (
    ADAM,
    autoencoder,
    convolutional,
    crowded,
    image_text,
    transformer,
)

from visus import paths
from visus.errors import DataError, StoreError
from visus.progress import Silent, collecting, note, reporting
from visus.training import processes, worker
from visus.training.devices import Devices
from visus.training.epoch import DivergedError
from visus.training.loop import Learner, fit
from visus.training.objective import Objective
from visus.training.processes import ProcessError, with_fabric
from visus.training.recipe import Recipe
from visus.training.together import check_share

TWO = Devices(count=2)
RECIPE = Recipe(3e-3, epochs=2, batch=9, patience=0)  # nine rows: five for one process, four for the other


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Any:
    """After every test: no process, no zombie, no folder of theirs."""
    yield
    ours = [p for p in psutil.Process().children(recursive=True) if "visus.training.rank" in " ".join(_command(p))]
    assert ours == []


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline()) or [process.status()]
    except psutil.NoSuchProcess:
        return []


# name: (network and objective, recipe of two processes, recipe of one, largest distance)
CASES: dict[str, tuple[Callable[[], tuple[torch.nn.Module, Objective]], Recipe, Recipe, float]] = {
    "BatchNorm": (convolutional, RECIPE, RECIPE, 1e-4),
    "BatchNorm in passes": (convolutional, replace(RECIPE, accumulate=3), replace(RECIPE, accumulate=3), 1e-4),
    "out of memory": (crowded, RECIPE, replace(RECIPE, accumulate=2), 1e-4),
    "ViT": (transformer, ADAM, ADAM, 0.02),
    "clip": (image_text, ADAM, ADAM, 0.02),
    "vae": (autoencoder, ADAM, ADAM, 1.0),  # each process draws its own noise
}


def train_all(fabric: Any, folder: Path) -> None:
    """Every case by this process, on Fabric's terms; what came of it by the first one."""
    for name, (make, several, alone, _) in CASES.items():
        recipe = alone if fabric.world_size == 1 else several
        net, objective = make()
        done = fit(Learner(net), objective, recipe, fabric=fabric, folder=folder / name)
        (folder / f"{name}-{fabric.global_rank}.json").write_text(json.dumps([asdict(done), hash_of(net)]))
        if fabric.global_rank == 0:
            torch.save(net.state_dict(), folder / f"{name}.pt")


def hash_of(net: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in net.state_dict().values())).hexdigest()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    train_all(Devices().fabric(), one)
    with_fabric(lambda fabric: train_all(fabric, two), TWO)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_where_one_ends(name: str, folders: tuple[Path, Path]) -> None:
    """The gradient is that of the whole batch, however unevenly it is shared: what differs is the order of additions in float32, which
    Adam carries furthest where a gradient is nearly zero. The distance is relative to the way from the start."""
    one, two = (torch.load(f / f"{name}.pt", weights_only=True) for f in folders)
    start = CASES[name][0]()[0].state_dict()
    way = sum(float((one[k] - start[k]).double().square().sum()) for k in start) ** 0.5
    apart = sum(float((one[k] - two[k]).double().square().sum()) for k in start) ** 0.5
    assert way > 0.1
    assert apart < CASES[name][3] * way
    (a, _), (b, first), (_, second) = (
        json.loads((f / f"{name}-{r}.json").read_text()) for f, r in ((folders[0], 0), (folders[1], 0), (folders[1], 1))
    )
    assert first == second  # to the last bit
    near = 0.05 if name == "vae" else 1e-3
    for x, y in zip(a["epochs"], b["epochs"], strict=True):
        assert (x["train_loss"], x["val_loss"]) == pytest.approx((y["train_loss"], y["val_loss"]), rel=near)
        assert x["train_accuracy"] == pytest.approx(y["train_accuracy"], abs=0.03)
        assert x["parts"] == pytest.approx(y["parts"], rel=0.1)
    assert (a["steps"], a["accumulate"]) == (b["steps"], b["accumulate"])


@pytest.mark.slow
def test_a_training_that_was_interrupted_goes_on_in_two_processes_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    heard = Heard()

    def run(name: str, stop: int | None) -> None:
        net, objective = convolutional()
        recipe = replace(RECIPE, epochs=3, optimizer="adamw")

        def work(fabric: Any) -> None:
            if stop is not None:
                objective.validate = Stopping(objective.validate, stop)  # type: ignore[method-assign]
            done = fit(Learner(net), objective, recipe, fabric=fabric, folder=tmp_path / name)
            if fabric.global_rank == 0:
                (tmp_path / f"{name}.txt").write_text(hash_of(net) + str([e.train_loss for e in done.epochs]))

        with reporting(heard):
            with_fabric(work, TWO)

    run("whole", None)
    with pytest.raises(StoreError, match=r"^the disk is gone$"):
        run("cut", 2)
    assert not (tmp_path / "cut.txt").exists()
    run("cut", None)
    assert (tmp_path / "cut.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert any("goes on after epoch 1" in line for line in heard.lines)  # what a process says is heard here
    assert heard.advanced[0] == 15  # and shown as it comes: three epochs of five steps


class Stopping:
    """Raises at a call."""

    def __init__(self, real: Any, at: int) -> None:
        self.real, self.left = real, at

    def __call__(self, *args: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise StoreError("the disk is gone")
        return self.real(*args)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.advanced: list[int] = []

    def start(self, description: str, total: int | None) -> int:
        self.advanced.append(0)
        return len(self.advanced) - 1

    def advance(self, task: int, steps: int) -> None:
        self.advanced[task] += steps

    def log(self, message: str) -> None:
        self.lines.append(message)


def waits(fabric: Any) -> None:
    """What a process does while another one fails."""
    fabric.barrier()
    fabric.barrier()


def says(fabric: Any) -> None:
    print("a library that prints")  # noqa: T201
    note("labels: column dx")
    fabric.barrier()


def fails(fabric: Any) -> None:
    fabric.barrier()
    if fabric.global_rank == 1:
        raise RuntimeError("shapes differ\nand more")
    waits(fabric)


def is_killed(fabric: Any) -> None:
    fabric.barrier()
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    waits(fabric)


def diverges(fabric: Any) -> None:
    fabric.barrier()
    if fabric.global_rank == 1:
        raise DivergedError("the loss is not a number at step 3; give a lower --lr")
    waits(fabric)


def leaves(fabric: Any) -> None:
    fabric.barrier()
    if fabric.global_rank == 1:
        sys.stderr.write("libgomp: no thread\n")
        sys.stderr.flush()
        os._exit(7)
    waits(fabric)


def is_stuck(fabric: Any) -> None:
    fabric.barrier()
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    waits(fabric)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (fails, ProcessError, r"process 2 of 2 failed with RuntimeError: shapes differ; the others were stopped"),
        (is_killed, ProcessError, r"process 2 of 2 was ended by SIGKILL \(often for lack of memory\)"),
        (diverges, DivergedError, r"^the loss is not a number at step 3; give a lower --lr$"),
        (leaves, ProcessError, r"process 2 of 2 ended with code 7: libgomp: no thread"),
        (is_stuck, ProcessError, r"process 1 of 2 failed with \w+: .*"),
    ],
)
def test_what_ends_one_process_ends_all_in_one_line(
    work: Callable[[Any], None], kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "WAIT", 6.0 if work is is_stuck else 60.0)
    begun = time.monotonic()
    with pytest.raises(kind, match=message) as error:
        with_fabric(work, TWO)
    assert "\n" not in str(error.value)
    assert type(error.value) is kind
    assert time.monotonic() - begun < 50  # nobody waited for the dead
    assert list((paths.home() / "training").glob(".processes-*")) == []


@pytest.mark.slow
def test_remarks_of_a_process_are_remarks_of_the_study_and_prints_of_a_library_are_not_read() -> None:
    with collecting() as remarks:
        with_fabric(says, TWO)
    assert remarks.notes == ["labels: column dx"]


def test_what_cannot_be_sent_and_a_batch_that_cannot_be_shared_are_told_in_one_line(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(ProcessError, match=r"cannot be sent to other processes .*--devices 1"):
        processes.pack(lambda fabric: lock, TWO, tmp_path)
    with pytest.raises(DataError, match=r"a batch of 1 cannot be shared by 2 processes; give fewer --devices"):
        check_share(1, SimpleNamespace(world_size=2))  # type: ignore[arg-type]


def test_arrays_are_sent_as_files_that_the_processes_share(tmp_path: Path) -> None:
    x = np.arange(1_000_000)
    processes.pack(lambda fabric: x.sum(), TWO, tmp_path)
    assert (tmp_path / processes.WORK).stat().st_size < 20_000
    work, devices, *_ = worker.load(tmp_path)
    assert (work(None), devices) == (x.sum(), TWO)


SCRIPT = """
import sys, time
from pathlib import Path
from visus.training.devices import Devices
from visus.training.processes import with_fabric
folder = Path(sys.argv[1])

def work(fabric):
    fabric.barrier()
    (folder / str(fabric.global_rank)).touch()
    time.sleep(60)

with_fabric(work, Devices(count=2))  # no main guard, as in a notebook
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_command_that_is_interrupted_or_killed(end: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # In a group of its own, all of which a terminal's Ctrl-C reaches.
    command = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stderr=subprocess.PIPE, process_group=0)
    try:
        until(lambda: all((tmp_path / str(r)).exists() for r in range(2)), 60)
        children = psutil.Process(command.pid).children()
        assert len(children) == 2
        if end == signal.SIGINT:
            os.killpg(command.pid, end)
        else:
            command.send_signal(end)
        command.wait(20)
        until(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children), 10)
        said = command.stderr.read().decode()  # type: ignore[union-attr]
        assert said.count("KeyboardInterrupt") == (1 if end == signal.SIGINT else 0)  # of the command alone
    finally:
        command.kill()
        command.wait()


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_the_command_trains_in_two_processes(tmp_path: Path) -> None:
    images = shapes.write(tmp_path / "set", each=6)
    options = [
        "--epochs=2", "--batch=9", "--size=16", "--patch=8", "--width=64", "--layers=1", "--text-width=64",
        "--text-layers=1",
    ]  # fmt: skip
    command = [
        sys.executable, "-m", "visus.app.cli", "train", "clip", f"--images={images}", "--devices=2", "--device=cpu",
        f"--out={tmp_path / 'm'}", *options,
    ]  # fmt: skip
    # Another scheduler's variables must not make us take ourselves for one of its processes, and no port is asked for.
    env = {
        **os.environ,
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_JOB_NAME": "x",
        "RANK": "3",
        "WORLD_SIZE": "4",
    }
    env |= {"LOCAL_RANK": "3", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "model.safetensors").is_file()
    assert len(json.loads((tmp_path / "m" / "checkpoints" / "fit.json").read_text())["epochs"]) == 2
