"""The share of one of several processes: read what was packed for it, meet the others, do the work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import distributed

from visus.training.devices import Devices, repeatable
from visus.training.exchange import LOADED, STORE, WORK


def work_of(folder: Path, rank: int) -> None:
    """Do what `processes.pack` wrote to `folder`, as process `rank`."""
    work, devices, threads, wait = load(folder)
    _meet(folder, rank, devices, threads, wait)
    (folder / f"{LOADED}-{rank}").touch()
    with repeatable(devices.kind):
        work(devices.fabric(rank))
    distributed.barrier()
    distributed.destroy_process_group()


def load(folder: Path) -> Any:
    """What `processes.pack` wrote in this very run. Arrays are mapped: changes stay in this process."""
    files = sorted(folder.glob("array-*"), key=lambda f: int(f.name.split("-")[1]))
    arrays = [np.memmap(f, np.uint8, "c") if f.stat().st_size else np.empty(0, np.uint8) for f in files]
    return cloudpickle.loads((folder / WORK).read_bytes(), buffers=arrays)


def _meet(folder: Path, rank: int, devices: Devices, threads: int, wait: float) -> None:
    """Join the process group through a file: no port has to be free, and no name of this machine has to be known."""
    torch.set_num_threads(max(threads // devices.count, 1))
    cuda = devices.kind.startswith("cuda")
    if cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"file://{folder / STORE}",
        rank=rank,
        world_size=devices.count,
        timeout=timedelta(seconds=wait),
    )
