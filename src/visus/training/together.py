"""Several processes as one: every loss, gradient and statistic is that of the whole batch, and what happens to one happens to all.

All functions are called by all processes, in the same order. With one process they do nothing and cost nothing. A step's loss is the sum
of the processes' parts, so its gradient is the sum of theirs: no wrapper around the network is needed, and buffers, which are the same
everywhere, are never sent around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from visus.errors import DataError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PeerOutOfMemoryError(MemoryError):
    """Another process of this training has run out of memory: this one does as if it had, too."""


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def check_share(rows: int, fabric: Fabric) -> None:
    """Raise DataError for a batch of which not every process gets a row."""
    if rows < fabric.world_size:
        raise DataError(
            f"a batch of {rows} cannot be shared by {fabric.world_size} processes; give fewer --devices or a larger --batch"
        )


def share(rows: np.ndarray, fabric: Fabric) -> np.ndarray:
    """This process's rows of a batch: every world_size-th."""
    return rows[fabric.global_rank :: fabric.world_size]


def agree(*, trouble: bool = False) -> None:
    """Say whether this process has run out of memory, and hear of the others: raises PeerOutOfMemoryError where one of them has.

    Called before everything that the processes do together in a step, and once by a process in trouble, so that nobody waits for it.
    On the CPU, whatever the device: a GPU is not waited for.
    """
    if not is_distributed():
        return
    said = torch.tensor(int(trouble))
    distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
    if int(said) and not trouble:
        raise PeerOutOfMemoryError("another process ran out of memory")


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        agree()
        found = x.detach().clone()
        distributed.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        agree()
        found = gradient.contiguous().clone()
        distributed.all_reduce(found)
        return found


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum of the processes' x, differentiable: a gradient reaches the x of every process."""
    return _Total.apply(x) if is_distributed() else x


def gathered(x: torch.Tensor, n: int, fabric: Fabric) -> torch.Tensor:
    """float [n, d]: the rows of all processes, in the order that `share` took them from; differentiable as `total` is."""
    if fabric.world_size == 1:
        return x
    wide = x.new_zeros(n, *x.shape[1:])
    at = torch.arange(fabric.global_rank, n, fabric.world_size, device=x.device)
    return total(wide.index_copy(0, at, x))


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by the sum over the processes; one call for each dtype and device."""
    if not is_distributed():
        return
    groups: dict[tuple[torch.dtype, torch.device], list[torch.nn.Parameter]] = {}
    for p in parameters:
        if p.requires_grad:
            groups.setdefault((p.dtype, p.device), []).append(p)
    for live in groups.values():
        # A process whose share did not reach a parameter (an image without a name) has no gradient of it.
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in live])
        used = torch.tensor([p.grad is not None for p in live], dtype=torch.int32)
        distributed.all_reduce(flat)
        distributed.all_reduce(used, op=distributed.ReduceOp.MAX)
        parts = torch.split(flat, [p.numel() for p in live])
        for p, part, seen in zip(live, parts, used.tolist(), strict=True):
            if seen:
                # In the parameter's own layout: fused optimizers read both as they lie in memory, without asking for strides.
                p.grad = torch.empty_like(p).copy_(part.view_as(p))


@torch.no_grad()
def same_start(module: torch.nn.Module) -> None:
    """Give every process the parameters and buffers of the first one."""
    if is_distributed():
        for tensor in module.state_dict().values():
            sent = tensor.detach().contiguous()
            distributed.broadcast(sent, src=0)
            tensor.copy_(sent)


def global_batchnorm() -> AbstractContextManager[Any]:
    """In the block, BatchNorm in training mode takes its statistics from the rows of all processes, whoever's layer it is.

    PyTorch's SyncBatchNorm does so for layers that are exactly its own, and on GPUs alone; here the function that all layers call is met.
    """
    return _GlobalBatchNorm() if is_distributed() else nullcontext()


class _GlobalBatchNorm(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """functional.batch_norm, over the rows of all processes where it trains; statistics in float32."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    axes = [0, *range(2, input.ndim)]
    shape = (1, -1, *[1] * (input.ndim - 2))
    x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
    rows = x.new_full((1,), x.numel() / x.shape[1])
    sums = total(torch.cat([x.sum(axes), rows]))
    n = sums[-1].detach()
    mean = sums[:-1] / n
    centred = x - mean.view(shape)
    variance = total(centred.square().sum(axes)) / n
    out = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            unbiased = variance * (n / (n - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return out.to(input.dtype)
