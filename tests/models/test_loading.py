"""Names, options, files and the missing network: what goes wrong is said in one line, at once."""

from __future__ import annotations

import re
import socket
import time
from threading import Event

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torchvision import models

from visus.errors import DataError, OfflineError, SpecError
from visus.models import hub, load_backbone

SMALL = "timm:mobilenetv3_small_050"


def say(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("timm:resnt50", "resnet50"),
        ("timm:resnet50.nonsense", "resnet50.d_in1k"),
        ("torchvision:resnet51", "resnet50"),
        ("torchvision:resnet50@V9", "IMAGENET1K_V2"),
        ("openclip:ViT-B-23", "ViT-B-32"),
        ("openclip:ViT-B-32@openia", "openai"),
        ("visus:effnet", "effnet-lite0"),
        ("resnet50", "timm:resnet50"),
        ("tim:resnet50", "timm"),
        ("./nowhere", "check the path"),
        (SMALL + "?weights=nome", "weights=none"),
        (SMALL + "?weight=none", "weights"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(spec, near):
    with pytest.raises(SpecError) as error:
        load_backbone(spec)
    assert near in say(error)


HUB = [
    "timm:resnet18",
    "timm:resnet18.a1_in1k",
    "hf:google/vit-base-patch16-224",
    "torchvision:resnet18@IMAGENET1K_V1",
    "openclip:ViT-B-32@openai",
]


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("spec", HUB)
def test_without_permission_nothing_is_fetched(spec, empty_caches, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(OfflineError) as error:
        load_backbone(spec)
    assert "--download" in say(error)


@pytest.mark.parametrize("spec", HUB)
def test_without_a_network_the_answer_comes_within_five_seconds(spec, empty_caches, monkeypatch):
    def dead(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", dead)
    monkeypatch.setattr(socket, "create_connection", dead)
    monkeypatch.setattr(socket, "getaddrinfo", dead)
    start = time.perf_counter()
    with pytest.raises(OfflineError) as error:
        load_backbone(spec, download=True)
    assert time.perf_counter() - start < 5
    assert "cannot be reached" in say(error)
    assert "put it" in say(error)


def test_a_network_that_swallows_everything_does_not_hang(empty_caches, monkeypatch):
    gate = Event()
    monkeypatch.setattr(hub, "PATIENCE", 0.2)

    def swallow(*args, **kwargs):
        gate.wait(10)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", swallow)
    start = time.perf_counter()
    assert not hub.reachable("https://example.org", 0.2)
    gate.set()
    assert time.perf_counter() - start < 2


def test_timm_weights_in_the_local_cache_are_used(empty_caches, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        state = timm.create_model("mobilenetv3_small_050").state_dict()
    repo = tmp_path / "hub" / "models--timm--mobilenetv3_small_050.lamb_in1k"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in state.items()}, str(repo / "snapshots" / "abc" / "model.safetensors"))
    backbone = load_backbone(SMALL)
    assert all(torch.equal(v, state[k]) for k, v in backbone.module.model.state_dict().items())
    assert not backbone.random


def test_torchvision_weights_in_the_local_cache_are_used_under_their_old_names(empty_caches, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        state = models.densenet121().state_dict()
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in state.items()}
    torch.save(old, folder / models.DenseNet121_Weights.DEFAULT.url.split("/")[-1])
    backbone = load_backbone("torchvision:densenet121")
    assert all(torch.equal(v, state[k]) for k, v in backbone.module.model.state_dict().items())


def test_random_init_is_seeded_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (load_backbone(SMALL + "?weights=none", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.random
    assert not a.module.training
    assert not any(p.requires_grad for p in a.module.parameters())


@pytest.fixture
def weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return timm.create_model("mobilenetv3_small_050", num_classes=4).state_dict()


@pytest.mark.parametrize("wrap", [
    lambda s: s,
    lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
    lambda s: {"model": {f"model.{k}": v for k, v in s.items()}},
    lambda s: {"teacher": {f"module.backbone.{k}": v for k, v in s.items()}},
])  # fmt: skip
def test_a_file_of_weights_loads_whatever_wraps_it(wrap, weights, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(wrap(weights), file)
    backbone = load_backbone(f"{file}?arch={SMALL}")
    loaded = backbone.module.model.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in weights.items())
    assert backbone.labels == ("class 0", "class 1", "class 2", "class 3")
    assert not backbone.random


def test_a_safetensors_file_needs_its_architecture(weights, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, str(file))
    assert load_backbone(f"{file}?arch={SMALL}").labels
    with pytest.raises(SpecError) as error:
        load_backbone(str(file))
    assert "?arch=" in say(error)


def test_weights_that_do_not_fit_are_counted_and_named(weights, tmp_path):
    weights.pop("conv_stem.weight")
    weights["stranger"] = torch.zeros(2)
    file = tmp_path / "weights.pt"
    torch.save(weights, file)
    with pytest.raises(DataError) as error:
        load_backbone(f"{file}?arch={SMALL}")
    assert "1 missing (conv_stem.weight)" in say(error)
    assert "1 unexpected (stranger)" in say(error)


class Bomb:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self):
        return (open, (self.flag, "w"))


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path):
    flag = tmp_path / "it-ran"
    file = tmp_path / "weights.pt"
    torch.save({"state_dict": Bomb(str(flag))}, file)
    with pytest.raises(DataError) as error:
        load_backbone(f"{file}?arch={SMALL}")
    assert "refused" in say(error)
    assert not flag.exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", bytes(range(256)) * 40])
def test_a_damaged_file_is_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_backbone(f"{tmp_path / name}?arch={SMALL}")
    assert name in say(error)


def test_a_folder_that_is_no_checkpoint_is_said_to_be_none(tmp_path):
    with pytest.raises(DataError) as error:
        load_backbone(str(tmp_path))
    assert "config.json" in say(error)


def test_a_transformers_folder_with_a_tensor_missing_is_refused(hf_folder):
    folder, _ = hf_folder("vit")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(k for k in tensors if "layers.1" in k or "layer.1" in k))
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(DataError) as error:
        load_backbone(str(folder))
    assert "1 tensors missing" in say(error)


def test_forward_stops_behind_the_deepest_tap_and_hooks_come_off_after_a_failure():
    backbone = load_backbone("timm:resnet18?weights=none")
    ran = []
    handle = backbone.module.model.layer4.register_forward_hook(lambda *a: ran.append(1))
    backbone.forward(torch.zeros(1, 3, 64, 64), backbone.resolve(["early", "middle"]))
    assert not ran
    handle.remove()
    with pytest.raises(RuntimeError):
        backbone.forward(torch.zeros(1, 4, 64, 64), backbone.taps)
    assert not any(m._forward_hooks for m in backbone.module.modules())


def test_batch_norm_stays_frozen_even_when_the_module_was_left_in_training_mode():
    backbone = load_backbone("timm:resnet18?weights=none")
    backbone.module.train()
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    out = backbone.forward(x, backbone.resolve(["late"]))["global_pool"]
    assert all(torch.equal(before[k], v) for k, v in backbone.module.state_dict().items())
    assert backbone.module.training
    backbone.module.eval()
    assert torch.equal(out, backbone.forward(x, backbone.resolve(["late"]))["global_pool"])


def test_the_shipped_model_has_its_imagenet_weights():
    backbone = load_backbone("visus:effnet-lite0")
    assert backbone.resolve(["late"])[0].shape == (1280, 1, 1)
    assert not backbone.random
    assert len(backbone.labels) == 1000
    twin = load_backbone("visus:effnet-lite0?weights=none")
    assert twin.random
    assert twin.preprocess == backbone.preprocess
    assert [t.shape for t in twin.taps] == [t.shape for t in backbone.taps]
    assert np.isfinite(backbone.forward(torch.zeros(1, 3, 224, 224), backbone.taps)["global_pool"].numpy()).all()
