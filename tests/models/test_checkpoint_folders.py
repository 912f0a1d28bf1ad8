"""Checkpoints as training repositories write them: the features are those of the library's own model with the same weights."""

from __future__ import annotations

import builtins
import json
import re
import sys
import types
from functools import partial
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.models import checkpoint_samples as samples
from tests.models.checkpoint_samples import CNN, SHADOWS, VIT, args, hf_same, hf_vit, made, no_fc, optimizer, pre, same
from timm.models._hub import save_for_hf
from torchvision import models

from visus import load_dual
from visus.errors import DataError
from visus.models import (
    folders,
    from_torchvision,
    heads,
    load_backbone,
    preprocess_hf,
)

clip_weights = samples.clip_weights
resnets = samples.resnets
said = samples.said
vit = samples.vit


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
