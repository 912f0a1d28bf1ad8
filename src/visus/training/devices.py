"""On which devices and in which precision a training runs, and the same kernels every time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from visus.device import fast_bfloat16
from visus.errors import DataError
from visus.features.engines import exact_cuda

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Devices:
    """kind: 'cpu', 'cuda' or 'cuda:N'. count: processes, one device each. precision: 'fp32' or 'bf16' (mixed: weights stay float32)."""

    kind: str = "cpu"
    count: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Raise DataError for a number of devices that is not there."""
        if self.count < 1:
            raise DataError(f"--devices must be at least 1, not {self.count}")
        if (
            self.kind.startswith("cuda")
            and self.count > 1
            and (":" in self.kind or self.count > torch.cuda.device_count())
        ):
            raise DataError(
                f"--devices {self.count} on {self.kind} cannot be had; this machine shows {torch.cuda.device_count()} CUDA devices"
            )

    def fabric(self, rank: int | None = None) -> Fabric:
        """A Fabric for one process, quiet. rank: which of `count` this one is (None: it is alone)."""
        from visus.training.fabric import new_fabric  # Lightning costs a second, and most commands train nothing

        return new_fabric(self.kind, self.count, self.precision, rank)


def auto_precision(kind: str) -> str:
    """'bf16' on a CPU that multiplies bfloat16 in hardware (AMX, AVX512-BF16), else 'fp32'."""
    return "bf16" if kind == "cpu" and fast_bfloat16() else "fp32"


def computed_in(fabric: Fabric) -> torch.dtype:
    """What matrices are multiplied in under a Fabric: float32, or bfloat16 in a mixed training."""
    kind = fabric.device.type
    with fabric.autocast():
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def repeatable(kind: str) -> AbstractContextManager[None]:
    """On CUDA: the same kernels every time, and fp32 in full, for as long as the block lasts; on the CPU they are so anyway."""
    if not kind.startswith("cuda"):
        return nullcontext()
    return exact_cuda()
