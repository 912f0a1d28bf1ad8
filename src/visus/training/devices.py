"""Lightning Fabric on one device or several: what runs where, and how the same work gets into every process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from visus.errors import DataError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Devices:
    """kind: 'cpu', 'cuda' or 'cuda:N'. count: processes, one device each. precision: 'fp32' or 'bf16' (mixed)."""

    kind: str = "cpu"
    count: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Raise DataError for a number of devices that is not there."""
        if self.count < 1:
            raise DataError(f"--devices must be at least 1, not {self.count}")
        if self.kind.startswith("cuda") and self.count > 1:
            import torch

            if ":" in self.kind or self.count > torch.cuda.device_count():
                raise DataError(
                    f"--devices {self.count} on {self.kind} cannot be had; this machine shows {torch.cuda.device_count()} CUDA devices"
                )

    def fabric(self, rank: int | None = None) -> Fabric:
        """A Fabric for one process, quiet. rank: which of `count` this one is (None: it is alone)."""
        from lightning_fabric import Fabric

        for name in ("lightning_fabric", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        kind, _, number = self.kind.partition(":")
        alone = rank is None
        strategy, environment = _fabric_parts()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fabric = Fabric(
                accelerator=kind,
                devices=[int(number)] if number else (1 if alone else self.count),
                strategy="auto" if alone else strategy(),
                precision="bf16-mixed" if self.precision == "bf16" else "32-true",
                # Without one Fabric looks for SLURM's or torchrun's variables, and would take itself for one of their processes.
                plugins=[environment(rank or 0, 1 if alone else self.count)],
            )
            if not alone:
                fabric.launch()
        return fabric


@cache
def _fabric_parts() -> tuple[Any, Any]:
    """A strategy that leaves networks as they are (together.py adds the gradients), and processes that are numbered by us."""
    import torch
    from lightning_fabric.plugins.environments import ClusterEnvironment
    from lightning_fabric.strategies import DDPStrategy

    class Plain(DDPStrategy):  # type: ignore[misc]
        def setup_module(self, module: torch.nn.Module) -> Any:
            return module

    class Numbered(ClusterEnvironment):  # type: ignore[misc]
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

    return Plain, Numbered


def with_fabric(work: Callable[[Fabric], None], devices: Devices) -> None:
    """Run `work` in one process a device: here when there is one, else in processes that leave their results in files."""
    if devices.count == 1:
        with repeatable(devices.kind):
            work(devices.fabric())
        return
    from visus.training.processes import spread

    spread(work, devices)


def repeatable(kind: str) -> AbstractContextManager[None]:
    """On CUDA: the same kernels every time, and fp32 in full, for as long as the block lasts; on the CPU they are so anyway."""
    if not kind.startswith("cuda"):
        return nullcontext()
    from visus.features.engines import exact_cuda

    return exact_cuda()
