"""What an answer rests on, by gradients: gradient-weighted attention of transformers, Grad-CAM of convolutional networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visus.errors import SpecError
from visus.models.attention_capture import AttentionCall, capture_attention
from visus.models.base import Backbone
from visus.models.modes import eval_mode
from visus.models.tapping import unwrap
from visus.models.vit import vit_layout


def relevance(backbone: Backbone, batch: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """float32 [b, patches]: gradient-weighted attention rolled out (Chefer, Gur and Wolf 2021, for self-attention).

    A_bar = mean over heads of relu(dy/dA * A), R = (I + A_bar_L) ... (I + A_bar_1), its CLS row (without CLS: the patches' mean row) on the
    patches. y: the logit `targets` (int64 [b]; None: the largest), or the norm of a network's feature that has no classifier. Weights keep
    their requires_grad, and no gradient is left on them.
    """
    inside = vit_layout(backbone)
    matrices: dict[int, torch.Tensor] = {}

    def visit(number: int, met: AttentionCall) -> torch.Tensor:
        a = met.rows(slice(None))
        # The first layer's matrix depends on nothing that trains: it becomes the leaf from which gradients are asked.
        matrices[number] = a if a.requires_grad else a.detach().requires_grad_()
        return matrices[number]

    with (
        torch.enable_grad(),
        capture_attention(backbone, inside.blocks, visit, range(len(inside.blocks)), inside.tokens),
    ):
        score = _score(backbone, batch, targets)
    order = sorted(matrices)
    gradients = torch.autograd.grad(score, [matrices[k] for k in order])
    n = len(batch)
    row = torch.zeros(n, inside.tokens, device=batch.device)
    if inside.cls is None:
        row[:, inside.place] = 1 / inside.patches
    else:
        row[:, inside.cls] = 1
    with torch.no_grad():
        # One row of the product of all layers, from the last one down: vectors instead of matrices.
        for k in range(len(order) - 1, -1, -1):
            weighted = (gradients[k] * matrices[order[k]]).clamp(min=0).mean(dim=1)
            row = row + torch.einsum("bi,bij->bj", row, weighted)
    return row[:, inside.place]


def grad_cam(backbone: Backbone, batch: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """float32 [b, gh, gw]: Grad-CAM (Selvaraju et al. 2017) at the last layer that has positions, none negative.

    Channels weigh by the mean over positions of the gradient of the logit `targets` (int64 [b]; None: the largest; without classifier
    the norm of the feature). Raises SpecError for a network without such a layer.
    """
    taps = [
        t
        for t in backbone.taps
        if t.kind in ("spatial", "grid") and max(t.shape[:2] if t.kind == "grid" else t.shape[1:]) > 1
    ]
    if not taps:
        raise SpecError(
            f"{backbone.spec} has no layer with positions for Grad-CAM; visus vit maps its attention if it attends"
        )
    tap = taps[-1]
    module = dict(backbone.module.named_modules())[tap.module]
    seen: list[torch.Tensor] = []

    def hook(m: nn.Module, args: Any, out: Any) -> Any:
        x = unwrap(out)
        seen[:] = [x.detach().clone().requires_grad_()]
        return seen[0] if isinstance(out, torch.Tensor) else out

    handle = module.register_forward_hook(hook)
    try:
        with torch.enable_grad(), eval_mode(backbone.module):
            score = _score(backbone, batch, targets)
    finally:
        handle.remove()
    gradient = torch.autograd.grad(score, seen)[0]
    features = seen[0].detach()
    if tap.kind == "grid":
        gradient, features = gradient.permute(0, 3, 1, 2), features.permute(0, 3, 1, 2)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).clamp(min=0).float()


def _score(backbone: Backbone, batch: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
    """The scalar whose gradient is asked: pictures do not meet, so their sum gives each one's own."""
    out = backbone.output(batch)
    if backbone.labels is None:
        norms: torch.Tensor = out.float().norm(dim=1)
        return norms.sum()
    at = out.argmax(dim=1) if targets is None else targets
    chosen: torch.Tensor = out.float().gather(1, at[:, None])
    return chosen.sum()
