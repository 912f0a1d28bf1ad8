"""Lightning Fabric for one process of ours: quiet, without wrappers around networks, and numbered by us."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy


class _Plain(DDPStrategy):  # type: ignore[misc]
    """Leaves networks as they are: together.py adds the gradients."""

    def setup_module(self, module: torch.nn.Module) -> Any:
        return module


class _Numbered(ClusterEnvironment):  # type: ignore[misc]
    """Processes that are numbered by us."""

    creates_processes_externally = True
    main_address, main_port = "127.0.0.1", 0  # never used: the processes have met before

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.size

    def set_world_size(self, size: int) -> None:
        return None

    def global_rank(self) -> int:
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        return None

    def local_rank(self) -> int:
        return self.rank

    def node_rank(self) -> int:
        return 0


def new_fabric(device: str, count: int, precision: str, rank: int | None) -> Fabric:
    """A Fabric for one of `count` processes (see Devices). rank: which one this is (None: it is alone)."""
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    kind, _, number = device.partition(":")
    alone = rank is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = Fabric(
            accelerator=kind,
            devices=[int(number)] if number else (1 if alone else count),
            strategy="auto" if alone else _Plain(),
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            # Without one Fabric looks for SLURM's or torchrun's variables, and would take itself for one of their processes.
            plugins=[_Numbered(rank or 0, 1 if alone else count)],
        )
        if not alone:
            fabric.launch()
    return fabric
