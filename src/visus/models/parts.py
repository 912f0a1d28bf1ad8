"""What the regimes train, for any architecture: the last block, the parameters behind the cut, and the pass that starts at it (P2, P6).

Nothing goes by names of libraries: the last block comes from the taps, what lies behind it from the autograd graph of one pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.classifier import Classifier, leaves_of
from visus.models.cut import arguments, blank_image, module_at
from visus.models.modes import eval_mode
from visus.spec import unknown

PARTS = ("head", "last-block", "network")


def last_block(backbone: Backbone) -> str:
    """Path, inside backbone.module, of the last block: a CNN's last stage, a plain ViT's last transformer block.

    It is the last tap in forward order whose module is made of parts that are made of parts; stems, norms and the single convolution
    that many CNNs end with are not. A chain of bare layers (VGG, SqueezeNet) gives its last member with parameters. Raises
    DataError for a network without any.
    """
    modules = dict(backbone.module.named_modules())
    paths = [tap.module for tap in backbone.taps if not tap.module.startswith("pooled")]
    blocks = [p for p in paths if _is_block(modules[p])]
    # A module around all others is the network, not its last block.
    blocks = [p for p in blocks if len(blocks) == 1 or not all(q == p or q.startswith(f"{p}.") for q in blocks)]
    if blocks:
        return blocks[-1]
    weighty = [p for p in paths if next(modules[p].parameters(), None) is not None]
    if not weighty:
        raise DataError(f"{backbone.spec} has no block that could be trained; train the head or the whole network")
    chain, _ = Counter(p.rpartition(".")[0] for p in weighty).most_common(1)[0]
    return next(p for p in reversed(weighty) if p.rpartition(".")[0] == chain)


def _is_block(module: nn.Module) -> bool:
    """Whether a child has children of its own with parameters (a norm with its activation inside has none)."""
    inner = [grandchild for child in module.children() for grandchild in child.children()]
    return any(next(g.parameters(), None) is not None for g in inner)


def trainable(classifier: Classifier, backbone: Backbone, part: str) -> tuple[str, ...]:
    """Names of the classifier's parameters that train with a part of it, in the order of named_parameters().

    'head': the head. 'last-block': the head, and every parameter that the logits depend on when what enters the last block is given,
    and that this does not depend on: the block, and the norms and poolers behind it. 'network': every parameter that the
    logits depend on (the library's own classifier and auxiliary heads are none). Raises SpecError for another part.
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    head = {name for name, _ in classifier.named_parameters() if name.startswith("head.")}
    if part == "head":
        wanted = head
    elif part == "last-block":
        wanted = head | parameters_behind(classifier, last_block(backbone), backbone.preprocess.size)
    else:
        wanted = head | {f"trunk.{name}" for name in classifier.used}
    return tuple(name for name, _ in classifier.named_parameters() if name in wanted)


def parameters_behind(classifier: Classifier, path: str, size: tuple[int, int]) -> set[str]:
    """Names of the parameters that run in or behind the module at `path` (inside the trunk), and not in front of it.

    size: (h, w) of the input, of which one picture of zeros is run. Raises DataError when the module never runs.
    """
    blank = blank_image(classifier, size)

    def follow(module: nn.Module, args: object) -> None:
        torch.set_grad_enabled(True)

    with _gradients_everywhere(classifier), eval_mode(classifier):
        with torch.enable_grad():
            args, kwargs = arguments(classifier, path, blank)
        entered = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        handle = module_at(classifier, path).register_forward_pre_hook(follow)
        try:
            with torch.no_grad():
                features = classifier.trunk.features(blank)
        finally:
            handle.remove()
        behind = leaves_of(features, classifier)
        return behind.difference(*(leaves_of(t, classifier) for t in entered))


def freeze(classifier: Classifier, names: Collection[str]) -> None:
    """Ask for gradients of exactly these parameters. Raises SpecError for a name that is none of the classifier's."""
    known = dict(classifier.named_parameters())
    for name in names:
        if name not in known:
            raise unknown("parameter", name, known)
    wanted = set(names)
    for name, parameter in known.items():
        parameter.requires_grad_(name in wanted)


def set_modes(classifier: Classifier, names: Collection[str]) -> None:
    """Training mode for what trains and for what lies behind the cut, eval mode for the rest; call it after `freeze`.

    A module with parameters of its own trains when one of them does. One without (dropout, stochastic depth, a container) trains
    when it runs behind the point from which on everything trains: the dropout of a frozen part does nothing, and the statistics
    of its BatchNorm stay (P2). Without such a point, as with adapters inside a frozen network, it trains where it is a part of an adapter.
    """
    wanted = set(names)
    place = {f"trunk.{path}": i for i, path in enumerate(classifier.order)}
    own = {
        path: [_join(path, n) for n, _ in m.named_parameters(recurse=False)] for path, m in classifier.named_modules()
    }
    cut = _cut(own, place, wanted, {f"trunk.{name}" for name in classifier.used})
    for path, module in classifier.named_modules():
        if own[path]:
            module.training = any(name in wanted for name in own[path])
        else:
            module.training = place.get(path, -1) >= cut or ".lora_" in path


def _cut(own: Mapping[str, list[str]], place: Mapping[str, int], wanted: set[str], used: set[str]) -> float:
    """Where, in the order of the pass, begins the part in which every parameter trains; infinity: nowhere.

    own: names of each module's own parameters by its path. place: of the modules that run, by path.
    """
    whole: dict[str, bool] = {}  # whether every parameter in a module trains
    for path, names in own.items():
        above = path
        while names and above:
            whole[above] = whole.get(above, True) and all(name in wanted for name in names)
            above = above.rpartition(".")[0]
    cut = min((at for path, at in place.items() if whole.get(path)), default=math.inf)
    frozen = (at for path, at in place.items() if any(n in used and n not in wanted for n in own.get(path, ())))
    return cut if all(at < cut for at in frozen) else math.inf


@contextmanager
def _gradients_everywhere(classifier: Classifier) -> Iterator[None]:
    """Every parameter asks for gradients, for the duration of the block."""
    before = {p: p.requires_grad for p in classifier.parameters()}
    classifier.requires_grad_(True)
    try:
        yield
    finally:
        for p, wanted in before.items():
            p.requires_grad_(wanted)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
