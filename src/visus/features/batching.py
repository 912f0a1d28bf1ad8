"""How many images go through the network at once, and how many stand in a shard: found by rule, never by timing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from visus.memory import halving

# Activations that one worker should hold at a time: beyond the processor's cache a larger batch is slower, not faster
# (measured with OpenVINO: 4.5 to 5.5 ms an image at batches of 2 and 4, 6.5 ms at 32, for EfficientNet-Lite0; for a transformer of
# 65 tokens 1.3 ms at 8 and 16, 1.4 ms at 32).
CPU_BUDGET = 32 * 2**20
CPU_MOST = 16
CUDA_MOST = 512
# Features of all taps that a shard may hold in memory.
SHARD_BUDGET = 64 * 2**20


def peak_activation(module: Any, run: Callable[[], Any]) -> int:
    """Bytes of the inputs and outputs of the hungriest leaf of `module` while `run` is called; hooks come off after it."""
    peak = 0

    def look(_module: Any, inputs: Any, output: Any) -> None:
        nonlocal peak
        held = [*inputs, *(output if isinstance(output, tuple | list) else [output])]
        peak = max(peak, sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor)))

    leaves = [m for m in module.modules() if not any(True for _ in m.children())]
    handles = [leaf.register_forward_hook(look) for leaf in leaves]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return peak


def cpu_batch(bytes_per_image: int) -> int:
    """The largest power of two up to 16 whose peak activations fit one worker's budget; at least 1."""
    batch = CPU_MOST
    while batch > 1 and batch * bytes_per_image > CPU_BUDGET:
        batch //= 2
    return batch


def cuda_batch(trial: Callable[[int], Any]) -> int:
    """The largest power of two up to 512 that `trial` survives, halving at every lack of memory. Raises DataError where 1 is too many."""
    part, _ = next(halving(CUDA_MOST, CUDA_MOST, lambda at: trial(at.stop), what="finding a batch"))
    return int(part.stop)


def rows_of_shard(wanted: int, batch: int, widths: Sequence[int]) -> int:
    """Images a shard: whole batches, at most `wanted`, fewer when the taps are wide; at least one batch."""
    fits = SHARD_BUDGET // (4 * sum(widths))
    return max(1, min(wanted, fits) // batch) * batch
