"""What a transformers model's features are, and how to run it whole: by its structure, not by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from visus.models.sequence import class_tokens


def pooling(inner: Any, config: Any) -> Callable[[Any], torch.Tensor]:
    """Base model's output -> features [b, c]: the pooler's, else the class token, else the mean over positions.

    A pooler that is a dense layer (ViT's and its kin's, for pretraining) is left out: many checkpoints lack it, and it would be random.
    """
    drop_dense_pooler(inner)
    has_cls = class_tokens(inner)
    by_mean = has_cls and bool(getattr(config, "use_mean_pooling", False))

    def pool(output: Any) -> torch.Tensor:
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        token: torch.Tensor | None = getattr(
            output, "cls_token_value", None
        )  # CvT's, which leaves the sequence at the end
        if token is not None:
            return token.mean(dim=1)
        last: torch.Tensor = output.last_hidden_state
        if last.ndim == 4:
            return last.mean(dim=(2, 3))
        if by_mean:
            return last[:, 1:].mean(dim=1)
        return last[:, 0] if has_cls else last.mean(dim=1)

    return pool


def drop_dense_pooler(inner: Any) -> None:
    """Take away a pooler with a dense layer; the random twin of a model loses it too, so that both have the same tensors."""
    pooler = dict(inner.named_children()).get("pooler")
    if pooler is not None and isinstance(getattr(pooler, "dense", None), nn.Linear):
        inner.pooler = None


def whole(inner: Any, config: Any) -> Callable[[torch.Tensor], dict[str, torch.Tensor]] | None:
    """What a model that masks patches at random (MAE) is given beside its pictures so that it sees them all, in reading order; None: it masks none.

    Its masking sorts one number a patch and keeps the first: rising numbers, and nothing to leave out, are the plain encoder
    (He et al. 2022: "the encoder is applied to uncorrupted images", section 4).
    """
    embeddings: Any = getattr(inner, "embeddings", None)
    patches = int(getattr(getattr(embeddings, "patch_embeddings", None), "num_patches", 0) or 0)
    if not hasattr(embeddings, "random_masking") or not patches:
        return None
    config.mask_ratio = 0.0
    inner.config.mask_ratio = embeddings.config.mask_ratio = 0.0

    def given(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        rising = torch.arange(patches, device=pictures.device, dtype=torch.float32)
        return {"noise": rising.expand(len(pictures), -1)}

    return given
