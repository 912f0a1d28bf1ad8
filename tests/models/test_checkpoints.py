"""Checkpoints as training repositories write them: the features are those of the library's own model with the same weights."""

from __future__ import annotations

import argparse
import builtins
import datetime
import json
import pathlib
import random
import re
import sys
import types
from functools import partial
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.models.test_processors import ours, picture
from timm.data import create_transform
from timm.models._hub import save_for_hf
from torchvision import models

from visus import load_dual
from visus.errors import DataError, SpecError
from visus.models import (
    checkpoint,
    folders,
    from_openclip,
    from_timm,
    from_torchvision,
    heads,
    load_backbone,
    preprocess_hf,
    sizes,
    weights_file,
)
from visus.models.dual_open import is_dual

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3}
VIT = "vit_tiny_patch16_224"
CNN = "mobilenetv3_small_050"


def made(name: str = VIT, seed: int = 1, **kwargs: Any) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, **{**(SMALL if name == VIT else {}), "num_classes": 5, **kwargs}).eval()
        for p in model.parameters():
            p.data += 0.02 * torch.randn_like(p)
    return model


@pytest.fixture(scope="module")
def vit():
    return made(), made(seed=2)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    found: list[str] = []
    for module in (checkpoint, sizes, from_timm, weights_file, from_openclip):
        monkeypatch.setattr(module, "note", found.append)
    for module in (checkpoint, sizes):
        monkeypatch.setattr(module, "caution", found.append)
    return found


def pre(prefix: str, state: dict) -> dict:
    return {prefix + k: v for k, v in state.items()}


def bare(state: dict) -> dict:
    return {k: v for k, v in state.items() if not k.startswith("head.")}


def args(**kwargs: Any) -> argparse.Namespace:
    return argparse.Namespace(
        lr=np.float64(0.1), out=pathlib.Path("runs"), when=datetime.datetime(2024, 1, 1), tags={"a"}, **kwargs
    )


def optimizer(model: torch.nn.Module) -> dict:
    tool = torch.optim.AdamW(model.parameters())
    return {**tool.state_dict(), "state": {i: {"exp_avg": p.detach()} for i, p in enumerate(model.parameters())}}


def decoder() -> dict:
    return {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 48), "decoder_pos_embed": torch.zeros(1, 17, 8),
            "decoder_blocks.0.norm1.weight": torch.zeros(8), "decoder_pred.weight": torch.zeros(192, 8)}  # fmt: skip


# name -> what is written, of the model (a) and another of the same shape (b); whether (a)'s classifier is among it.
FILES = {
    "dino": (lambda a, b: {
        "student": pre("module.backbone.", bare(b.state_dict())) | {"module.head.mlp.0.weight": torch.zeros(4, 48)},
        "teacher": pre("backbone.", bare(a.state_dict())) | {"head.mlp.0.weight": torch.zeros(4, 48), "head.last_layer.weight_g": torch.ones(4, 1)},
        "optimizer": optimizer(a), "epoch": 100, "args": args(arch="vit_small"), "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": 2.0},
    }, False),
    "mae": (lambda a, b: {"model": bare(a.state_dict()) | decoder(), "optimizer": optimizer(a), "epoch": 1, "scaler": {}, "args": args()}, False),
    "mocov3": (lambda a, b: {
        "epoch": 3, "arch": "vit_small", "optimizer": optimizer(a), "scaler": {},
        "state_dict": pre("module.base_encoder.", bare(a.state_dict())) | pre("module.momentum_encoder.", bare(b.state_dict()))
        | {"module.base_encoder.head.0.weight": torch.zeros(4, 48), "module.predictor.0.weight": torch.zeros(4, 4)},
    }, False),
    "lightning": (lambda a, b: {
        "state_dict": pre("net.model.", a.state_dict()) | {"criterion.weight": torch.ones(5), "val_acc.total": torch.tensor(3)},
        "hyper_parameters": {"lr": 0.1, "out": pathlib.Path("x")}, "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": torch.tensor(0.5)}},
        "optimizer_states": [optimizer(a)], "lr_schedulers": [], "loops": {"fit_loop": {"state_dict": {}}}, "pytorch-lightning_version": "2.4.0",
    }, True),
    "timm's ema": (lambda a, b: {
        "epoch": 3, "arch": VIT, "state_dict": b.state_dict(), "state_dict_ema": a.state_dict(), "optimizer": optimizer(a), "version": 2,
        "args": args(), "metric": np.float64(71.2),
    }, True),
    "ema as module": (lambda a, b: {"model": b.state_dict(), "model_ema": pre("module.", a.state_dict())}, True),
    "ema inside": (lambda a, b: {"state_dict": pre("model.", b.state_dict()) | pre("ema_model.module.", a.state_dict())}, True),
    "data parallel": (lambda a, b: pre("module.", a.state_dict()), True),
    "compiled": (lambda a, b: {"model": pre("_orig_mod.", a.state_dict())}, True),
    "compiled inside": (lambda a, b: {"state_dict": pre("module._orig_mod.backbone.", bare(a.state_dict()))}, False),
    "fsdp": (lambda a, b: {"model": {k.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): v for k, v in a.state_dict().items()}}, True),
    "bare": (lambda a, b: bare(a.state_dict()), False),
    "half": (lambda a, b: {k: v.half() for k, v in a.state_dict().items()}, True),
    "bfloat": (lambda a, b: {"net": {k: v.bfloat16() for k, v in a.state_dict().items()}}, True),
    "segmentation": (lambda a, b: {"state_dict": pre("backbone.", bare(a.state_dict())) | {"decode_head.conv_seg.weight": torch.zeros(3, 48, 1, 1)},
                                   "meta": {"CLASSES": ("a", "b"), "seed": np.int64(3)}}, False),
    "byol": (lambda a, b: {"online_encoder": bare(a.state_dict()), "target_encoder": bare(b.state_dict()), "step": torch.tensor(3)}, False),
    "rng": (lambda a, b: {"model": a.state_dict(), "numpy": np.random.get_state(), "python": random.getstate(), "sn": types.SimpleNamespace(a=1)},
            True),
    "the same twice": (lambda a, b: {"net": a.state_dict(), "network": a.state_dict()}, True),
}  # fmt: skip


def same(spec: str, model: torch.nn.Module, *, head: bool, tolerance: float = 1e-5) -> Any:
    backbone = load_backbone(spec)
    h, w = backbone.preprocess.size
    x = torch.randn(2, backbone.preprocess.channels, h, w, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        logits = model(x)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, features.flatten(1), rtol=tolerance, atol=tolerance)
    assert (backbone.labels is not None) == head
    if head:
        torch.testing.assert_close(backbone.classify(x), logits, rtol=tolerance, atol=tolerance)
    return backbone


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


SIZES = {
    "pictures": {"img_size": 48},
    "patch": {"patch_size": 4},
    "depth": {"depth": 4},
    "width": {"embed_dim": 96},
    "grey": {"in_chans": 1},
    "classes": {"num_classes": 11},
    "no classes": {"num_classes": 0},
    "registers": {"reg_tokens": 4},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "pooled patches": {"global_pool": "avg"},
    "layer scale": {"init_values": 0.1},
    "q and k normed": {"qk_norm": True},
    "mlp": {"mlp_ratio": 2},
    "all": {
        "img_size": 40,
        "patch_size": 4,
        "depth": 1,
        "in_chans": 1,
        "num_classes": 2,
        "reg_tokens": 2,
        "init_values": 0.1,
    },
}


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


class Settings(dict):
    """Stands for the classes of a settings library that is not installed here."""


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


class Run:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self):
        return (open, (self.flag, "w"))


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


RESNETS = {
    "moco": (lambda a, b: {"epoch": 200, "arch": "resnet18", "state_dict": pre("module.encoder_q.", no_fc(a)) | pre("module.encoder_k.", no_fc(b)) | {
        "module.encoder_q.fc.0.weight": torch.zeros(4, 512), "module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1)}}, False),
    "simclr": (lambda a, b: {"arch": "resnet18", "state_dict": pre("backbone.", no_fc(a)) | {"backbone.fc.0.weight": torch.zeros(4, 512)}}, False),
    "swav": (lambda a, b: pre("module.", no_fc(a)) | {"module.projection_head.0.weight": torch.zeros(4), "module.prototypes.weight": torch.zeros(4)},
             False),
    "detection": (lambda a, b: {"model": pre("backbone.body.", no_fc(a)) | {"rpn.head.conv.0.0.weight": torch.zeros(4)}}, False),
    "classes": (lambda a, b: {"state_dict": pre("module.", a.state_dict()), "best_acc1": torch.tensor(3.0), "arch": "resnet18"}, True),
}  # fmt: skip


def no_fc(model: torch.nn.Module) -> dict:
    return {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}


@pytest.fixture(scope="module")
def resnets():
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(models.resnet18(num_classes=7).eval())
    return found


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


@pytest.fixture(scope="module")
def clip_weights():
    """A small CLIP of open_clip's, and the architecture's settings, as a file among its configs would have them."""
    cfg = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    found = {}
    for quick in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            found[quick] = open_clip.CLIP(**cfg, quick_gelu=quick).eval()
            for p in found[quick].parameters():
                p.data += 0.1 * torch.randn_like(p)
    return cfg, found


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


def hf_vit(folder: Any, *, labels: int = 3, seed: int = 1, kind: str = "ViTForImageClassification") -> Any:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8, num_labels=labels
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind)(config).eval()
        for p in model.parameters():
            p.data += 0.05 * torch.randn_like(p)
    model.save_pretrained(folder)
    return model


def hf_same(spec: Any, model: torch.nn.Module) -> Any:
    backbone = load_backbone(str(spec))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.classify(x), model(pixel_values=x).logits, rtol=1e-5, atol=1e-5)
    return backbone


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_transformers_folder_of_wrapped_names(prefix, file, tmp_path):
    model = hf_vit(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    if file.endswith("bin"):
        torch.save(pre(prefix, state), tmp_path / file)
    else:
        save_file(pre(prefix, state), str(tmp_path / file), metadata={"format": "pt"})
    hf_same(tmp_path, model)


def test_a_trainers_run_gives_its_best_or_newest_checkpoint(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(folders, "note", said.append)
    monkeypatch.setattr(preprocess_hf, "note", said.append)
    models = {n: hf_vit(tmp_path / f"checkpoint-{n}", seed=n) for n in (90, 500, 1000)}
    for n in models:
        folder = tmp_path / f"checkpoint-{n}"
        torch.save(optimizer(models[n]), folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": None, "global_step": n}))
    hf_same(tmp_path / "checkpoint-90", models[90])
    hf_same(tmp_path, models[1000])
    assert any(
        "checkpoint-90, checkpoint-500, checkpoint-1000: checkpoint-1000 was taken, the newest" in text for text in said
    )
    state = {"best_model_checkpoint": r"D:\runs\vit\checkpoint-500"}
    (tmp_path / "checkpoint-1000" / "trainer_state.json").write_text(json.dumps(state))
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.1, 0.2, 0.3],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert hf_same(tmp_path, models[500]).preprocess.mean == pytest.approx((0.1, 0.2, 0.3))
    assert any("the best by its trainer_state.json" in text for text in said)


def test_code_of_a_repository_is_never_run_and_nobody_is_asked(tmp_path, monkeypatch):
    hf_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig", "AutoModel": "mine.MyModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    def never(*args: object) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(builtins, "input", never)
    with pytest.raises(DataError, match="needs code of its own") as error:
        load_backbone(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("classifies", [True, False])
def test_adapters_are_merged_into_their_base(classifies, tmp_path, monkeypatch):
    base = tmp_path / "base"
    hf_vit(base, kind="ViTModel", labels=3)
    if classifies:
        model = transformers.ViTForImageClassification.from_pretrained(base, num_labels=4)
    else:
        model = transformers.ViTModel.from_pretrained(base, add_pooling_layer=False)
    names = sorted(
        {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "attention" in n}
    )
    config = LoraConfig(r=2, lora_alpha=8, target_modules=names, modules_to_save=["classifier"] if classifies else None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        adapted = get_peft_model(model, config).eval()
        for name, p in adapted.named_parameters():
            if "lora_" in name or "classifier" in name:
                p.data += 0.2 * torch.randn_like(p)
    folder = tmp_path / "adapters"
    adapted.save_pretrained(folder)
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": "../base"}))
    backbone = load_backbone(str(folder))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = adapted(pixel_values=x)
    if classifies:
        assert len(backbone.labels) == 4
        torch.testing.assert_close(backbone.classify(x), out.logits, rtol=1e-4, atol=1e-4)
    else:
        late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
        torch.testing.assert_close(late, out.last_hidden_state[:, 0], rtol=1e-4, atol=1e-4)
    (folder / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="is not there"):
        load_backbone(str(folder))


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "epoch_2.pt", "final.pth"])
def test_an_open_clip_folder_takes_any_torch_file_and_never_stays_random(name, clip_weights, tmp_path):
    """A folder with a lone .pt was once built with random weights, without a word."""
    cfg, models = clip_weights
    pixels = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2], "resize_mode": "squash", "interpolation": "bilinear"}
    body = {"model_cfg": {**cfg, "quick_gelu": True}, "preprocess_cfg": pixels}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(body))
    with pytest.raises(DataError, match="no weights"):
        load_backbone(str(tmp_path))
    state = models[True].state_dict()
    torch.save({"state_dict": pre("module.", state), "epoch": 1, "name": "x"}, tmp_path / name)
    backbone, encoder = load_backbone(str(tmp_path)), load_dual(str(tmp_path))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = models[True].encode_image(x)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.image_embedding(x), expected, rtol=1e-5, atol=1e-5)
    assert backbone.preprocess.mean == (0.4, 0.5, 0.6)
    assert backbone.preprocess.resize == (32, 32)
    if name == "final.pth":
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(DataError, match="several files of weights"):
            load_backbone(str(tmp_path))


def test_repositories_of_timm_and_open_clip_in_the_hubs_cache_load(clip_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(name: str) -> Any:
        repo = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        (repo / "snapshots" / commit).mkdir(parents=True)
        return repo / "snapshots" / commit

    model = made(CNN)
    save_for_hf(model, str(snapshot("some/cnn")), safe_serialization=True)
    same("hf:some/cnn", model, head=True)
    cfg, models = clip_weights
    folder = snapshot("some/clip")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    save_file(
        {k: v.contiguous() for k, v in models[False].state_dict().items()}, str(folder / "open_clip_model.safetensors")
    )
    backbone = load_backbone("hf:some/clip")
    x = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        expected = models[False].encode_image(x)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_timm_folder_of_wrapped_names(prefix, tmp_path):
    model = made(CNN)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"state_dict": pre(prefix, model.state_dict()), "args": args()}, tmp_path / "pytorch_model.bin")
    same(str(tmp_path), model, head=True)


def test_files_of_any_name_that_torch_wrote(resnets, said, tmp_path):
    trunk = {f"_feature_blocks.{k}": v for k, v in no_fc(resnets[0]).items()}
    content = {
        "classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": {"0.clf.weight": torch.zeros(3)}}}},
        "iteration": 3,
    }
    for name in ("model_final_checkpoint_phase999.torch", "weights"):
        torch.save(content, tmp_path / name)
        assert load_backbone(f"{tmp_path / name}?arch=timm:resnet18").labels is None
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07\x12")
    with pytest.raises(DataError, match="no checkpoint that visus reads"):
        load_backbone(f"{tmp_path / 'model.onnx'}?arch=timm:resnet18")


@pytest.mark.parametrize(
    "kind", ["grey", "one output", pytest.param("vit of 64 pixels", marks=pytest.mark.slow), "half a network"]
)
def test_torchvision_files_at_their_own_sizes(kind, said, tmp_path, monkeypatch):
    monkeypatch.setattr(from_torchvision, "note", said.append)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if kind.startswith("vit"):
            model = models.vit_b_32(image_size=64, num_classes=3).eval()
        else:
            model = models.resnet18(num_classes=1 if kind == "one output" else 3).eval()
        if kind == "grey":
            model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    state = model.state_dict()
    if kind == "half a network":
        state = {k: v for k, v in state.items() if not k.startswith("layer4.1")}
    torch.save({"state_dict": pre("module.", state)}, tmp_path / "w.pth")
    spec = f"{tmp_path / 'w.pth'}?arch=torchvision:{'vit_b_32' if kind.startswith('vit') else 'resnet18'}"
    if kind == "half a network":
        with pytest.raises(DataError, match=r"missing \(layer4\.1"):
            load_backbone(spec)
        return
    backbone = load_backbone(spec)
    h, w = backbone.preprocess.size
    assert (h, w) == ((64, 64) if kind.startswith("vit") else (224, 224))
    x = torch.randn(1, backbone.preprocess.channels, h, w, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(x)
    found = backbone.classify(x)
    if kind == "one output":
        torch.testing.assert_close(found.softmax(1)[:, 1], logits.sigmoid()[:, 0])
        assert len(backbone.labels) == 2
    else:
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
        assert backbone.labels == ("class 0", "class 1", "class 2")


def test_losses_and_layers_among_hyper_parameters_are_inert(vit, said, tmp_path):
    extras = {"criterion": torch.nn.CrossEntropyLoss(label_smoothing=0.1), "optimizer": partial(torch.optim.AdamW, lr=1e-3), "act": torch.nn.GELU,
              "net": vit[1]}  # fmt: skip
    torch.save(
        {"state_dict": pre("net.", vit[0].state_dict()), "hyper_parameters": extras, "epoch": 3}, tmp_path / "last.ckpt"
    )
    same(f"{tmp_path / 'last.ckpt'}?arch=timm:{VIT}", vit[0], head=True)


@pytest.mark.parametrize("chunked", [False, True])
def test_dinov2s_own_names_are_timms(chunked, said, tmp_path):
    """Its registers have another name, and its class token a place of its own in the positional embedding."""
    name, small = "vit_small_patch14_reg4_dinov2", {"embed_dim": 48, "depth": 2, "num_heads": 6}
    model = made(name, **small, num_classes=0)
    state = dict(model.state_dict())
    place = torch.randn(1, 1, 48)
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([place, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - place
    if chunked:  # as its training with FSDP writes them: the second number counts through the chunks
        state = {re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", k): v for k, v in state.items()}
    student = {f"student.backbone.{k}": torch.zeros_like(v) for k, v in state.items()}
    whole = {"model": pre("teacher.backbone.", {**state, "mask_token": torch.zeros(1, 48)}) | student, "iteration": 3}
    torch.save(whole if chunked else {**state, "mask_token": torch.zeros(1, 48)}, tmp_path / "dinov2.pth")
    backbone = load_backbone(f"{tmp_path / 'dinov2.pth'}?arch=timm:{name}&num_heads=6")
    x = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
    late = backbone.forward(x, backbone.resolve(["late"]))[backbone.aliases["late"]]
    torch.testing.assert_close(late, expected, rtol=1e-4, atol=1e-4)


SHADOWS = {
    "list": lambda a, b: {"model": a, "ema": {"decay": 0.99, "shadow_params": list(b.values()), "collected_params": None}},
    "callback": lambda a, b: {"state_dict": pre("model.", a), "callbacks": {"EMA": {"ema_weights": pre("model.", b)}}},
    "no dots": lambda a, b: {"state_dict": pre("model.", a) | pre("model_ema.", {k.replace(".", ""): v for k, v in b.items()})},
}  # fmt: skip


@pytest.mark.parametrize("name", SHADOWS)
def test_averaged_weights_that_have_no_names_are_said_not_to_be_taken(name, vit, said, tmp_path):
    torch.save(SHADOWS[name](*(m.state_dict() for m in vit)), tmp_path / "w.pth")
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}", vit[0], head=True)
    assert any("averaged weights that cannot be read by name" in text for text in said), said


def test_lightnings_averaging_keeps_the_average_in_the_state_dict(vit, said, tmp_path):
    a, b = (pre("model.", m.state_dict()) for m in vit)
    torch.save(
        {"state_dict": a, "current_model_state": b, "averaging_state": {"n": torch.tensor(3)}}, tmp_path / "w.pth"
    )
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}", vit[0], head=True)
    assert any("state_dict.model was taken" in text for text in said), said


def test_a_sequential_of_children_is_not_several_models(resnets, tmp_path):
    model = timm.create_model("resnet18", num_classes=0)
    torch.save(torch.nn.Sequential(*model.children()).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DataError, match="other names than this architecture's"):
        load_backbone(f"{tmp_path / 'w.pth'}?arch=timm:resnet18")


def test_a_fine_tuned_file_is_not_said_to_bring_imagenets_names(said, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "caution", lambda text: pytest.fail(text))
    torch.save(models.resnet18(num_classes=5).state_dict(), tmp_path / "w.pth")
    assert len(load_backbone(f"{tmp_path / 'w.pth'}?arch=torchvision:resnet18").labels) == 5


@pytest.mark.parametrize("order", [1, -1])
def test_a_tuple_of_weights_and_an_epoch_is_read(order, vit, said, tmp_path):
    torch.save((vit[0].state_dict(), 3)[::order], tmp_path / "w.pth")
    same(f"{tmp_path / 'w.pth'}?arch=timm:{VIT}", vit[0], head=True)


def test_a_clips_image_tower_alone_is_called_so(clip_weights, said, tmp_path, monkeypatch):
    cfg, models = clip_weights
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", cfg)
    tower = {k: v for k, v in models[0].state_dict().items() if k.startswith("visual.")}
    torch.save(tower, tmp_path / "w.pt")
    with pytest.raises(DataError, match="image tower of Tiny alone"):
        load_backbone(f"{tmp_path / 'w.pt'}?arch=openclip:Tiny")


def test_ultralytics_pickles_are_refused_with_the_way_out(tmp_path, monkeypatch):
    module = types.ModuleType("ultralytics.nn.tasks")
    kind = type("DetectionModel", (torch.nn.Linear,), {"__module__": module.__name__})
    module.DetectionModel = kind  # type: ignore[attr-defined]
    for name in ("ultralytics", "ultralytics.nn", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"epoch": -1, "model": kind(2, 2), "ema": None, "train_args": {}}, tmp_path / "yolo.pt")
    with pytest.raises(DataError, match=r"Ultralytics.*DetectionModel.*state_dict\(\) as .safetensors"):
        load_backbone(f"{tmp_path / 'yolo.pt'}?arch=timm:{VIT}")
