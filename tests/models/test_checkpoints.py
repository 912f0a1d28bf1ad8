"""Checkpoints as training repositories write them: the features are those of the library's own model with the same weights."""

from __future__ import annotations

import argparse
import json
import sys
import types
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tests.models import checkpoint_samples as samples
from tests.models.checkpoint_samples import CNN, FILES, RESNETS, SIZES, VIT, Run, args, made, optimizer, pre, same
from tests.models.test_processors import ours, picture
from timm.data import create_transform

from visus import load_dual
from visus.errors import DataError, SpecError
from visus.models import (
    load_backbone,
)
from visus.models.dual_open import is_dual

clip_weights = samples.clip_weights
resnets = samples.resnets
said = samples.said
vit = samples.vit


@pytest.mark.parametrize("name", FILES)
def test_the_right_weights_are_found(name, vit, said, tmp_path):
    write, head = FILES[name]
    model, other = vit
    file = tmp_path / "w.pth"
    torch.save(write(model, other), file)
    if name in ("half", "bfloat"):
        dtype = {"half": torch.half, "bfloat": torch.bfloat16}[name]
        model = made()
        model.load_state_dict({k: v.to(dtype) for k, v in model.state_dict().items()})
    same(f"{file}?arch=timm:{VIT}", model, head=head)
    if "ema" in name or name in ("dino", "mocov3", "byol"):
        assert any("was taken" in text for text in said), said
    if name in ("dino", "mae", "mocov3", "lightning", "segmentation"):
        assert any("left out" in text for text in said), said
    assert all("\n" not in text for text in said)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("dino", "student"),
        ("mocov3", "momentum_encoder"),
        ("timm's ema", "state_dict"),
        ("ema as module", "model"),
        ("byol", "target_encoder"),
    ],
)
def test_a_key_takes_the_other(name, key, vit, said, tmp_path):
    write, head = FILES[name]
    torch.save(write(*vit), tmp_path / "w.pth")
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}&key={key}", vit[1], head=head)
    with pytest.raises(SpecError, match="key= may be"):
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}&key=nowhere")


def test_two_models_that_no_rule_tells_apart_are_named(vit, tmp_path):
    torch.save({"left": vit[0].state_dict(), "right": vit[1].state_dict()}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"'left', 'right'; say which with \?key="):
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}")
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}&key=right", vit[1], head=True)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_follow_from_the_tensors(name, said, tmp_path):
    model = made(**SIZES[name])
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(tmp_path / "w.safetensors"))
    heads = "&num_heads=3" if name == "width" else ""
    found = same(f"{tmp_path / 'w.safetensors'}?arch=timm:{VIT}{heads}", model, head=model.num_classes > 0)
    assert found.preprocess.size == (SIZES[name].get("img_size", 32),) * 2
    assert any("sizes of" in text for text in said)


def test_what_the_tensors_do_not_say_is_asked(tmp_path, said):
    model = made(img_size=(48, 32), num_heads=2, embed_dim=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(SpecError, match=r"64 wide, .* is 192 wide with 3 heads.*\?num_heads="):
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}")
    with pytest.raises(SpecError, match=r"\?img_size="):
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}&num_heads=2")
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}&num_heads=2&img_size=48x32", model, head=True)


@pytest.mark.parametrize("change", ["missing", "deeper", "foreign parameter", "another width"])
def test_what_does_not_fit_is_refused_by_name(change, vit, tmp_path, said):
    state = dict(made(CNN).state_dict())
    arch = CNN
    if change == "missing":
        state.pop("conv_head.weight")
    elif change == "deeper":
        state["blocks.5.1.conv.weight"] = torch.zeros(3)
    elif change == "another width":
        state["conv_head.weight"] = state["conv_head.weight"][:4]
    else:
        arch, state = VIT, {**vit[0].state_dict(), "rope_mixed": torch.zeros(3)}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"1 (missing|unexpected|of another shape)") as error:
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:{arch}")
    assert "\n" not in str(error.value)


def test_timms_training_file_says_its_architecture_and_its_pictures(tmp_path, said):
    model = made(CNN)
    told = args(
        model=CNN,
        img_size=64,
        input_size=None,
        mean=[0.4, 0.5, 0.6],
        std=[0.3, 0.2, 0.1],
        crop_pct=1.0,
        interpolation="bilinear",
    )
    torch.save({"arch": CNN, "state_dict": model.state_dict(), "version": 2, "args": told}, tmp_path / "last.pth.tar")
    backbone = same(str(tmp_path / "last.pth.tar"), model, head=True)

    transform = create_transform(
        (3, 64, 64), mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1), crop_pct=1.0, interpolation="bilinear"
    )
    torch.testing.assert_close(
        ours(backbone.preprocess, picture(61, 29)), transform(picture(61, 29)), rtol=0, atol=1e-5
    )
    torch.save({"arch": "resnet18", "state_dict": {"x": torch.zeros(1)}, "epoch": 1}, tmp_path / "imagenet.pth")
    with pytest.raises(SpecError, match="the file calls it 'resnet18'"):
        load_backbone(str(tmp_path / "imagenet.pth"))


def test_shards_and_a_damaged_index(tmp_path, vit, said):
    state = vit[0].state_dict()
    where = {k: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, k in enumerate(state)}
    for file in set(where.values()):
        save_file({k: v.contiguous() for k, v in state.items() if where[k] == file}, str(tmp_path / file))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    same(f"{index}?arch=timm:{VIT}", vit[0], head=True)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match="which is not beside it"):
        load_backbone(f"{index}?arch=timm:{VIT}")


def test_a_torchscript_archive_gives_its_tensors_and_runs_nothing(tmp_path, vit, said, monkeypatch):
    traced = torch.jit.trace(vit[0], torch.zeros(1, 3, 32, 32), check_trace=False)
    traced.save(str(tmp_path / "w.pt"))

    def never(*args, **kwargs):
        raise AssertionError("its code was loaded")

    monkeypatch.setattr(torch.jit, "load", never)
    same(f"{tmp_path / 'w.pt'}?arch=timm:{VIT}", vit[0], head=True)


def test_settings_of_other_libraries_are_read_as_values(tmp_path, vit, said, monkeypatch):
    for home, name in (("omegaconf.dictconfig", "DictConfig"), ("easydict", "EasyDict")):
        module = types.ModuleType(home)
        kind = type(name, (dict,) if name == "EasyDict" else (), {"__module__": home})
        setattr(module, name, kind)
        monkeypatch.setitem(sys.modules, home.partition(".")[0], types.ModuleType(home.partition(".")[0]))
        monkeypatch.setitem(sys.modules, home, module)
        value = kind()
        value.__dict__["lr"] = 3
        torch.save({"state_dict": vit[0].state_dict(), "hyper_parameters": value}, tmp_path / f"{name}.ckpt")
        monkeypatch.delitem(sys.modules, home)
        same(f"{tmp_path / name}.ckpt?arch=timm:{VIT}", vit[0], head=True)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", ["model", "model in a dictionary", "function", "code"])
def test_code_is_refused_and_named(what, legacy, tmp_path, vit):
    content = {"model": vit[0], "model in a dictionary": {"model": vit[0], "epoch": 1}, "function": {"model": vit[0].state_dict(), "f": print},
               "code": {"state_dict": vit[0].state_dict(), "args": argparse.Namespace(x=Run(str(tmp_path / "ran")))}}[what]  # fmt: skip
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match="refused") as error:
        load_backbone(f"{tmp_path / 'w.pt'}?arch=timm:{VIT}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    if what.startswith("model") and not legacy:
        assert "whole pickled model" in str(error.value)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_of_any_training_loads_in_both_libraries(name, library, resnets, said, tmp_path):
    write, head = RESNETS[name]
    model, other = resnets
    torch.save(write(model, other), tmp_path / "w.pth")
    backbone = load_backbone(f"{tmp_path / 'w.pth'}?arch={library}:resnet18")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    handle = model.fc.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    with torch.no_grad():
        logits = model(x)
    handle.remove()
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, seen[0], rtol=1e-5, atol=1e-5)
    assert (backbone.labels is not None) == head
    if head:
        assert len(backbone.labels) == 7
        torch.testing.assert_close(backbone.classify(x), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["training", "archive", "bare", "48 pixels"])
def test_an_open_clip_file_gives_both_towers(form, clip_weights, said, tmp_path, monkeypatch):
    cfg, models = clip_weights
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", cfg)
    model = models[form == "archive"]
    state = dict(model.state_dict())
    if form == "48 pixels":
        cfg = {**cfg, "vision_cfg": {**cfg["vision_cfg"], "image_size": 48}}
        model = open_clip.CLIP(**cfg).eval()
        state = dict(model.state_dict())
    file = tmp_path / "epoch_3.pt"
    if form == "training":
        torch.save(
            {"epoch": 3, "name": "run", "state_dict": pre("module.", state), "optimizer": optimizer(model)}, file
        )
    elif form == "archive":

        class Clip(torch.nn.Module):
            """As OpenAI's archives: the weights in half precision beside three numbers."""

            def __init__(self) -> None:
                super().__init__()
                for name, value in state.items():
                    owner: Any = self
                    *path, last = name.split(".")
                    for part in path:
                        if not hasattr(owner, part):
                            owner.add_module(part, torch.nn.Module())
                        owner = getattr(owner, part)
                    owner.register_buffer(last, value.half())
                for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
                    self.register_buffer(name, torch.tensor(value))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        torch.jit.script(Clip()).save(str(file))
        model.load_state_dict({k: v.half() for k, v in state.items()})
    else:
        torch.save(state, file)
    spec = f"{file}?arch=openclip:Tiny"
    assert is_dual(spec)
    encoder, backbone = load_dual(spec), load_backbone(spec)
    x = torch.randn(2, 3, *encoder.preprocess.size, generator=torch.Generator().manual_seed(0))
    texts = ["a cat", "two dogs in the snow"]
    with torch.no_grad():
        images = model.encode_image(x)
        words = model.encode_text(open_clip.tokenize(texts))
    torch.testing.assert_close(encoder.image_embedding(x).detach(), images, rtol=1e-5, atol=1e-5)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, images, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(texts, unit=False), words.numpy(), atol=1e-5)
    assert any(("QuickGELU, as an archive" if form == "archive" else "GELU, as openclip:Tiny") in text for text in said)
