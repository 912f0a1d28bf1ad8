"""A vision transformer on some of its patches: the others leave the sequence, and cost nothing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from visus.errors import DataError, SpecError
from visus.models.base import Backbone
from visus.models.modes import eval_mode
from visus.models.vit import vit_layout

ROTATIONS = (
    "rope",
    "position_embeddings",
)  # what blocks are given beside the tokens where positions turn queries and keys
RELATIVE = ("rel_pos", "relative_position")  # in the names of weights that hold a bias for every pair of patches
OUTLIER_SPREAD, OUTLIER_RATIO = 5.0, 2.0


def forward_kept(backbone: Backbone, batch: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Logits [b, k], or the pooled feature of a network without classifier, from some of the patches of each picture.

    batch: normalised float [b, 3, h, w]. kept: int64 [b, m], patches row by row, the same number for every picture. The others leave
    between the position embeddings and the first block, so that the cost falls with them; other tokens stay. All patches kept: the plain forward.
    Raises DataError for no patch or one outside the grid, SpecError for a network whose positions do not leave with its tokens.
    """
    inside = vit_layout(backbone)
    if kept.ndim != 2 or len(kept) != len(batch) or not kept.shape[1]:
        raise DataError(
            f"kept patches must be [{len(batch)}, at least 1], not {list(kept.shape)}; a picture without patches shows nothing"
        )
    if int(kept.min()) < 0 or int(kept.max()) >= inside.patches:
        raise DataError(f"kept patches must lie in 0..{inside.patches - 1}")
    if kept.shape[1] < inside.patches and any(r in n for n, _ in backbone.module.named_parameters() for r in RELATIVE):
        raise SpecError(
            f"{backbone.spec} adds a bias for every pair of patches, so that patches cannot be dropped from it; use blanked pixels"
        )
    prefix = torch.arange(inside.prefix, device=kept.device).expand(len(kept), -1)
    suffix = torch.arange(inside.prefix + inside.patches, inside.tokens, device=kept.device).expand(len(kept), -1)
    chosen = torch.cat([prefix, kept + inside.prefix, suffix], dim=1)
    modules = dict(backbone.module.named_modules())
    total = inside.tokens

    def first(module: nn.Module, args: Any, kwargs: Any) -> Any:
        at = 0 if args else "hidden_states"
        x = args[0] if args else kwargs["hidden_states"]
        if x.ndim != 3 or x.shape[:2] != (len(kept), total):
            raise SpecError(
                f"{backbone.spec} does not hold its tokens as [pictures, tokens, width]; patches cannot be dropped from it"
            )
        shorter = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))
        return ((shorter, *args[1:]), kwargs) if at == 0 else (args, {**kwargs, "hidden_states": shorter})

    def turned(module: nn.Module, args: Any, kwargs: Any) -> Any:
        def fewer(rotation: Any) -> Any:
            return _subset(rotation, kept, chosen, (inside.patches, total), backbone.spec)

        for name in ROTATIONS:
            if kwargs.get(name) is not None:
                kwargs = {**kwargs, name: fewer(kwargs[name])}
        return (*args[:1], *(fewer(a) if _turns(a, (inside.patches, total)) else a for a in args[1:])), kwargs

    with ExitStack() as stack, torch.inference_mode():
        stack.enter_context(eval_mode(backbone.module))
        for path in inside.blocks:
            stack.callback(modules[path].register_forward_pre_hook(turned, with_kwargs=True).remove)
        stack.callback(modules[inside.blocks[0]].register_forward_pre_hook(first, with_kwargs=True).remove)
        try:
            found: torch.Tensor = backbone.output(batch)
        except RuntimeError as error:  # what it adds or masks between its blocks is made for all tokens
            if kept.shape[1] == inside.patches:
                raise
            raise SpecError(
                f"{backbone.spec} does not run on fewer tokens ({str(error)[:80]!r}), so that patches cannot be dropped from it; use blanked pixels"
            ) from error
    return found


def _turns(value: Any, lengths: tuple[int, int]) -> bool:
    """Whether an argument beside the tokens holds a row for each patch, or for each token."""
    if isinstance(value, tuple | list):
        return bool(value) and all(_turns(v, lengths) for v in value)
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.ndim in (2, 3)
        and value.shape[-2] in lengths
    )


def _subset(rotation: Any, kept: torch.Tensor, chosen: torch.Tensor, lengths: tuple[int, int], spec: str) -> Any:
    """The rotations of the tokens that stay, [b, 1 or heads, m, d], from those of all, [n, d] or [heads, n, d]; tuples one by one.

    lengths: numbers of patches and of tokens; a rotation may be for either.
    """
    if isinstance(rotation, tuple | list):
        return type(rotation)(_subset(r, kept, chosen, lengths, spec) for r in rotation)
    if not isinstance(rotation, torch.Tensor) or rotation.ndim not in (2, 3) or rotation.shape[-2] not in lengths:
        raise SpecError(f"{spec} turns its positions in a way that patches cannot be dropped from; use blanked pixels")
    rows = kept if rotation.shape[-2] == lengths[0] else chosen
    return rotation[rows][:, None] if rotation.ndim == 2 else rotation[:, rows].transpose(0, 1)


def outlier_tokens(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
    """bool [b, patches]: patch tokens behind the last block whose norm stands out (Darcet et al. 2024, registers).

    Stands out: more than twice the picture's median norm, and more than five median absolute deviations above it.
    """
    inside = vit_layout(backbone)
    tap = next(t for t in backbone.taps if t.module == inside.blocks[-1])
    tokens = backbone.forward(batch, [tap], pool=None)[tap.name]
    norms = tokens[:, inside.place].float().norm(dim=2)
    middle = norms.median(dim=1, keepdim=True).values
    spread = (norms - middle).abs().median(dim=1, keepdim=True).values
    found: torch.Tensor = (norms > OUTLIER_RATIO * middle) & (norms > middle + OUTLIER_SPREAD * spread)
    return found
