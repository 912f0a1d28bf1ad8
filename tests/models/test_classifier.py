"""A classifier is its head on what the backbone calls its features, and turns back into a backbone."""

from __future__ import annotations

import pytest
import torch
from tests.models.small import LIBRARIES, batch

from visus.errors import DataError
from visus.models import TappedModule
from visus.models.classifier import Classifier, classifier_of


def hooks(module: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize("name", LIBRARIES)
def test_logits_are_the_head_on_the_late_tap(name, small):
    backbone = small(name)
    before = backbone.fingerprint
    classifier = classifier_of(backbone, 6, seed=0)
    x = batch(backbone)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    with torch.no_grad():
        features = classifier.trunk.features(x)
        logits = classifier(x)
        torch.testing.assert_close(features, late)
        torch.testing.assert_close(logits, late @ classifier.head.weight.T)
        assert torch.equal(backbone.module.features(x), features)
    assert hooks(classifier) == hooks(backbone.module) == 0
    classifier(x).sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in classifier.trunk.parameters())
    assert not any(p.requires_grad for p in backbone.module.parameters())
    assert backbone.fingerprint == before


@pytest.mark.parametrize("name", LIBRARIES)
def test_it_becomes_a_backbone_again(name, small):
    backbone = small(name)
    assert backbone.fingerprint
    classifier = classifier_of(backbone, 3, seed=1)
    with torch.no_grad():
        for p in classifier.trunk.parameters():
            p.add_(0.01)
    found = classifier.backbone(backbone, ("a", "b", "c"))
    x = batch(backbone)
    with torch.no_grad():
        torch.testing.assert_close(found.classify(x), classifier(x))
        features = classifier.trunk.features(x)
    torch.testing.assert_close(found.forward(x, found.resolve(["late"]))[found.aliases["late"]], features)
    assert found.taps == backbone.taps
    assert found.labels == ("a", "b", "c")
    assert found.fingerprint != backbone.fingerprint
    assert len(found.module.state_dict()) == len(backbone.module.state_dict()) + 2
    assert not found.module.training
    assert not any(p.requires_grad for p in found.module.parameters())
    kept = found.classify(x)
    with torch.no_grad():
        classifier.head.weight.zero_()  # the backbone holds a copy
    assert torch.equal(found.classify(x), kept)
    again = classifier_of(found, 5, seed=0)
    assert set(again.trunk.state_dict()) == set(backbone.module.state_dict())


def test_traced_equals_eager_with_a_head_of_its_own(small):
    backbone = small("torchvision:resnet")
    found = classifier_of(backbone, 3, seed=1).backbone(backbone)
    module = TappedModule(found, found.resolve(["middle", "late"]), "mean").eval()
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(module, pictures, check_trace=False)
    for a, b in zip(traced(pictures), module(pictures), strict=True):
        torch.testing.assert_close(a, b)


def test_the_head_is_seeded_small_and_leaves_the_global_generator_alone(small):
    backbone = small("timm:resnet")
    state = torch.random.get_rng_state()
    a, b, c = (classifier_of(backbone, 50, seed=s).head.weight for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert 0.008 < float(a.std()) < 0.012


def test_a_backbone_left_in_training_mode_stays_as_it_is(small):
    backbone = small("timm:resnet")
    backbone.module.train()
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    classifier = classifier_of(backbone, 3, seed=0)
    assert backbone.module.training
    for state in (backbone.module.state_dict(), classifier.trunk.state_dict()):
        assert all(torch.equal(before[k], v) for k, v in state.items())


def test_what_cannot_be_a_classifier_is_said(small):
    backbone = small("timm:resnet")
    with pytest.raises(DataError, match="at least two"):
        classifier_of(backbone, 1, seed=0)
    classifier = classifier_of(backbone, 3, seed=0)
    assert isinstance(classifier, Classifier)
    with pytest.raises(DataError, match="3 outputs"):
        classifier.backbone(backbone, ("a",))
