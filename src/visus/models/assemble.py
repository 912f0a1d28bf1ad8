"""From a trunk to a Backbone: the steps that every source ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from visus.models.base import Backbone
from visus.models.heads import Head, names_of
from visus.models.points import Layout, find_taps
from visus.models.preprocess import Preprocess
from visus.models.trunk import Trunk
from visus.progress import note

LEFT_OUT = "left out"  # in Backbone.info: why a point of the network is no tap, by its name


def assemble(
    spec: str,
    trunk: Trunk,
    preprocess: Preprocess,
    *,
    layout: Layout | None = None,
    labels: Sequence[str] | None = None,
    random: bool = False,
    info: Mapping[str, Any] | None = None,
    head: Head = "classes",
) -> Backbone:
    """Freeze the trunk (eval mode, no gradients, float32, on the CPU) and find its taps under the layout's root."""
    trunk.channels = preprocess.channels
    trunk.eval().requires_grad_(False).float()
    found = find_taps(trunk, preprocess.size, layout or Layout())
    if found.left_out:
        name, why = next(iter(found.left_out.items()))
        more = f", and {len(found.left_out) - 1:,} more like it" if len(found.left_out) > 1 else ""
        note(f"{spec}: {name} is no point to measure at ({why}){more}")
    if labels is not None and found.outputs == 1:
        trunk.binary = True
        labels = names_of(1, labels, spec=spec)
    elif labels is not None and found.outputs is not None and found.outputs != len(labels):
        labels = names_of(found.outputs, labels, spec=spec)
    return Backbone(
        spec=spec,
        module=trunk,
        taps=found.taps,
        aliases=found.aliases,
        preprocess=preprocess,
        labels=None if labels is None else tuple(labels),
        random=random,
        head=head,
        info={**(info or {}), **({LEFT_OUT: found.left_out} if found.left_out else {})},
    )


def last_linear(model: Any) -> str | None:
    """Path of the last linear layer with weights, in the order of definition; None when there is none."""
    paths = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return paths[-1] if paths else None
