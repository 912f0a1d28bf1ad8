"""Lightning Fabric on one device or several: what runs where, and how the same work gets into every process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle

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

    def fabric(self) -> Fabric:
        """A Fabric for these devices, quiet."""
        from lightning_fabric import Fabric

        for name in ("lightning_fabric", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        kind, _, number = self.kind.partition(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Fabric(
                accelerator=kind,
                devices=[int(number)] if number else self.count,
                strategy="ddp_spawn" if self.count > 1 else "auto",
                precision="bf16-mixed" if self.precision == "bf16" else "32-true",
            )


def with_fabric(work: Callable[[Fabric], None], devices: Devices) -> None:
    """Run `work` in one process a device: here when there is one, else in spawned processes that leave their results in files."""
    fabric = devices.fabric()
    if devices.count == 1:
        work(fabric)
        return
    # Spawned processes get their work as bytes: the standard pickle cannot send closures, which adapters of models hold.
    fabric.launch(_unpacked, cloudpickle.dumps(work))


def _unpacked(fabric: Any, packed: bytes) -> None:
    work = cloudpickle.loads(packed)  # made by with_fabric in this very run
    work(fabric)
