"""Every family by the public route: tap shapes are true, 'late' is the library's own feature, nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from visus.models import Backbone, TappedModule, load_backbone
from visus.models.tap import Tap

TIMM = (
    "vit",
    "vit_gap",
    "deit",
    "registers",
    "siglip",
    "resnet",
    "convnext",
    "swin",
    "efficientnet",
    "mobilenet",
    "mixer",
    "densenet",
    "regnet",
)
HF = ("vit", "vit_plain", "deit", "dinov2", "dinov2_head", "registers", "clip", "siglip", "swin", "resnet", "convnext")


def batch(backbone: Backbone, n: int = 2) -> torch.Tensor:
    h, w = backbone.preprocess.size
    return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(0))


def check(backbone: Backbone) -> None:
    """What holds for every backbone."""
    x = batch(backbone)
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules())
    raw = backbone.forward(x, backbone.taps, pool=None)
    assert list(raw) == [tap.name for tap in backbone.taps]
    depths = [tap.depth for tap in backbone.taps]
    assert depths == sorted(depths)
    assert 0 < depths[0] < depths[-1] == 1
    for tap in backbone.taps:
        assert tuple(raw[tap.name].shape[1:]) == tap.shape, tap
    for pool in ("mean", "cls"):
        vectors = backbone.forward(x, backbone.taps, pool=pool)
        for tap in backbone.taps:
            assert vectors[tap.name].shape == (2, tap.width)
            assert vectors[tap.name].dtype == torch.float32
            by_hand = reduced(raw[tap.name], tap, pool)
            torch.testing.assert_close(vectors[tap.name], by_hand)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules()) == hooks
    after = backbone.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert len({backbone.resolve([a])[0].name for a in ("early", "middle", "late")}) == 3


def reduced(y: torch.Tensor, tap: Tap, pool: str) -> torch.Tensor:
    if tap.kind == "tokens":
        return y[:, 0] if pool == "cls" and tap.cls is not None else y[:, tap.prefix :].mean(1)
    if tap.kind == "vector":
        return y
    h, w = (1, 2) if tap.kind == "grid" else (2, 3)
    return y.mean((h, w))


@pytest.mark.parametrize("family", TIMM)
def test_timm(family, timm_folder):
    folder, model = timm_folder(family)
    backbone = load_backbone(str(folder))
    check(backbone)
    x = batch(backbone)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        logits = model(x)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, features.flatten(1))
    torch.testing.assert_close(backbone.classify(x), logits)
    assert len(backbone.labels) == logits.shape[1]
    declared = int(getattr(model, "num_prefix_tokens", 0))
    assert all(tap.prefix == declared for tap in backbone.taps if tap.kind == "tokens")


def test_prefixes_are_what_the_models_declare(timm_folder, hf_folder):
    found = {}
    cases = {"timm": (timm_folder, ("deit", "registers", "siglip")), "hf": (hf_folder, ("registers", "siglip", "deit"))}
    for library, (make, families) in cases.items():
        for family in families:
            tap = load_backbone(str(make(family)[0])).taps[0]
            found[library, family] = (tap.prefix, tap.cls, tap.shape[0])
    assert found == {
        ("timm", "deit"): (2, 0, 18),
        ("timm", "registers"): (5, 0, 21),
        ("timm", "siglip"): (0, None, 16),
        ("hf", "registers"): (4, 0, 20),
        ("hf", "siglip"): (0, None, 16),
        ("hf", "deit"): (2, 0, 18),
    }


def test_swin_is_a_grid_in_timm_and_tokens_in_transformers(timm_folder, hf_folder):
    assert {t.kind for t in load_backbone(str(timm_folder("swin")[0])).taps[:-1]} == {"grid"}
    units = [t for t in load_backbone(str(hf_folder("swin")[0])).taps if t.name.startswith("layers")]
    assert {(t.kind, t.prefix, t.cls) for t in units} == {("tokens", 0, None)}


@pytest.mark.parametrize("family", HF)
def test_transformers(family, hf_folder):
    folder, model = hf_folder(family)
    backbone = load_backbone(str(folder))
    check_aliases = len([t for t in backbone.taps if t.name != "pooled"]) > 1
    assert check_aliases
    check(backbone)
    x = batch(backbone)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    classifies = "ImageClassification" in type(model).__name__
    base = getattr(model, model.base_model_prefix) if classifies else model
    with torch.no_grad():
        out = base(pixel_values=x)
    expected = out.last_hidden_state[:, 0] if family in ("vit", "vit_plain", "deit") else out.pooler_output.flatten(1)
    torch.testing.assert_close(late, expected)
    if classifies:
        with torch.no_grad():
            torch.testing.assert_close(backbone.classify(x), model(pixel_values=x).logits)
    else:
        assert backbone.labels is None


def test_open_clip(openclip_folder):
    folder, model = openclip_folder
    backbone = load_backbone(str(folder))
    check(backbone)
    x = batch(backbone)
    with torch.no_grad():
        expected = model.encode_image(x)
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]], expected)
    assert backbone.preprocess.mean == (0.4, 0.5, 0.6)
    assert [t.name for t in backbone.taps] == ["blocks.0", "blocks.1", "pooled"]
    assert backbone.taps[0].prefix == 1


@pytest.mark.parametrize("spec", ["timm:resnet152?weights=none", "torchvision:resnet152?weights=none"])
def test_resnet152_has_the_shapes_that_were_asked_for(spec):
    backbone = load_backbone(spec)
    shapes = {alias: backbone.resolve([alias])[0].shape for alias in ("early", "middle", "late")}
    assert shapes == {"early": (256, 56, 56), "middle": (1024, 14, 14), "late": (2048, 1, 1)}
    assert {"layer1", "layer1.0", "layer3.35", "layer4"} <= {t.name for t in backbone.taps}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "swin_t"])
def test_torchvision(name):
    backbone = load_backbone(f"torchvision:{name}?weights=none", seed=3)
    check(backbone)
    x = batch(backbone, 1)
    model = backbone.module.model
    seen = []
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    handle = linear.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    with torch.no_grad():
        logits = model(x)
    handle.remove()
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]], seen[0])
    torch.testing.assert_close(backbone.classify(x), logits)
    assert backbone.labels[281].startswith("tabby")


@pytest.mark.parametrize("family", ["resnet", "vit", "swin"])
def test_traced_equals_eager(family, timm_folder):
    backbone = load_backbone(str(timm_folder(family)[0]))
    module = TappedModule(backbone, backbone.resolve(["early", "middle", "late"]), "mean").eval()
    h, w = backbone.preprocess.size
    pictures = torch.randint(0, 256, (3, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(module, pictures[:1], check_trace=False)
    for a, b in zip(traced(pictures), module(pictures), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
