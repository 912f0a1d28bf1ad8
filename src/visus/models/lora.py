"""LoRA: low-rank adapters beside the linear layers of a frozen network (Hu et al. 2021), through peft.

Attention's linear layers where there are any that run as modules; else the pointwise layers: 1 x 1 convolutions and linear layers.
The second serves CNNs, mixers, and the networks whose attention reaches for its weights itself (torch's MultiheadAttention in
torchvision's ViT and open_clip, torchvision's Swin): there an adapter on the attention would be passed by, or, as peft does for
MultiheadAttention, be added to the frozen weights and taken off again at each step, which rounds them.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from visus.errors import DataError, MissingExtraError, SpecError
from visus.models.base import Backbone
from visus.models.classifier import Classifier
from visus.models.parts import freeze

ATTENTION = ("attn", "attention")


def add_lora(
    classifier: Classifier, backbone: Backbone, *, rank: int = 8, alpha: float = 16, dropout: float = 0.0, seed: int
) -> tuple[str, ...]:
    """Put adapters into the classifier's trunk; returns the names of what trains: the adapters and the head. All else is frozen.

    rank: of the update B A, with A [rank, in], B [out, rank]. alpha: the update is scaled by alpha / rank. dropout: on the
    adapters' input. seed: of A, Kaiming-uniform; B is 0, so that the classifier still gives the same logits. Raises SpecError for a
    rank or dropout out of range and for a network without a layer that takes an adapter, DataError where there are adapters already,
    MissingExtraError without peft.
    """
    if rank < 1 or not 0 <= dropout < 1:
        raise SpecError(
            f"LoRA of rank {rank} with dropout {dropout} cannot be made; take a rank from 1 and a dropout below 1"
        )
    if has_lora(classifier):
        raise DataError("the classifier has LoRA adapters already; merge them first")
    targets = lora_targets(classifier)
    if not targets:
        raise SpecError(
            f"{backbone.spec} has no linear layer and no 1 × 1 convolution for LoRA; train its last block or the whole network"
        )
    try:
        # Left out of some installations.
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("LoRA needs peft; pip install peft") from error
    pattern = "|".join(re.escape(path) for path in targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=pattern, bias="none")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator; its draw is replaced below
        inject_adapter_in_model(config, classifier.trunk)
    generator = torch.Generator().manual_seed(seed)
    for path, module in classifier.named_modules():
        if path.endswith(".lora_A.default"):
            weight = torch.empty_like(module.weight, device="cpu")
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
            with torch.no_grad():
                module.weight.copy_(weight)
    names = tuple(n for n, _ in classifier.named_parameters() if ".lora_" in n or n.startswith("head."))
    freeze(classifier, names)
    return names


def lora_targets(classifier: Classifier) -> tuple[str, ...]:
    """Paths, inside the trunk, of the layers that take adapters, in the order in which a pass enters them; () for none.

    Only layers that run as modules count: one whose weight is read by another module would never see its adapter. Asked before
    `add_lora`, which puts other modules at these paths.
    """
    modules = dict(classifier.trunk.named_modules())
    # The library's own classifier is entered and then left: no feature depends on its weight.
    running = [(path, modules[path]) for path in classifier.order if f"{path}.weight" in classifier.used]
    linear = [path for path, module in running if type(module) is nn.Linear]
    attention = tuple(path for path in linear if _in_attention(path, modules))
    if attention:
        return attention
    return tuple(path for path, module in running if type(module) is nn.Linear or _is_pointwise(module))


def has_lora(classifier: Classifier) -> bool:
    """Whether there are adapters in the classifier."""
    return any(".lora_" in name for name, _ in classifier.named_parameters())


def merge_lora(classifier: Classifier) -> None:
    """Fold the adapters into the weights, W + (alpha / rank) B A: the same logits to 1e-5, and the modules of the network before them.

    Without adapters nothing happens. Gradients are asked of what they were asked of, the merged layers among the frozen.
    """
    # Left out of some installations.
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(path, m) for path, m in classifier.trunk.named_modules() if isinstance(m, BaseTunerLayer)]
    for path, layer in layers:
        adapted: Any = layer
        adapted.merge()
        parent, _, name = path.rpartition(".")
        setattr(classifier.trunk.get_submodule(parent), name, adapted.get_base_layer())
    if hasattr(classifier.trunk, "peft_config"):
        del classifier.trunk.peft_config


def _in_attention(path: str, modules: dict[str, nn.Module]) -> bool:
    """Whether the layer lies in a module that is called an attention, by its name or by its class, and not in an MLP inside it."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        called = f"{names[depth - 1]} {type(modules['.'.join(names[:depth])]).__name__}".lower()
        if "mlp" in called:
            return False
        if any(word in called for word in ATTENTION) and "block" not in called:
            return True
    return False


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == 1 and set(module.kernel_size) == {1}
