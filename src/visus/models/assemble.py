"""From a trunk to a Backbone: the steps that every source ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visus.models.base import Backbone, Preprocess
from visus.models.points import Layout, find_taps
from visus.models.trunk import Trunk


def assemble(
    spec: str,
    trunk: Trunk,
    preprocess: Preprocess,
    *,
    root: str = "model",
    layout: Layout | None = None,
    labels: Sequence[str] | None = None,
    random: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Backbone:
    """Freeze the trunk (eval mode, no gradients, float32, on the CPU) and find its taps under `root`."""
    trunk.channels = preprocess.channels
    trunk.eval().requires_grad_(False).float()
    taps, aliases = find_taps(trunk, root, preprocess.size, layout or Layout())
    return Backbone(
        spec=spec,
        module=trunk,
        taps=taps,
        aliases=aliases,
        preprocess=preprocess,
        labels=None if labels is None else tuple(labels),
        random=random,
        info=dict(info or {}),
    )


def last_linear(model: Any) -> str | None:
    """Path of the last linear layer with weights, in the order of definition; None when there is none."""
    import torch

    paths = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return paths[-1] if paths else None
