"""LoRA: the same logits at the start, only adapters and head move, merged it is an ordinary network again."""

from __future__ import annotations

import pytest
import torch
from tests.models.small import batch

from visus.errors import DataError, SpecError
from visus.models.classifier import classifier_of, leaves_of
from visus.models.lora import add_lora, has_lora, lora_targets, merge_lora
from visus.models.parts import set_modes
from visus.models.trunk import PlainTrunk

# The ends of the adapted layers' paths: attention where it can be, else pointwise layers.
TARGETS = {
    "timm:vit": {"qkv", "proj"},
    "timm:swin": {"qkv", "proj"},
    "hf:vit": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "hf:swin": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "torchvision:vit": {"0", "3"},  # its MLP: the attention is torch's own, which an adapter does not reach
    "timm:convnext": {"fc1", "fc2"},
    "hf:convnext": {"pwconv1", "pwconv2"},
    "timm:resnet": {"0"},  # the 1 x 1 shortcuts
    "timm:efficientnet": {"conv_pw", "conv_pwl", "conv_head"},
}


@pytest.mark.parametrize("name", TARGETS)
def test_adapters(name, small):
    backbone = small(name)
    classifier = classifier_of(backbone, 3, seed=0)
    targets = lora_targets(classifier)
    assert {path.rpartition(".")[2] for path in targets} == TARGETS[name]
    x, y = batch(backbone, 4), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        plain = classifier(x)
    keys = list(classifier.state_dict())
    state = torch.random.get_rng_state()
    names = add_lora(classifier, backbone, rank=2, alpha=4, dropout=0.2, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(names) == 2 * len(targets) + 2
    assert {n for n, p in classifier.named_parameters() if p.requires_grad} == set(names)
    assert leaves_of(classifier(x), classifier) == set(names)
    set_modes(classifier, names)
    dropouts = {n for n, m in classifier.named_modules() if isinstance(m, torch.nn.Dropout) and m.training}
    assert dropouts == {f"trunk.{path}.lora_dropout.default" for path in targets}
    classifier.eval()
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), plain, rtol=0, atol=0)
    set_modes(classifier, names)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(x), y).backward()
        optimizer.step()
    moved = {k for k, v in classifier.state_dict().items() if not torch.equal(before[k], v)}
    assert moved == set(names)
    classifier.eval()
    with torch.no_grad():
        tuned = classifier(x)
        assert float((tuned - plain).abs().max()) > 1e-4
    assert has_lora(classifier)
    by_hand = {path: merged(classifier.state_dict(), path) for path in targets}
    merge_lora(classifier)
    assert not has_lora(classifier)
    assert list(classifier.state_dict()) == keys
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), tuned, rtol=1e-5, atol=1e-5)
    for path, weight in by_hand.items():
        torch.testing.assert_close(classifier.trunk.get_submodule(path).weight, weight)
    found = classifier.backbone(backbone)
    torch.testing.assert_close(found.classify(x), tuned, rtol=1e-5, atol=1e-5)


def merged(state: dict[str, torch.Tensor], path: str) -> torch.Tensor:
    """W + (alpha / rank) B A, alpha = 4, rank = 2."""
    weight, a, b = (state[f"trunk.{path}.{n}.weight"] for n in ("base_layer", "lora_A.default", "lora_B.default"))
    return weight + 2.0 * (b.flatten(1) @ a.flatten(1)).view_as(weight)


def test_adapters_are_seeded(small):
    def draw(seed: int) -> torch.Tensor:
        backbone = small("timm:vit")
        classifier = classifier_of(backbone, 3, seed=0)
        names = add_lora(classifier, backbone, seed=seed)
        return dict(classifier.named_parameters())[next(n for n in names if "lora_A" in n)]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_what_takes_no_adapter_is_said(small):
    backbone = small("timm:resnet")
    classifier = classifier_of(backbone, 3, seed=0)
    with pytest.raises(SpecError, match="rank"):
        add_lora(classifier, backbone, rank=0, seed=0)
    add_lora(classifier, backbone, seed=0)
    with pytest.raises(DataError, match="already"):
        add_lora(classifier, backbone, seed=0)
    backbone.module = PlainTrunk(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1)))
    with pytest.raises(SpecError, match="no linear layer") as error:
        add_lora(classifier_of(backbone, 3, seed=0), backbone, seed=0)
    assert "\n" not in str(error.value)
