"""A backbone as something that can be trained: its trunk, and a new linear head on the trunk's features."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.labels import numbered
from visus.models.trunk import FittedTrunk, Trunk

# Small, so that training starts near the even guess (loss ln k) and hardly bends the features by a head that knows nothing; not
# zero, so that the trunk has a gradient from the first step on and seeds differ.
HEAD_STD = 0.01


class Classifier(nn.Module):
    """logits = head(trunk.features(x)).

    trunk: as a backbone has it, with weights of its own. head: linear, [n_classes, width]. order: paths of the trunk's modules in
    the order in which a forward pass enters them. used: names of the trunk's parameters that the features depend on.
    """

    def __init__(self, trunk: Trunk, head: nn.Linear, *, order: Sequence[str], used: Collection[str]) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.order = tuple(order)
        self.used = frozenset(used)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised float [b, 3, h, w] -> logits [b, n_classes]."""
        logits: torch.Tensor = self.head(self.trunk.features(x))
        return logits

    def backbone(self, like: Backbone, classes: Sequence[str] | None = None) -> Backbone:
        """A Backbone with a copy of the weights as they are now, on the CPU, frozen; taps, aliases and preprocessing are those of `like`.

        like: the backbone that the classifier was made of. classes: names of the head's outputs (default: numbers). Its `classify`
        gives this classifier's logits. Raises DataError when the number of classes is not that of the head.
        """
        names = numbered(self.head.out_features) if classes is None else tuple(classes)
        if len(names) != self.head.out_features:
            raise DataError(f"{len(names)} class names were given for a head of {self.head.out_features} outputs")
        trunk, head = copy.deepcopy((self.trunk, self.head))
        module = FittedTrunk(trunk, head).cpu().eval().requires_grad_(False)
        # `replace` makes a new object: the fingerprint that `like` may have cached does not come along.
        return replace(like, module=module, labels=names, random=False, call=None, head="classes")


def classifier_of(backbone: Backbone, n_classes: int, *, seed: int) -> Classifier:
    """A Classifier with a copy of the backbone's trunk and a new head; the backbone stays as it is.

    seed: of the head's weights, truncated normal with standard deviation 0.01; the bias is 0. Every parameter asks for
    gradients, every module is in eval mode: `freeze` and `set_modes` choose. Raises DataError for fewer than two classes, or
    for a backbone whose module is not a Trunk.
    """
    if n_classes < 2:
        raise DataError(f"a classifier of {n_classes} classes cannot be trained; give images of at least two classes")
    module: Any = backbone.module
    if not isinstance(module, Trunk):
        raise DataError(f"{backbone.spec} cannot be trained: its module is not a Trunk but {type(module).__name__}")
    trunk = copy.deepcopy(module.trunk if isinstance(module, FittedTrunk) else module)
    trunk.eval().requires_grad_(True)
    parameter = next(trunk.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    order, features = _first_pass(trunk, backbone.preprocess.size, device)
    # The constructor of nn.Linear would draw from the global generator.
    skip_init: Any = nn.utils.skip_init
    head = skip_init(nn.Linear, features.shape[1], n_classes)
    with torch.no_grad():
        nn.init.trunc_normal_(head.weight, std=HEAD_STD, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(head.bias)
    return Classifier(trunk, head.to(device), order=order, used=leaves_of(features, trunk)).eval()


def _first_pass(trunk: Trunk, size: tuple[int, int], device: torch.device) -> tuple[tuple[str, ...], torch.Tensor]:
    """Paths of the trunk's modules in the order in which one picture of zeros enters them, and its features with their graph."""
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, _a, path=path: order.setdefault(path))
        for path, module in trunk.named_modules()
    ]
    try:
        with torch.enable_grad():
            features = trunk.features(torch.zeros(1, trunk.channels, *size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(order), features


def leaves_of(output: torch.Tensor, module: nn.Module) -> set[str]:
    """Names of the module's parameters that the autograd graph of `output` ends in; no gradient is computed."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    todo: list[Any] = [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        todo += [following for following, _ in node.next_functions]
    return {name for name, p in module.named_parameters() if id(p) in leaves}
