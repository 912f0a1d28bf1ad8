"""What a head's outputs are: one logit, labels that stand alone, numbers, and their names; in the formats in which people have them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from tests.models.small import batch
from timm.models._hub import save_for_hf
from torch.nn import functional
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock
from torchvision.transforms._presets import ImageClassification
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

from visus.errors import DataError
from visus.images import load_images
from visus.models import Backbone, load_backbone
from visus.models.classify import classify_images
from visus.models.from_torchvision import wrap
from visus.models.heads import names_of, probabilities
from visus.models.labels import imagenet_labels
from visus.models.relevance import relevance
from visus.studies.predict import predict
from visus.studies.vit import vit

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def hf(
    folder: Path, names: list[str] | int, problem: str | None = None, kind: str = "ViT", **more: Any
) -> tuple[str, Any]:
    """A small transformers classifier on disk, as its library saves it, and the model."""
    labels = (
        {"num_labels": names}
        if isinstance(names, int)
        else {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    )
    config = getattr(transformers, f"{kind}Config")(**VIT, **labels, problem_type=problem, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
        model.classifier.weight.data.normal_()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return str(folder), model


def timm_model(folder: Path, classes: int, **config: Any) -> tuple[str, Any]:
    """A small timm model on disk."""
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=classes, **args).eval()
        if classes:
            model.head.weight.data.normal_()
    save_for_hf(model, str(folder), safe_serialization=True)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_args": args, **config}))
    return str(folder), model


def own(model: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        given = model(x)
    return given if isinstance(given, torch.Tensor) else given.logits


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            noise = np.random.default_rng(k).integers(0, 40, (32, 32, 3))
            Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / name / f"{k}.png")
    return folder


@pytest.mark.parametrize(
    ("library", "names", "expected"),
    [
        ("hf", ["nsfw"], ("not nsfw", "nsfw")), ("hf", 1, ("class 0", "class 1")), ("timm", ["defect"], ("not defect", "defect")),
        ("timm", ["good", "bad"], ("good", "bad")), ("timm", None, ("class 0", "class 1")),
    ],
)  # fmt: skip
def test_one_logit_is_a_sigmoid_with_two_names(
    tmp_path, pictures, library: str, names: Any, expected: tuple[str, str]
) -> None:
    if library == "hf":
        spec, model = hf(tmp_path / "m", names, "multi_label_classification" if names != 1 else None)
    else:
        spec, model = timm_model(tmp_path / "m", 1, **({"label_names": names} if names else {}))
    backbone = load_backbone(spec)
    assert (backbone.labels, backbone.head) == (expected, "classes")
    x = batch(backbone)
    yes = torch.sigmoid(own(model, x)[:, 0])
    torch.testing.assert_close(backbone.classify(x).softmax(dim=1), torch.stack([1 - yes, yes], dim=1))
    assert relevance(backbone, x, torch.tensor([0, 0, 1])).abs().sum(dim=1).min() > 0  # also of the answer no
    result = predict([str(pictures)], model=spec)
    shown = [r[3] for r in result.tables["predictions"].rows]
    assert len(shown) == 24
    assert 0 < min(shown) <= max(shown) < 1
    assert all(abs(a + b - 1) < 1e-6 for a, b in zip(shown[::2], shown[1::2], strict=True))


def test_a_binary_head_is_judged_by_its_two_answers(tmp_path, pictures) -> None:
    spec, _ = timm_model(tmp_path / "m", 1, label_names=["blue", "red"])
    result = vit([spec], str(pictures), part=["predictions", "masking"], masked=8, keep="1,0.5", shown=2)
    ((_, top1, *_, n),) = result.tables["accuracy"].rows
    assert n >= 2
    assert 0 <= top1 <= 1
    assert set(result.tables["masking"].column("counted")) == {"accuracy"}


@pytest.mark.parametrize("library", ["hf", "timm", "tagger"])
def test_labels_that_stand_alone_are_named_as_such(tmp_path, pictures, library: str) -> None:
    names = ["indoor", "dog", "person"]
    if library == "hf":
        spec, model = hf(tmp_path / "m", names, "multi_label_classification")
    elif library == "timm":
        spec, model = timm_model(tmp_path / "m", 3, label_names=names, problem_type="multi_label_classification")
    else:
        spec, model = timm_model(tmp_path / "m", 3)
        rows = "".join(f"{900 + i},{name},0,{10 - i}\n" for i, name in enumerate(names))
        (tmp_path / "m" / "selected_tags.csv").write_text("tag_id,name,category,count\n" + rows)
    backbone = load_backbone(spec)
    assert (backbone.labels, backbone.head) == (tuple(names), "labels")
    x = batch(backbone)
    torch.testing.assert_close(
        torch.from_numpy(probabilities(backbone.classify(x).numpy(), "labels")).float(), own(model, x).sigmoid()
    )
    result = predict([str(pictures)], model=spec)
    table = result.tables["predictions"]
    assert "labels of each picture" in table.title
    assert "sigmoid of each label" in table.note
    said = {(r[0], r[2]): r[3] for r in table.rows}
    sums = {name: sum(p for (image, _), p in said.items() if image == name) for name, _ in said}
    assert any(abs(total - 1) > 0.05 for total in sums.values())
    looked = vit([spec], str(pictures), part=["predictions", "masking"], masked=8, keep="1,0.5", shown=2)
    assert "accuracy" not in looked.tables
    assert any("multi-label head" in f for f in looked.findings)
    assert set(looked.tables["masking"].column("counted")) == {"agreement"}


@pytest.mark.parametrize("count", [1, 3])
def test_a_regression_is_refused_by_name_and_its_features_are_used(tmp_path, pictures, count: int) -> None:
    spec, model = hf(tmp_path / "m", count, "regression")
    backbone = load_backbone(spec)
    with pytest.raises(DataError, match=f"regression head of {count} number"):
        predict([str(pictures)], model=spec)
    with pytest.raises(DataError, match="regression head"):
        backbone.classify(batch(backbone))
    with torch.inference_mode():
        token = model.vit(pixel_values=batch(backbone)).last_hidden_state[:, 0]
    torch.testing.assert_close(backbone.forward(batch(backbone), backbone.resolve(["late"]))["pooled"], token)
    result = vit([spec], str(pictures), part=["predictions"], shown=2)
    assert result.tables["accuracy"].column("accuracy") == (1.0,)  # by a probe: colours survive any random network


def test_a_timm_regression_is_refused_too(tmp_path, pictures) -> None:
    spec, _ = timm_model(tmp_path / "m", 2, problem_type="regression")
    with pytest.raises(DataError, match="regression head of 2 numbers"):
        predict([str(pictures)], model=spec)


@pytest.mark.parametrize("library", ["hf", "timm"])
def test_no_head_is_refused_in_one_line(tmp_path, pictures, library: str) -> None:
    if library == "timm":
        spec, _ = timm_model(tmp_path / "m", 0)
    else:
        spec, model = hf(tmp_path / "whole", 3)
        model.vit.save_pretrained(tmp_path / "m")
        (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        spec = str(tmp_path / "m")
    with pytest.raises(DataError, match="has no classifier"):
        predict([str(pictures)], model=spec)


def test_a_teachers_head_is_averaged_as_the_library_does(tmp_path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = DeiTForImageClassificationWithTeacher(DeiTConfig(**VIT, num_labels=4)).eval()
    model.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    x = batch(backbone)
    with torch.inference_mode():
        given = model(pixel_values=x)
    torch.testing.assert_close(backbone.classify(x), (given.cls_logits + given.distillation_logits) / 2)


def kept(monkeypatch) -> list[str]:
    """What was noted and cautioned."""
    said: list[str] = []
    for name in ("note", "caution"):
        monkeypatch.setattr(f"visus.models.heads.{name}", said.append)
    return said


@pytest.mark.parametrize(
    ("outputs", "given", "names", "said"),
    [
        (3, ["LABEL_0", "LABEL_1", "LABEL_2"], ("class 0", "class 1", "class 2"), "no names for its 3 outputs"),
        (3, ["0", "1", "2"], ("class 0", "class 1", "class 2"), "no names"), (3, None, ("class 0", "class 1", "class 2"), "no names"),
        (3, ["cat", "dog"], ("class 0", "class 1", "class 2"), "2 names for 3 outputs"), (2, ["1", "0"], ("1", "0"), ""),
        (2, ["cat", "dog"], ("cat", "dog"), ""), (2, ["n02123045", "n02085620"], ("tabby, tabby cat", "Chihuahua"), ""),
        (2, ["n02123045", "n99999999"], ("tabby, tabby cat", "n99999999"), ""),
    ],
)  # fmt: skip
def test_names_are_the_models_or_numbers_that_are_said(
    monkeypatch, outputs: int, given: Any, names: tuple[str, ...], said: str
) -> None:
    heard = kept(monkeypatch)
    assert names_of(outputs, given, spec="m") == names
    assert any(said in h for h in heard) if said else not heard


def test_a_thousand_outputs_without_names_are_imagenets_and_one_more_has_the_background_in_front(monkeypatch) -> None:
    heard = kept(monkeypatch)
    assert names_of(1000, [f"LABEL_{i}" for i in range(1000)], spec="m") == imagenet_labels(1000)
    with_background = names_of(1001, None, spec="m")
    assert with_background[:2] == ("background", "tench, Tinca tinca")
    assert len(with_background) == 1001
    assert len(heard) == 2
    assert all("taken for ImageNet's" in h for h in heard)


def test_names_that_do_not_fit_what_the_network_gives_are_not_shown(tmp_path, monkeypatch) -> None:
    heard = kept(monkeypatch)
    spec, _ = timm_model(tmp_path / "m", 4, label_names=["a", "b"])
    backbone = load_backbone(spec)
    assert backbone.labels == ("class 0", "class 1", "class 2", "class 3")
    assert any("2 names for 4 outputs" in h for h in heard)


def test_names_of_outputs_that_are_not_there_are_said(tmp_path, monkeypatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("visus.models.from_hf.caution", heard.append)
    spec, _ = hf(tmp_path / "m", ["a", "b", "c"])
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "id2label": {"1": "a", "2": "b", "3": "c"}}))
    assert load_backbone(spec).labels == ("class 0", "a", "b")
    assert any("names outputs that it does not have (3, of 3" in h for h in heard)


@pytest.mark.parametrize(("kind", "other"), [("Dinov2", True), ("ViT", False), ("BeiT", False)])
def test_features_that_the_classifier_does_not_read_are_said(tmp_path, monkeypatch, kind: str, other: bool) -> None:
    heard: list[str] = []
    monkeypatch.setattr("visus.models.from_hf.note", heard.append)
    backbone = load_backbone(hf(tmp_path / "m", ["a", "b", "c"], kind=kind.replace("BeiT", "Beit"))[0])
    assert any("reads another vector" in h for h in heard) == other
    assert not backbone.module.pooled._forward_hooks


def test_one_timm_output_of_which_nothing_is_known_may_be_a_number(tmp_path, monkeypatch) -> None:
    heard = kept(monkeypatch)
    load_backbone(timm_model(tmp_path / "named", 1, label_names=["smile"])[0])
    assert not any("does not say what it is" in h for h in heard)
    load_backbone(timm_model(tmp_path / "bare", 1)[0])
    assert any("does not say what it is" in h for h in heard)


def test_probabilities_do_not_overflow() -> None:
    x = np.array([[1e4, -1e4, 0.0]])
    assert np.allclose(probabilities(x, "classes"), [[1, 0, 0]])
    assert np.allclose(probabilities(x, "labels"), [[1, 0, 0.5]])
    z = np.random.default_rng(0).standard_normal((5, 7))
    assert np.allclose(probabilities(z, "classes"), functional.softmax(torch.from_numpy(z), dim=1).numpy())


def test_pictures_are_classified_by_the_heads_kind(tmp_path, pictures) -> None:
    spec, _ = hf(tmp_path / "m", ["a", "b"], "multi_label_classification")
    backbone: Backbone = load_backbone(spec)
    found = classify_images(backbone, load_images(str(pictures)), device="cpu")
    assert found.probabilities.dtype == np.float32
    assert np.abs(found.probabilities.sum(axis=1) - 1).max() > 0.05


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("HGNetV2", {"embedding_size": 8, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "stage_in_channels": [8, 8, 8, 16],
                     "stage_mid_channels": [4, 4, 4, 4], "stage_out_channels": [8, 8, 16, 16], "stage_numb_of_layers": [1, 1, 1, 1],
                     "stem_channels": [3, 4, 8], "stage_num_blocks": [1, 1, 1, 1]}),
        ("Pvt", {"image_size": 64, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}),
    ],
)  # fmt: skip
def test_classifiers_without_a_base_model_or_names_are_read_at_their_head(
    tmp_path, name: str, config: dict[str, Any]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, f"{name}ForImageClassification")(
            getattr(transformers, f"{name}Config")(**config, num_labels=3)
        ).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "size": {"height": 64, "width": 64}}))
    backbone = load_backbone(str(tmp_path))
    x = batch(backbone)
    seen: list[torch.Tensor] = []
    head = model.fc if name == "HGNetV2" else model.classifier
    handle = head.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.classify(x), model(pixel_values=x).logits)
    handle.remove()
    torch.testing.assert_close(backbone.forward(x, backbone.resolve(["late"]))["pooled"], seen[-1])
    assert backbone.labels == ("class 0", "class 1", "class 2")


def test_a_torchvision_network_with_one_output_is_binary_too() -> None:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=1).eval()
    weights = SimpleNamespace(
        meta={"categories": ["a", "b", "c"]}, transforms=lambda: ImageClassification(crop_size=64, resize_size=64)
    )
    backbone = wrap(net, "net.pt", weights, random=False)
    x = batch(backbone)
    assert backbone.labels == ("class 0", "class 1")
    torch.testing.assert_close(backbone.classify(x).softmax(dim=1)[:, 1], own(net, x)[:, 0].sigmoid())
