"""What training costs: floating-point operations, counted; memory, watched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

WATCHED_EVERY = 0.05  # seconds


@dataclass
class Peak:
    """bytes: the most memory in use while it was watched: of the GPU's allocator, or of this process where there is none."""

    bytes: int = 0


@contextmanager
def watching(device: torch.device) -> Iterator[Peak]:
    """Watch memory for the duration of the block; the peak is there when it ends."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    process, done = psutil.Process(), threading.Event()

    def look() -> None:
        while True:
            peak.bytes = max(peak.bytes, process.memory_info().rss)
            if done.wait(WATCHED_EVERY):
                return

    watcher = threading.Thread(target=look, name="visus-memory", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = max(peak.bytes, process.memory_info().rss)


def training_flops(network: torch.nn.Module, inputs: Callable[[int], torch.Tensor]) -> float:
    """Floating-point operations of one image's forward and backward pass (a multiply-add is two), as the network stands.

    inputs: number of images -> a batch. Counted on two batch sizes, so that what does not grow with the batch is left out.
    Matrix products, convolutions and attention are counted, as torch.utils.flop_counter does; frozen parameters need no
    gradient, and what stands in front of them no backward pass.
    """
    # Once uncounted: what a network only does on its first pass (a tail that looks for its inputs) is no cost of an image.
    _counted(network, inputs(2))
    small, large = (_counted(network, inputs(n)) for n in (2, 4))
    return (large - small) / 2


def _counted(network: torch.nn.Module, x: torch.Tensor) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.enable_grad():
        logits = network(x).float()
        functional.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long, device=x.device)).backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def forward_flops(run: Callable[[torch.Tensor], object], inputs: Callable[[int], torch.Tensor]) -> float:
    """The same of a forward pass alone."""

    def counted(n: int) -> float:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            run(inputs(n))
        return float(counter.get_total_flops())

    counted(2)  # a first pass may do more, as in training_flops
    return (counted(4) - counted(2)) / 2
