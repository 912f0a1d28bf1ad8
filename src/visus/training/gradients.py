"""How much of the loss's gradient reaches each stage of a network (P7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from visus.errors import DataError
from visus.models.modes import eval_mode

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def stage_gradient_norms(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    stages: Mapping[str, str],
    *,
    loss: Loss = nn.functional.cross_entropy,
) -> dict[str, float]:
    """L2 norm, for each stage, of the gradient of the mean loss over all images with respect to the stage's parameters.

    batches: (normalised float [b, 3, h, w], targets [b]), of any sizes: the gradient is that of the mean over all images, not a mean of
    norms. stages: stage name -> module path inside `network` (visus.models.stages.stages_of). loss: (network output, targets) ->
    mean over the batch. The network runs in eval mode, so that every image counts for itself: no dropout, BatchNorm with its
    running statistics. Frozen parameters count too. Nothing is left behind: modes, requires_grad, `.grad` and buffers are as they were.
    Raises DataError without batches, for a stage that is not in the network or has no parameters, and for a loss that is not finite.
    """
    parameters = {name: _parameters(network, name, path) for name, path in stages.items()}
    every = list({id(p): p for group in parameters.values() for p in group}.values())
    total = [torch.zeros_like(p, dtype=torch.float32) for p in every]
    count = 0
    with _differentiable(network, every), torch.enable_grad():
        for images, targets in batches:
            device = every[0].device
            value = loss(network(images.to(device)), targets.to(device))
            if not torch.isfinite(value):
                raise DataError(
                    "the loss is not finite, so it has no gradient; lower the learning rate or recalibrate BatchNorm"
                )
            # A parameter that the output does not depend on (the projection of a removed skip) has gradient zero.
            for summed, gradient in zip(total, torch.autograd.grad(value, every, allow_unused=True), strict=True):
                if gradient is not None:
                    summed.add_(gradient, alpha=len(images))
            count += len(images)
    if not count:
        raise DataError("gradients cannot be measured on no images; give at least one batch")
    squares = {id(p): float(summed.double().square().sum()) / count**2 for p, summed in zip(every, total, strict=True)}
    return {name: sum(squares[id(p)] for p in group) ** 0.5 for name, group in parameters.items()}


def _parameters(network: nn.Module, name: str, path: str) -> list[nn.Parameter]:
    try:
        found = list(network.get_submodule(path).parameters())
    except AttributeError as error:
        raise DataError(f"stage {name}: there is no module {path!r} in this network") from error
    if not found:
        raise DataError(f"stage {name}: the module {path!r} has no parameters; leave it out")
    return found


@contextmanager
def _differentiable(network: nn.Module, wanted: list[nn.Parameter]) -> Iterator[None]:
    """Eval mode, and gradients for just the wanted parameters."""
    flags = {p: p.requires_grad for p in network.parameters()}
    with eval_mode(network):
        try:
            for p in flags:
                p.requires_grad_(False)
            for p in wanted:
                p.requires_grad_(True)
            yield
        finally:
            for p, flag in flags.items():
                p.requires_grad_(flag)
