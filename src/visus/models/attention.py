"""Attention of any plain vision transformer: maps, entropies, distances and rollout, computed for what is asked alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from visus.errors import DataError
from visus.models.attention_capture import AttentionCall, Visit, capture_attention
from visus.models.base import Backbone
from visus.models.vit import ViTLayout, vit_layout


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
    return last_and_rollout(backbone, batch)[1]


def last_and_rollout(backbone: Backbone, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last layer's attention on the patches averaged over the heads, and `rollout`, of one pass: float32 [b, patches] each."""
    inside = vit_layout(backbone)
    total: list[torch.Tensor] = []
    last: list[torch.Tensor] = []

    def visit(number: int, met: AttentionCall) -> None:
        if number == len(inside.blocks) - 1:
            last[:] = [patch_attention(met, inside).mean(dim=1)]
        a = met.rows(slice(None)).mean(dim=1)
        a = 0.5 * a + 0.5 * torch.eye(a.shape[-1], device=a.device)
        a = a / a.sum(dim=-1, keepdim=True)
        total[:] = [a if not total else a @ total[0]]

    _run(backbone, inside, batch, visit, range(len(inside.blocks)))
    return last[0], read_off(total[0], inside)


def read_off(matrix: torch.Tensor, inside: ViTLayout) -> torch.Tensor:
    """[b, n, n] -> [b, patches]: the row of the CLS token, or the mean of the patches' rows, on the patches."""
    row = matrix[:, inside.place].mean(dim=1) if inside.cls is None else matrix[:, inside.cls]
    return row[:, inside.place]


def _run(
    backbone: Backbone, inside: ViTLayout, batch: torch.Tensor, visit: Visit, layers: Sequence[int]
) -> torch.Tensor:
    with torch.inference_mode(), capture_attention(backbone, inside.blocks, visit, layers, inside.tokens):
        found: torch.Tensor = backbone.output(batch)
    return found
