"""Attention as it happens: met where the library's own code attends, of any plain vision transformer.

Fused attention never holds its matrix. The call to it is met on its way (its queries and keys after norms and rotations, its scale and
mask), the rows that are asked for are computed beside it, and the call goes on as it was: outputs do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from visus.models.base import Backbone
from visus.models.modes import eval_mode
from visus.models.streams import function_name

FUSED = functional.scaled_dot_product_attention


@dataclass(frozen=True)
class AttentionCall:
    """One block's attention in passing. Either queries and keys, [b, heads, n, d], or the matrix that the library itself made."""

    q: torch.Tensor | None = None
    k: torch.Tensor | None = None
    scale: float | None = None
    mask: torch.Tensor | None = None
    matrix: torch.Tensor | None = None

    @property
    def heads(self) -> int:
        """Number of heads."""
        known = self.q if self.q is not None else self.matrix
        assert known is not None
        return int(known.shape[1])

    def rows(self, which: slice) -> torch.Tensor:
        """float32 [b, heads, rows, n]: the softmaxed rows of these tokens."""
        if self.matrix is not None:
            return self.matrix[:, :, which].float()
        assert self.q is not None
        assert self.k is not None
        q = self.q[:, :, which].float()
        scale = self.scale if self.scale is not None else q.shape[-1] ** -0.5
        logits = (q * scale) @ self.k.float().transpose(-2, -1)
        if self.mask is not None:
            mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., which, :]
            logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask.float()
        return logits.softmax(dim=-1)


Visit = Callable[[int, AttentionCall], torch.Tensor | None]


class AttentionCapture(TorchFunctionMode):
    """Meets the attention of the blocks while they run. `visit` is called with the block's number and its attention; what it returns,
    if anything, takes the place of the softmaxed matrix (differentiable), and the block goes on with it."""

    def __init__(self, visit: Visit, tokens: int, *, every: bool = False) -> None:
        self.visit, self.tokens, self.every = visit, tokens, every
        self.current: int | None = None
        self.entered = False

    def begin(self, number: int) -> None:
        """A block starts: look out from here on. Outside of wanted blocks no call is slowed down."""
        self.current = number
        self.__enter__()  # type: ignore[no-untyped-call]
        self.entered = True

    def end(self) -> None:
        """The block is over, or its attention was met."""
        self.current = None
        if self.entered:
            self.entered = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.current is None:
            return func(*args, **kwargs)
        if func is FUSED:
            return self._fused(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            # It is one call here: what it calls in turn passes this mode by.
            with mock.patch.object(functional, "scaled_dot_product_attention", self._fused):
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if function_name(func) == "softmax" and self._square(result):
            replaced = self._met(AttentionCall(matrix=result))
            return result if replaced is None else replaced.to(result.dtype)
        return result

    def _fused(self, q: Any, k: Any, v: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        replaced = None
        if self.current is not None:
            replaced = self._met(AttentionCall(q, k, kwargs.get("scale"), attn_mask))
        return FUSED(q, k, v, attn_mask, *args, **kwargs) if replaced is None else replaced.to(v.dtype) @ v

    def _square(self, matrix: Any) -> bool:
        return (
            isinstance(matrix, torch.Tensor) and matrix.ndim == 4 and matrix.shape[2] == matrix.shape[3] == self.tokens
        )

    def _met(self, met: AttentionCall) -> torch.Tensor | None:
        number = self.current
        if not self.every:
            self.current = None  # a block attends once: what follows in it is none of ours
        assert number is not None
        return self.visit(number, met)


@contextmanager
def capture_attention(
    backbone: Backbone, blocks: Sequence[str], visit: Visit, wanted: Sequence[int], tokens: int, *, every: bool = False
) -> Iterator[None]:
    """For the length of the block, call `visit` for the attention of the wanted blocks; hooks and switches are put back whatever happens.

    every: also for a second attention in a block.
    """
    modules = dict(backbone.module.named_modules())
    mode = AttentionCapture(visit, tokens, every=every)
    handles = []
    fast = torch.backends.mha.get_fastpath_enabled()

    def enter(number: int) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            mode.begin(number)

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.end()

    try:
        # PyTorch's own MultiheadAttention has a native path in which nothing can be met.
        torch.backends.mha.set_fastpath_enabled(False)
        with eval_mode(backbone.module):
            for number in wanted:
                handles.append(modules[blocks[number]].register_forward_pre_hook(enter(number)))
                handles.append(modules[blocks[number]].register_forward_hook(leave))
            yield
    finally:
        mode.end()
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


def count_heads(backbone: Backbone, blocks: Sequence[str], tokens: int) -> int:
    """Heads of the blocks' attention; 0 where not every block attends once over all tokens, or they differ."""
    found: dict[int, int] = {}

    def visit(number: int, met: AttentionCall) -> None:
        n = met.q.shape[2] if met.q is not None else tokens
        found[number] = met.heads if n == tokens and number not in found else 0

    h, w = backbone.preprocess.size
    parameter = next(iter(backbone.module.parameters()))
    with torch.inference_mode(), capture_attention(backbone, blocks, visit, range(len(blocks)), tokens, every=True):
        backbone.output(
            torch.zeros(1, backbone.preprocess.channels, h, w, device=parameter.device, dtype=parameter.dtype)
        )
    return found[0] if len(found) == len(blocks) and len(set(found.values())) == 1 else 0
