"""The stages of a network: its coarse parts in forward order, by which gradients and costs are told."""

from __future__ import annotations

from torch import nn

from visus.errors import DataError
from visus.models.base import Backbone


def stages_of(backbone: Backbone) -> dict[str, str]:
    """Stage name -> path inside the backbone's module, in forward order.

    The outermost numbered parts: layer1 ... layer4 (ResNet), blocks.0 ... blocks.6 (EfficientNet), stages.0 ... stages.3 (ConvNeXt), layers.0 ...
    (Swin), each block of a plain ViT. 'stem' is the first part with parameters in front of them, where there is one (a first convolution, a
    patch embedding). Raises DataError when no such part is found.
    """
    module = backbone.module
    stages: dict[str, str] = {}
    # Shorter paths first: what lies inside a stage is none.
    for tap in sorted(backbone.taps, key=lambda t: t.module.count(".")):
        inside = any(tap.module.startswith(f"{path}.") for path in stages.values())
        if (
            any(c.isdigit() for c in tap.name.split(".")[-1])
            and not inside
            and _weighty(module.get_submodule(tap.module))
        ):
            stages[tap.name] = tap.module
    if not stages:
        raise DataError(f"{backbone.spec} has no numbered stages; choose a ResNet-like network or a transformer")
    stages = {tap.name: tap.module for tap in backbone.taps if tap.name in stages}
    stem = _first(module, "", tuple(stages.values()))
    return {"stem": stem, **stages} if stem else stages


def _weighty(module: nn.Module) -> bool:
    """Whether it is more than a normalisation: it has parts, and weights that mix features."""
    return any(True for _ in module.children()) and any(p.ndim >= 2 for p in module.parameters())


def _first(module: nn.Module, prefix: str, stages: tuple[str, ...]) -> str | None:
    """Path of the first outermost part with weights, or None when a stage comes before any."""
    for name, child in module.named_children():
        path = prefix + name
        if path in stages:
            return None
        if any(stage.startswith(f"{path}.") for stage in stages):
            return _first(child, f"{path}.", stages)
        if any(p.ndim >= 2 for p in child.parameters()):
            return path
    return None
