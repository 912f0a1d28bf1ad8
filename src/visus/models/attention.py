"""Attention as it happens, of any plain vision transformer: read off where the library's own code attends, computed for what is asked alone.

Fused attention never holds its matrix. The call to it is met on its way (its queries and keys after norms and rotations, its scale and
mask), the rows that are asked for are computed beside it, and the call goes on as it was: outputs do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from visus.errors import DataError
from visus.models.streams import function_name
from visus.models.vit import ViTLayout, output, vit_layout

if TYPE_CHECKING:
    from visus.models.base import Backbone

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
    training = [m for m in backbone.module.modules() if m.training]

    def enter(number: int) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            mode.begin(number)

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.end()

    try:
        # PyTorch's own MultiheadAttention has a native path in which nothing can be met.
        torch.backends.mha.set_fastpath_enabled(False)
        for m in training:
            m.training = False
        for number in wanted:
            handles.append(modules[blocks[number]].register_forward_pre_hook(enter(number)))
            handles.append(modules[blocks[number]].register_forward_hook(leave))
        yield
    finally:
        mode.end()
        torch.backends.mha.set_fastpath_enabled(fast)
        for m in training:
            m.training = True
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
        output(
            backbone, torch.zeros(1, backbone.preprocess.channels, h, w, device=parameter.device, dtype=parameter.dtype)
        )
    return found[0] if len(found) == len(blocks) and len(set(found.values())) == 1 else 0


@dataclass(frozen=True)
class Attention:
    """output: logits [b, k], or the pooled feature of a network without classifier. maps: by layer (from 0), float32."""

    output: torch.Tensor
    maps: Mapping[int, torch.Tensor]


def attention(
    backbone: Backbone, batch: torch.Tensor, *, layers: Sequence[int] = (-1,), rows: Literal["cls", "all"] = "cls"
) -> Attention:
    """The softmaxed attention of some layers, of a normalised batch [b, 3, h, w]; nothing is computed or kept for others.

    rows 'cls': [b, heads, patches], the CLS token's row on the patches (prefix tokens left out, not brought back to a sum of 1);
    without a CLS token the mean over the patches' rows. 'all': [b, heads, n, n] over all tokens. layers: from 0, negative ones
    from the end. Raises SpecError for no vision transformer, DataError for a layer that it does not have.
    """
    inside = vit_layout(backbone)
    count = len(inside.blocks)
    wrong = [k for k in layers if not -count <= k < count]
    if wrong or not len(layers):
        raise DataError(f"layer {wrong[0] if wrong else 'none'} is not among the {count} of {backbone.spec}")
    maps: dict[int, torch.Tensor] = {}

    def visit(number: int, met: AttentionCall) -> None:
        maps[number] = met.rows(slice(None)) if rows == "all" else patch_attention(met, inside)

    return Attention(_run(backbone, inside, batch, visit, [k % count for k in layers]), maps)


def patch_attention(met: AttentionCall, inside: ViTLayout) -> torch.Tensor:
    """float32 [b, heads, patches]: how the token that is read off looks at the patches."""
    if inside.cls is None:
        return met.rows(inside.place).mean(dim=2)[..., inside.place]
    return met.rows(slice(inside.cls, inside.cls + 1))[:, :, 0, inside.place]


def statistics(backbone: Backbone, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(entropy in nats, mean attention distance in pixels), float32 [b, layers, heads] each; one layer's matrix at a time is held.

    entropy: of the CLS row over the patches, brought to a sum of 1. distance: over the patches' rows, among patches (Dosovitskiy et al.
    2021, section 4.5); both as visus.measures.attention defines them.
    """
    inside = vit_layout(backbone)
    side = torch.arange(inside.patches, device=batch.device)
    centres = torch.stack([side // inside.grid[1] * inside.patch[0], side % inside.grid[1] * inside.patch[1]], dim=1)
    apart = torch.cdist(centres.float(), centres.float())
    entropies: dict[int, torch.Tensor] = {}
    distances: dict[int, torch.Tensor] = {}

    def visit(number: int, met: AttentionCall) -> None:
        entropies[number] = _entropy(patch_attention(met, inside))
        distances[number] = _distance(met.rows(inside.place)[..., inside.place], apart)

    _run(backbone, inside, batch, visit, range(len(inside.blocks)))
    order = sorted(entropies)
    return torch.stack([entropies[k] for k in order], dim=1), torch.stack([distances[k] for k in order], dim=1)


def _entropy(weights: torch.Tensor) -> torch.Tensor:
    """Entropy of the last axis, brought to a sum of 1; NaN where nothing is there: a token that looks at no patch at all."""
    p = weights / weights.sum(dim=-1, keepdim=True)
    found: torch.Tensor = -torch.special.xlogy(p, p).sum(dim=-1)
    return found


def _distance(among: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """[..., n, n] -> [...]: mean distance of what patches look at, over the patches that look at any; NaN where none does."""
    total = among.sum(dim=-1)
    found: torch.Tensor = ((among * apart).sum(dim=-1) / total).where(total > 0, torch.nan).nanmean(dim=-1)
    return found


def rollout(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
    """float32 [b, patches]: attention rolled out through the layers (Abnar and Zuidema 2020), the CLS row on the patches.

    Heads averaged, A = (mean + I) / 2, multiplied up as the layers run: one product is held. Without a CLS token: the patches' mean row.
    """
    inside = vit_layout(backbone)
    total: list[torch.Tensor] = []

    def visit(number: int, met: AttentionCall) -> None:
        a = met.rows(slice(None)).mean(dim=1)
        a = 0.5 * a + 0.5 * torch.eye(a.shape[-1], device=a.device)
        a = a / a.sum(dim=-1, keepdim=True)
        total[:] = [a if not total else a @ total[0]]

    _run(backbone, inside, batch, visit, range(len(inside.blocks)))
    return read_off(total[0], inside)


def read_off(matrix: torch.Tensor, inside: ViTLayout) -> torch.Tensor:
    """[b, n, n] -> [b, patches]: the row of the CLS token, or the mean of the patches' rows, on the patches."""
    row = matrix[:, inside.place].mean(dim=1) if inside.cls is None else matrix[:, inside.cls]
    return row[:, inside.place]


def _run(
    backbone: Backbone, inside: ViTLayout, batch: torch.Tensor, visit: Visit, layers: Sequence[int]
) -> torch.Tensor:
    with torch.inference_mode(), capture_attention(backbone, inside.blocks, visit, layers, inside.tokens):
        found: torch.Tensor = output(backbone, batch)
    return found
