"""Removed skips against the libraries' own source with the additions edited out, and additions that are no skips left alone."""

from __future__ import annotations

import copy
import inspect
import textwrap
import types
from typing import Any

import pytest
import torch
from timm.models import VisionTransformer
from torch import nn
from torchvision import models
from torchvision.models.efficientnet import MBConvConfig

from visus.errors import DataError, SpecError
from visus.models import Backbone, Preprocess, TappedModule, load_backbone
from visus.models.skips import Skip, choose_skips, find_skips, without_skips
from visus.models.stages import stages_of
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


@pytest.mark.parametrize(("library", "family", "edits"), EDITS, ids=[f"{e[0]}-{e[1]}" for e in EDITS])
def test_equals_the_source_with_the_additions_edited_out(library, family, edits, backbone_of):
    backbone = backbone_of(library, family)
    module, x = backbone.module, pictures(backbone)
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    skips = find_skips(backbone)
    chosen = skips[::2]  # the others must stay
    assert chosen
    looks = repr(module)
    with torch.no_grad():
        intact = module(x)
        blocks = [module.get_submodule(s.path) for s in chosen]
        for block in blocks:
            block.forward = edited(block, edits)
        expected = module(x)
        with torch.enable_grad():
            expected_gradients = gradients(module, x)
        for block in blocks:
            del block.forward
        with without_skips(module, chosen):
            removed = module(x)
            copied = copy.deepcopy(module)
            traced = torch.jit.trace(module, x[:1], check_trace=False)
            assert repr(module) != looks
            assert repr(module).count("NoSkip") == len(chosen)
            with torch.enable_grad():
                found_gradients = gradients(module, x)
        assert (intact - expected).norm() > 1e-3 * intact.norm()
        torch.testing.assert_close(removed, expected)
        assert torch.equal(module(x), intact)
        assert torch.equal(copied(x), removed)
        torch.testing.assert_close(traced(x), expected)
    assert repr(module) == looks
    assert found_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    after = module.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(weights[k], after[k]) for k in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_residual_block_by_hand(timm_folder):
    backbone = shaken(load_backbone(str(timm_folder("resnet")[0])))
    (skip,) = choose_skips(find_skips(backbone), "layer2.0")
    block: Any = backbone.module.get_submodule(skip.path)
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    by_hand = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x))))).relu()
    with without_skips(backbone.module, [skip]):
        torch.testing.assert_close(block(x), by_hand, rtol=0, atol=0)
    assert skip == Skip("layer2.0", "model.layer2.0", "layer2", 2 / 5, projection=True)


def test_a_transformer_block_by_hand(timm_folder):
    backbone = shaken(load_backbone(str(timm_folder("registers")[0])))
    (skip,) = choose_skips(find_skips(backbone), "blocks.1")
    block: Any = backbone.module.get_submodule(skip.path)
    x = torch.randn(2, 21, 32, generator=torch.Generator().manual_seed(0))
    by_hand = block.ls2(block.mlp(block.norm2(block.ls1(block.attn(block.norm1(x))))))
    with without_skips(backbone.module, [skip]):
        torch.testing.assert_close(block(x), by_hand, rtol=0, atol=0)


def test_stochastic_depth_does_not_erase_pictures():
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3, drop_path_rate=0.9
    )
    backbone = shaken(wrapped(model))
    skips = find_skips(backbone)
    x = pictures(backbone, 8)
    with without_skips(backbone.module, skips):
        calm = backbone.module(x)
        torch.testing.assert_close(backbone.module.train()(x), calm)
    assert backbone.module.model.blocks[1].drop_path1.training


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


@pytest.mark.parametrize("kind", TOYS)
def test_only_the_skip_goes(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        block = kind()
    backbone = wrapped(Around(block), 8)
    skips = find_skips(backbone)
    assert [s.name for s in skips] == ["block"]
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(4), requires_grad=True)
    with without_skips(backbone.module, skips):
        found = block(x)
        (gradient,) = torch.autograd.grad(found.square().sum(), x)
    expected = block.expected(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


class NoSkipAtAll(Toy):
    def forward(self, x):
        return self.f(x) + self.position + self.other(x)


def test_a_block_without_a_skip_is_not_listed_and_cannot_lose_one():
    backbone = wrapped(Around(NoSkipAtAll()), 8)
    assert find_skips(backbone) == ()
    with (
        without_skips(backbone.module, [Skip("block", "model.block", "block", 0.5)]),
        pytest.raises(DataError, match="adds none"),
    ):
        backbone.module(torch.zeros(1, 3, 8, 8))
    assert type(backbone.module.model.block) is NoSkipAtAll
    with pytest.raises(SpecError, match="no skip connections"):
        choose_skips((), "all")


class LongSkip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Positions(), nn.Linear(6, 6), Parallel())

    def forward(self, x):
        return x + self.body(x)


def test_what_holds_residual_blocks_is_none_itself():
    assert [s.name for s in find_skips(wrapped(Around(LongSkip()), 8))] == ["block.body.0", "block.body.2"]


def test_restored_after_an_error_and_when_nested(timm_folder):
    backbone = load_backbone(str(timm_folder("vit")[0]))
    skips = find_skips(backbone)
    x = pictures(backbone)
    intact = backbone.module(x)
    with pytest.raises(ZeroDivisionError), without_skips(backbone.module, skips):
        raise ZeroDivisionError
    assert torch.equal(backbone.module(x), intact)
    with without_skips(backbone.module, skips):
        every = backbone.module(x)
    with without_skips(backbone.module, skips[:1]):
        with without_skips(backbone.module, skips):
            assert torch.equal(backbone.module(x), every)
        assert [type(b).__name__ for b in backbone.module.model.blocks] == ["NoSkipBlock", "Block", "Block"]
    assert torch.equal(backbone.module(x), intact)
    with (
        pytest.raises(DataError, match=r"no residual block at model\.nowhere"),
        without_skips(backbone.module, [skips[0], Skip("x", "model.nowhere", "x", 0.5)]),
    ):
        raise ZeroDivisionError
    assert torch.equal(backbone.module(x), intact)
    backbone.module.model.blocks[0].forward = lambda x: x
    with pytest.raises(DataError, match="patched"), without_skips(backbone.module, skips):
        raise ZeroDivisionError


def test_only_identity_shortcuts_are_no_projections(timm_folder, hf_folder):
    found = {}
    for make, family in (
        (timm_folder, "efficientnet"),
        (timm_folder, "regnet"),
        (hf_folder, "resnet"),
        (hf_folder, "vit"),
    ):
        skips = find_skips(load_backbone(str(make(family)[0])))
        found[family] = ([s.name for s in skips][:5], [s.name for s in skips if s.projection])
        assert [s.depth for s in skips] == sorted(s.depth for s in skips)
    assert found == {
        "efficientnet": (["blocks.1.1", "blocks.2.1", "blocks.3.1", "blocks.3.2", "blocks.4.1"], []),
        "regnet": (["s1.b1", "s2.b1", "s3.b1", "s3.b2", "s3.b3"], ["s1.b1", "s2.b1", "s3.b1", "s4.b1"]),
        "resnet": (
            ["stages.0.layers.0", "stages.1.layers.0", "stages.2.layers.0", "stages.2.layers.1", "stages.3.layers.0"],
            ["stages.1.layers.0", "stages.2.layers.0", "stages.3.layers.0"],
        ),
        "vit": (["blocks.0", "blocks.1"], []),
    }


def test_taps_see_the_network_without_skips(timm_folder):
    """The route of features: tapped modules are copied, and OpenVINO traces them."""
    backbone = load_backbone(str(timm_folder("swin")[0]))
    skips = choose_skips(find_skips(backbone), "layers.2")
    late = backbone.resolve(["layers.1", "late"])
    h, w = backbone.preprocess.size
    raw = torch.randint(0, 256, (2, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module = TappedModule(backbone, late).eval()
    before = module(raw)
    with without_skips(backbone.module, skips):
        inside = copy.deepcopy(module)
        traced = torch.jit.trace(inside, raw[:1], check_trace=False)
    early, removed = inside(raw)
    assert torch.equal(early, before[0])  # in front of the removed ones
    assert (removed - before[1]).norm() > 0.1 * removed.norm()
    torch.testing.assert_close(traced(raw)[1], removed, rtol=1e-4, atol=1e-5)


ROWS = tuple(
    Skip(name, f"model.{name}", name.rpartition(".")[0], 0.5)
    for name in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.1", "layer3.2", "trunk.block1.block1-0", "layer10.0")
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("layer1.1", [1]),
        ("layer1.1-layer3.1", [1, 2, 3, 4]),
        ("layer2", [2, 3]),
        ("layer1", [0, 1]),
        ("layer1-layer2.0", [0, 1, 2]),
        ("layer2 - layer3", [2, 3, 4, 5]),
        ("layer3.2, layer1.0,layer3.2", [0, 5]),
        ("trunk.block1.block1-0", [6]),
        ("layer3.1-trunk.block1.block1-0", [4, 5, 6]),
        ("trunk.block1.block1-0-layer10", [6, 7]),
        ("all", list(range(8))),
    ],
)
def test_choosing(text, places):
    assert choose_skips(ROWS, text) == tuple(ROWS[i] for i in places)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer3.0", "unknown residual block 'layer3.0'; nearest: .*layer3.1"),
        ("layer1.0-layer3.9", "unknown residual block 'layer3.9'"),
        ("layer2.1-layer1.0", "swap the two"),
        (" , ", "no residual block was named"),
        ("-", "unknown residual block"),
    ],
)
def test_choosing_wrongly(text, message):
    with pytest.raises(SpecError, match=message) as caught:
        choose_skips(ROWS, text)
    assert "\n" not in str(caught.value)


def test_stages(timm_folder, hf_folder):
    def stages(make, family):
        return stages_of(load_backbone(str(make(family)[0])))

    assert stages(timm_folder, "resnet") == {
        "stem": "model.conv1", **{f"layer{i}": f"model.layer{i}" for i in (1, 2, 3, 4)}
    }  # fmt: skip
    assert list(stages(timm_folder, "efficientnet")) == ["stem", *(f"blocks.{i}" for i in range(7))]
    assert list(stages(timm_folder, "convnext")) == ["stem", *(f"stages.{i}" for i in range(4))]
    assert list(stages(timm_folder, "vit")) == ["stem", "blocks.0", "blocks.1", "blocks.2"]
    assert stages(hf_folder, "dinov2_head") == {
        "stem": "model.dinov2.embeddings",
        "blocks.0": "model.dinov2.encoder.layer.0",
        "blocks.1": "model.dinov2.encoder.layer.1",
    }
    assert list(stages(timm_folder, "densenet"))[:2] == ["stem", "features.denseblock1"]
    with pytest.raises(DataError, match="no numbered stages"):
        stages_of(wrapped(Around(Positions()), 8))
