"""Made for test_skips, test_skips_removed."""

from __future__ import annotations

import inspect
import textwrap
import types
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.efficientnet import MBConvConfig

from visus.models import Backbone, Preprocess, load_backbone
from visus.models.skips import Skip
from visus.models.trunk import PlainTrunk

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")


def wrapped(model: nn.Module, size: int = 32) -> Backbone:
    """A model of ours as a backbone without taps."""
    preprocess = Preprocess((size, size), None, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("ours", PlainTrunk(model).eval().requires_grad_(False), (), {}, preprocess)


def shaken(backbone: Backbone) -> Backbone:
    """No parameter zero or tiny (layer scales, last norms): every branch counts."""
    generator = torch.Generator().manual_seed(5)
    for p in backbone.module.parameters():
        if p.ndim == 1 or p.abs().max() < 1e-3:
            p.data.copy_(0.5 + 0.5 * torch.rand(p.shape, generator=generator))
    return backbone


def pictures(backbone: Backbone, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, *backbone.preprocess.size, generator=torch.Generator().manual_seed(0))


def torchvision_model(name: str) -> nn.Module:
    if name == "resnet":
        return models.ResNet(models.resnet.BasicBlock, [2, 1, 1, 1], num_classes=5)
    if name == "bottleneck":
        return models.ResNet(models.resnet.Bottleneck, [2, 1, 1, 1], num_classes=5, width_per_group=8)
    if name == "vit":
        return models.VisionTransformer(32, 8, 3, 2, 32, 64, num_classes=5)
    if name == "swin":
        return models.SwinTransformer([2, 2], 8, [2, 2], [1, 2], [4, 4], num_classes=5)
    if name == "mobilenet":
        return models.mobilenet_v2(num_classes=5, width_mult=0.25)
    if name == "regnet":
        return models.RegNet(models.regnet.BlockParams([2, 2], [8, 16], [4, 4], [1.0, 1.0], [2, 2]), num_classes=5)
    config = [MBConvConfig(4, 3, 1, 16, 16, 2, 1.0, 1.0), MBConvConfig(4, 3, 2, 16, 24, 2, 1.0, 1.0)]
    return models.EfficientNet(config, 0.0, num_classes=5)


# (library, family, what is edited in the source of the blocks' forward)
EDITS = [
    ("timm", "resnet", {"x += shortcut": "pass"}),
    ("timm", "efficientnet", {"self.drop_path(x) + shortcut": "self.drop_path(x)"}),
    ("timm", "mobilenet", {"self.drop_path(x) + shortcut": "self.drop_path(x)"}),
    ("timm", "convnext", {" + self.shortcut(shortcut)": ""}),
    ("timm", "vit", {"x = x + ": "x = "}),
    ("timm", "deit", {"x = x + ": "x = "}),
    ("timm", "registers", {"x = x + ": "x = "}),
    ("timm", "swin", {"x = x + ": "x = "}),
    ("timm", "regnet", {"x = self.drop_path(x) + self.downsample(shortcut)": "pass", "x = x + shortcut": "pass"}),
    ("torchvision", "resnet", {"out += identity": "pass"}),
    ("torchvision", "bottleneck", {"out += identity": "pass"}),
    ("torchvision", "vit", {"x = x + input": "pass", "return x + y": "return y"}),
    ("torchvision", "swin", {"x = x + ": "x = "}),
    ("torchvision", "mobilenet", {"return x + self.conv(x)": "return self.conv(x)"}),
    ("torchvision", "regnet", {"self.proj(x) + self.f(x)": "self.f(x)", "x + self.f(x)": "self.f(x)"}),
    ("torchvision", "efficientnet", {"result += input": "pass"}),
    ("hf", "vit", {"hidden_states + residual": "hidden_states"}),
    ("hf", "deit", {"hidden_states + residual": "hidden_states"}),
    ("hf", "dinov2_head", {") + residual": ")"}),
    ("hf", "clip", {"residual + hidden_states": "hidden_states"}),
    ("hf", "swin", {"shortcut + self.drop_path": "self.drop_path", ") + residual": ")"}),
    ("hf", "convnext", {"residual + self.drop_path": "self.drop_path"}),
    ("hf", "resnet", {"hidden_state += residual": "pass"}),
    ("openclip", "vit", {"x = q_x + ": "x = ", "x = x + ": "x = "}),
]  # fmt: skip


def edited(block: nn.Module, edits: dict[str, str]) -> Any:
    """The block's forward from its source with the edits made, bound to the block."""
    forward = inspect.unwrap(type(block).forward)
    source = textwrap.dedent(inspect.getsource(forward))
    changed = source
    for old, new in edits.items():
        changed = changed.replace(old, new)
    assert changed != source, source
    body = "from __future__ import annotations\n" + changed[changed.index("def ") :]
    scope = dict(forward.__globals__)
    exec(body, scope)
    return types.MethodType(scope["forward"], block)


@pytest.fixture
def backbone_of(timm_folder, hf_folder, request):
    def make(library: str, family: str) -> Backbone:
        if library == "torchvision":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                return shaken(wrapped(torchvision_model(family)))
        if library == "openclip":
            return shaken(load_backbone(str(request.getfixturevalue("openclip_folder")[0])))
        return shaken(load_backbone(str({"timm": timm_folder, "hf": hf_folder}[library](family)[0])))

    return make


def gradients(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the sum of squares of the outputs, for every parameter that has one."""
    module.requires_grad_(True)
    named = dict(module.named_parameters())
    found = torch.autograd.grad(module(x).square().sum(), list(named.values()), allow_unused=True)
    module.requires_grad_(False)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


class Toy(nn.Module):
    """A block around a linear layer; what it adds is said by its subclasses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.position = nn.Parameter(torch.ones(1, 4, 6))

    def f(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).tanh()


class Positions(Toy):
    def forward(self, x):
        return x + self.f(x + self.position) + self.position + 1e-3

    def expected(self, x):
        return self.f(x + self.position) + self.position + 1e-3


class Parallel(Toy):
    def forward(self, x):
        return x + self.f(x) + self.other(x)

    def expected(self, x):
        return self.f(x) + self.other(x)


class ParallelComputedFirst(Toy):
    def forward(self, x):
        a, b = self.f(x), self.other(x)
        return x + a + b

    def expected(self, x):
        return self.f(x) + self.other(x)


class InPlace(Toy):
    def forward(self, x):
        x = x.clone()
        x.add_(self.f(x.clone()))
        return x

    def expected(self, x):
        return self.f(x)


class Weighted(Toy):
    def forward(self, x):
        x = torch.add(x, self.f(x), alpha=0.5)
        return torch.add(input=self.other(x), other=x)

    def expected(self, x):
        return self.other(0.5 * self.f(x))


class Operator(Toy):
    def forward(self, x):
        return torch.ops.aten.add.Tensor(x, self.f(x))

    def expected(self, x):
        return self.f(x)


class Reshaped(Toy):
    def forward(self, x):
        flat = x.transpose(1, 2).flatten(1)
        y = self.f(x).transpose(1, 2).flatten(1) + flat
        return y.view(len(x), 6, 4).transpose(1, 2)

    def expected(self, x):
        return self.f(x)


class InPlaceActivationBehind(Toy):
    """Autograd would refuse if the branch itself went on: tanh keeps its output."""

    def forward(self, x):
        return (x + self.f(x)).relu_()

    def expected(self, x):
        return self.f(x).relu()


class Context(Toy):
    """A vector for all positions is added too: that is no skip."""

    def forward(self, x):
        x = x + self.f(x)
        return x + self.other(x.mean(1, keepdim=True))

    def expected(self, x):
        x = self.f(x)
        return x + self.other(x.mean(1, keepdim=True))


class Adder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 6)

    def forward(self, hidden_states, input_tensor):
        return self.dense(hidden_states) + input_tensor


class AddedByAChild(Toy):
    """As transformers wrote its ViT: the second addition is made by a part that is given the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.output = Adder()

    def forward(self, x):
        x = x + self.f(x)
        return self.output(self.other(x), x)

    def expected(self, x):
        return self.output.dense(self.other(self.f(x)))


class AttentionWithoutNorm(Toy):
    """'proj' is no shortcut here, though the block's own input enters its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x):
        bias = self.proj(self.f(x))
        return x + (self.other(x) + bias)

    def expected(self, x):
        return self.other(x) + self.proj(self.f(x))


TOYS = [
    Positions, Parallel, ParallelComputedFirst, InPlace, Weighted, Operator, Reshaped, InPlaceActivationBehind, AddedByAChild,
    AttentionWithoutNorm, Context,
]  # fmt: skip


class Around(nn.Module):
    """A network that adds position embeddings of its own, holds one block, and has a head."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.position = nn.Parameter(torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(2)))

    def forward(self, x):
        return self.block(x[:, 0].flatten(1)[:, :24].reshape(-1, 4, 6) + self.position).mean(1)


class NoSkipAtAll(Toy):
    def forward(self, x):
        return self.f(x) + self.position + self.other(x)


class LongSkip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Positions(), nn.Linear(6, 6), Parallel())

    def forward(self, x):
        return x + self.body(x)


ROWS = tuple(
    Skip(name, f"model.{name}", name.rpartition(".")[0], 0.5)
    for name in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.1", "layer3.2", "trunk.block1.block1-0", "layer10.0")
)  # fmt: skip
