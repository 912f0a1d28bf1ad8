"""What trains with a part of a network: the last block by structure, nothing in front of it moves, and the cut gives what the whole network gives."""

from __future__ import annotations

import pytest
import torch
from tests.models.small import LIBRARIES, batch

from visus.errors import DataError, SpecError
from visus.models import load_backbone
from visus.models.classifier import classifier_of
from visus.models.cut import Tail, can_cut, entering
from visus.models.parts import freeze, last_block, parameters_behind, set_modes, trainable
from visus.models.trunk import PlainTrunk

LAST = {
    "timm:vit": "model.blocks.2", "timm:deit": "model.blocks.1", "timm:siglip": "model.blocks.1",
    "timm:resnet": "model.layer4", "timm:convnext": "model.stages.3", "timm:swin": "model.layers.2",
    "timm:efficientnet": "model.blocks.6", "timm:mobilenet": "model.blocks.5", "timm:mixer": "model.blocks.29",
    "timm:densenet": "model.features.denseblock4", "timm:regnet": "model.s4",
    "hf:vit": "model.vit.layers.1", "hf:dinov2": "model.encoder.layer.1", "hf:clip": "model.encoder.layers.1",
    "hf:swin": "model.swin.encoder.layers.2", "hf:resnet": "model.resnet.encoder.stages.3",
    "hf:convnext": "model.convnext.encoder.stages.3",
    "torchvision:vit": "model.encoder.layers.encoder_layer_1", "torchvision:resnet": "model.layer4",
}  # fmt: skip
BEHIND = {  # parameters behind the block, of the trunk
    "timm:vit": {"norm.weight", "norm.bias"},
    "timm:resnet": set(),
    "timm:convnext": {"head.norm.weight", "head.norm.bias"},
    "timm:efficientnet": {"conv_head.weight", "bn2.weight", "bn2.bias"},
    "timm:swin": {"norm.weight", "norm.bias"},
    "hf:vit": {"vit.layernorm.weight", "vit.layernorm.bias"},
    "hf:swin": {"swin.layernorm.weight", "swin.layernorm.bias"},
    "hf:convnext": {"convnext.layernorm.weight", "convnext.layernorm.bias"},
    "torchvision:vit": {"encoder.ln.weight", "encoder.ln.bias"},
    "torchvision:resnet": set(),
}
TV = {
    "mobilenet_v3_small": "features.11",
    "shufflenet_v2_x0_5": "stage4",
    "squeezenet1_1": "features.12",
    "mnasnet0_5": "layers.13",
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_block_of_many_families(name, small):
    assert last_block(small(name)) == LAST[name]


@pytest.mark.parametrize("name", TV)
def test_the_last_block_of_torchvision(name):
    assert last_block(load_backbone(f"torchvision:{name}?weights=none")) == f"model.{TV[name]}"


def test_the_last_block_of_open_clip(openclip_folder):
    backbone = load_backbone(str(openclip_folder[0]))
    assert last_block(backbone) == "model.transformer.resblocks.1"
    classifier = classifier_of(backbone, 3, seed=0)
    # The projection is a bare parameter of the tower itself, beside the CLS embedding that runs in front.
    names = trainable(classifier, backbone, "last-block")
    rest = [n for n in names if "resblocks" not in n]
    assert rest == [
        "trunk.model.proj",
        "trunk.model.ln_post.weight",
        "trunk.model.ln_post.bias",
        "head.weight",
        "head.bias",
    ]
    assert can_cut(classifier, last_block(backbone), batch(backbone))


@pytest.mark.parametrize("name", BEHIND)
def test_what_trains_with_each_part(name, small):
    backbone = small(name)
    classifier = classifier_of(backbone, 3, seed=0)
    block = dict(classifier.trunk.named_modules())[LAST[name]]
    inside = {f"trunk.{LAST[name]}.{n}" for n, _ in block.named_parameters()}
    head = {"head.weight", "head.bias"}
    behind = {f"trunk.model.{n}" for n in BEHIND[name]}
    assert trainable(classifier, backbone, "head") == ("head.weight", "head.bias")
    assert set(trainable(classifier, backbone, "last-block")) == inside | behind | head
    # By hand: what gets a gradient when everything may.
    classifier(batch(backbone)).sum().backward()
    reached = {n for n, p in classifier.named_parameters() if p.grad is not None}
    assert set(trainable(classifier, backbone, "network")) == reached
    unused = {n for n, _ in classifier.named_parameters()} - reached
    assert len(unused) <= 3
    assert all(p.requires_grad for p in classifier.parameters())


def test_an_unknown_part_or_parameter_is_answered_with_near_ones(small):
    backbone = small("timm:resnet")
    classifier = classifier_of(backbone, 3, seed=0)
    with pytest.raises(SpecError, match="last-block"):
        trainable(classifier, backbone, "last-blok")
    with pytest.raises(SpecError, match=r"head\.weight"):
        freeze(classifier, ["head.weigth"])
    with pytest.raises(SpecError, match=r"model\.layer4"):
        entering(classifier, "model.layer5", batch(backbone))
    with pytest.raises(DataError, match="never runs"):
        entering(classifier, "model.fc", batch(backbone))


@pytest.mark.parametrize("part", ["head", "last-block", "network"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_only_what_should_move_moves(name, part, small):
    backbone = small(name)
    classifier = classifier_of(backbone, 3, seed=0)
    names = trainable(classifier, backbone, part)
    freeze(classifier, names)
    set_modes(classifier, names)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for step in range(3):
        x = batch(backbone, 4, seed=step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(x), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    moved = {k for k, v in classifier.state_dict().items() if not torch.equal(before[k], v)}
    parameters = {n for n, _ in classifier.named_parameters()}
    assert moved & parameters == set(names)
    trained = {n.rpartition(".")[0] for n in names}
    statistics = {k for k in before if k not in parameters and k.rpartition(".")[0] in trained}
    assert moved - parameters == statistics
    if name in ("timm:resnet", "timm:efficientnet", "torchvision:resnet"):
        assert bool(statistics) == (part != "head")


def test_dropout_acts_behind_the_cut_and_nowhere_in_front(small):
    backbone = small("torchvision:vit")
    classifier = classifier_of(backbone, 3, seed=0)

    def training(part: str) -> set[str]:
        set_modes(classifier, trainable(classifier, backbone, part))
        modules = classifier.trunk.model.named_modules()
        return {n for n, m in modules if m.training and isinstance(m, torch.nn.Dropout | torch.nn.MultiheadAttention)}

    last, first = "encoder.layers.encoder_layer_1.", "encoder.layers.encoder_layer_0."
    inside = {"dropout", "mlp.2", "mlp.4", "self_attention"}
    assert training("head") == set()
    assert training("last-block") == {last + n for n in inside}
    assert training("network") == {"encoder.dropout"} | {at + n for n in inside for at in (first, last)}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LIBRARIES)
def test_the_cut_gives_the_logits_and_gradients_of_the_whole_network(name, training, small):
    backbone = small(name)
    path = last_block(backbone)
    classifier = classifier_of(backbone, 3, seed=0)
    for module in classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
        if hasattr(module, "drop_prob"):  # stochastic depth
            module.drop_prob = 0.0
    names = trainable(classifier, backbone, "last-block")
    freeze(classifier, names)
    if training:
        set_modes(classifier, names)
    modes = [m.training for m in classifier.modules()]
    x, y = batch(backbone, 4), torch.tensor([0, 1, 2, 0])
    state = {k: v.clone() for k, v in classifier.state_dict().items()}

    def run(logits: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        classifier.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()
        grads = {n: p.grad.clone() for n, p in classifier.named_parameters() if p.grad is not None}
        classifier.load_state_dict(state)
        return logits.detach(), grads

    whole, expected = run(classifier(x))
    cached = entering(classifier, path, x)
    assert not cached.requires_grad
    assert len(cached) == 4
    size = (x.shape[2], x.shape[3])
    tail = Tail(classifier, path, size)
    for logits, grads in (run(tail(cached)), run(tail(cached))):
        torch.testing.assert_close(logits, whole)
        assert set(grads) == set(expected) == set(names)
        for n in names:
            torch.testing.assert_close(grads[n], expected[n], rtol=1e-4, atol=1e-7)
    assert [m.training for m in classifier.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in classifier.modules())
    assert can_cut(classifier, path, x)
    assert can_cut(classifier, path, x[:1])


def test_the_front_runs_once_and_never_in_training_mode(small):
    backbone = small("timm:resnet")
    classifier = classifier_of(backbone, 3, seed=0)
    path = last_block(backbone)
    x = batch(backbone)
    cached = entering(classifier, path, x)
    ran = []
    convolution = classifier.trunk.model.layer1[0].conv1
    forward = type(convolution).forward
    convolution.forward = lambda t: (ran.append(convolution.training), forward(convolution, t))[1]
    own = convolution.forward
    classifier.train()  # nobody called set_modes
    before = {k: v.clone() for k, v in classifier.state_dict().items() if "layer4" not in k}
    tail = Tail(classifier, path, (x.shape[2], x.shape[3]))
    for _ in range(3):
        tail(cached)
    assert ran == [False]
    assert convolution.forward is own
    state = classifier.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in before.items())
    assert classifier.trunk.model.layer1[0].bn1.training
    assert state["trunk.model.layer4.0.bn1.num_batches_tracked"] == 3


def test_evaluation_on_the_cut_builds_no_graph_and_does_not_spoil_training(small):
    backbone = small("timm:vit")
    classifier = classifier_of(backbone, 3, seed=0)
    tail = Tail(classifier, last_block(backbone), backbone.preprocess.size)
    cached = entering(classifier, last_block(backbone), batch(backbone))
    with torch.inference_mode():
        assert not tail(cached).requires_grad
    with torch.no_grad():
        assert not tail(cached).requires_grad
    tail(cached).sum().backward()
    assert torch.is_grad_enabled()


class TwoStreams(torch.nn.Module):
    """A second tensor carries the picture around the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        return (self.last(y) + y).mean((2, 3))


def test_a_network_that_cannot_be_cut_says_so(small):
    backbone = small("timm:resnet")
    backbone.module = PlainTrunk(TwoStreams())
    classifier = classifier_of(backbone, 3, seed=0)
    assert not can_cut(classifier, "model.last", batch(backbone))
    assert can_cut(classifier, "model.stem", batch(backbone))
    assert not can_cut(classifier, "model.last", batch(backbone, 1))


def test_two_tensors_into_the_last_block_cannot_be_cut():
    backbone = load_backbone("timm:cait_xxs24_224?weights=none")
    classifier = classifier_of(backbone, 3, seed=0)
    assert not can_cut(classifier, last_block(backbone), batch(backbone, 2))
    names = trainable(classifier, backbone, "last-block")
    assert {n.split(".")[2] for n in names if n.startswith("trunk")} == {"blocks_token_only", "norm"}


class Shared(torch.nn.Module):
    """One norm runs in front of the last block and behind it; an auxiliary branch runs in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.aux = torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.stem(x))
        if self.training:
            self.aux(y)
        return self.norm(self.last(y)).mean((2, 3))


def test_what_runs_in_front_too_is_frozen_and_the_front_takes_the_way_of_evaluation(small):
    backbone = small("timm:resnet")
    backbone.module = PlainTrunk(Shared())
    classifier = classifier_of(backbone, 3, seed=0)
    size = backbone.preprocess.size
    expected = {"trunk.model.last.0.0.weight", "trunk.model.last.0.0.bias", "head.weight", "head.bias"}
    assert parameters_behind(classifier, "model.last", size) | {"head.weight", "head.bias"} == expected
    x = batch(backbone)
    assert can_cut(classifier, "model.last", x)
    cached = entering(classifier, "model.last", x)
    classifier.train()
    Tail(classifier, "model.last", size)(cached)
    assert classifier.trunk.model.aux.num_batches_tracked == 0


def test_dropout_behind_a_part_that_trains_stays_off_where_more_is_frozen(small):
    classifier = classifier_of(small("torchvision:vit"), 3, seed=0)
    first = [n for n, _ in classifier.named_parameters() if "encoder_layer_0" in n]
    set_modes(classifier, first)
    assert not any(m.training for m in classifier.modules() if isinstance(m, torch.nn.Dropout))
    assert classifier.trunk.model.encoder.layers[0].self_attention.training
    assert not classifier.trunk.model.encoder.layers[1].self_attention.training
