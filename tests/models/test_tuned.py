"""A trained classifier on disk loads as any model and gives the same logits; damage is said in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.models.small import batch

from visus.errors import DataError, StoreError, VisusError
from visus.images.gather import gather
from visus.models import Backbone, load_backbone
from visus.models.classifier import Classifier, classifier_of
from visus.models.lora import add_lora, merge_lora
from visus.models.tuned import save_tuned
from visus.studies.predict import predict

NAMES = ("ant", "bee", "Schnürzel")
SPECS = ("timm:resnet18?weights=none", "torchvision:mobilenet_v3_small?weights=none", "visus:effnet-lite0")
FOLDERS = ("timm:vit", "timm:resnet", "timm:swin", "hf:vit", "hf:vit_plain", "hf:convnext", "hf:swin")


def trained(backbone: Backbone) -> Classifier:
    """Every parameter and buffer moved, so that nothing can come from the base."""
    classifier = classifier_of(backbone, 3, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for t in classifier.state_dict().values():
            if t.is_floating_point():
                t.add_(0.01 * torch.rand(t.shape, generator=generator))
    return classifier


def check(backbone: Backbone, folder: Path) -> None:
    classifier = trained(backbone)
    assert save_tuned(folder, classifier, backbone, classes=NAMES, info={"regime": "full"}) == folder
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    found = load_backbone(str(folder))
    x = batch(backbone, 2)
    with torch.no_grad():
        torch.testing.assert_close(found.classify(x), classifier(x), rtol=1e-6, atol=1e-6)
    assert found.labels == NAMES
    assert (found.taps, found.aliases, found.preprocess) == (backbone.taps, backbone.aliases, backbone.preprocess)
    assert found.spec == str(folder)
    assert not found.random
    assert found.fingerprint == classifier.backbone(backbone, NAMES).fingerprint
    taps = found.resolve(["early", "late"])
    for a, b in zip(
        found.forward(x, taps).values(), classifier.backbone(backbone).forward(x, taps).values(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("spec", SPECS)
def test_from_a_spec(spec, tmp_path):
    check(load_backbone(spec), tmp_path / "new" / "tuned")


@pytest.mark.parametrize("name", FOLDERS)
def test_from_a_folder(name, timm_folder, hf_folder, tmp_path):
    library, family = name.split(":")
    folder, _ = {"timm": timm_folder, "hf": hf_folder}[library](family)
    check(load_backbone(str(folder)), tmp_path / "tuned")


def test_from_an_open_clip_folder(openclip_folder, tmp_path):
    check(load_backbone(str(openclip_folder[0])), tmp_path / "tuned")


def test_from_a_file_of_weights(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(timm.create_model("mobilenetv3_small_050", num_classes=4).state_dict(), tmp_path / "weights.pth")
    check(load_backbone(f"{tmp_path / 'weights.pth'}?arch=timm:mobilenetv3_small_050"), tmp_path / "tuned")


def test_a_tuned_model_can_be_tuned_again(tuned, tmp_path):
    first = load_backbone(str(tuned))
    check(first, tmp_path / "again")
    twin = load_backbone(f"{tuned}?weights=none", seed=3)
    assert twin.random
    assert twin.labels == NAMES
    assert twin.fingerprint != first.fingerprint
    assert twin.fingerprint == load_backbone(f"{tuned}?weights=none", seed=3).fingerprint
    assert twin.fingerprint != load_backbone(f"{tuned}?weights=none", seed=4).fingerprint


def test_the_input_transform_of_torchvisions_googlenet_is_kept(tmp_path):
    backbone = load_backbone("torchvision:googlenet?weights=none")
    backbone.module.model.transform_input = True  # as with its pretrained weights
    check(backbone, tmp_path / "tuned")


def test_merged_adapters_are_saved_and_unmerged_refused(timm_folder, tmp_path):
    backbone = load_backbone(str(timm_folder("vit")[0]))
    classifier = classifier_of(backbone, 3, seed=0)
    add_lora(classifier, backbone, seed=0)
    with pytest.raises(DataError, match="merge"):
        save_tuned(tmp_path / "tuned", classifier, backbone, classes=NAMES)
    merge_lora(classifier)
    save_tuned(tmp_path / "tuned", classifier, backbone, classes=NAMES)
    x = batch(backbone)
    with torch.no_grad():
        torch.testing.assert_close(load_backbone(str(tmp_path / "tuned")).classify(x), classifier(x))


@pytest.fixture
def tuned(timm_folder, tmp_path):
    backbone = load_backbone(str(timm_folder("resnet")[0]))
    return save_tuned(tmp_path / "tuned", trained(backbone), backbone, classes=NAMES)


def test_predict_takes_it(tuned):
    result = predict(["visus:digits"], model=str(tuned), limit=3, top=2)
    backbone = load_backbone(str(tuned))
    images, _ = gather(["visus:digits"], limit=3, seed=0, download=False)
    expected = []
    for i in range(3):
        x = torch.from_numpy(backbone.preprocess(images.decode(i)).copy())[None]
        with torch.no_grad():
            p = backbone.classify(backbone.preprocess.normalize(x)).softmax(1)[0]
        expected += [(images.ids[i], NAMES[k], float(p[k])) for k in p.argsort(descending=True)[:2].tolist()]
    rows = result.tables["predictions"].rows
    assert [(row[0], row[2]) for row in rows] == [e[:2] for e in expected]
    assert [row[3] for row in rows] == pytest.approx([e[2] for e in expected], abs=1e-5)


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def edit(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("head.weight")
    save_file(tensors, folder / "model.safetensors")


DAMAGE = {
    "cut weights": (cut_weights, r"model\.safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"put model\.safetensors"),
    "a tensor gone": (other_weights, r"1 missing \(head\.weight\)"),
    "classes gone": (lambda f: edit(f, classes=["a", "b"]), "of another shape"),
    "no classes": (lambda f: edit(f, classes=None), r"config\.json"),
    "no preprocess": (lambda f: edit(f, preprocess={}), r"config\.json"),
    "preprocess of another kind": (lambda f: edit(f, preprocess=3), r"config\.json"),
    "torn config": (lambda f: (f / "config.json").write_text('{"visus": 1'), r"config\.json"),
    "newer": (lambda f: edit(f, visus=2), "update visus"),
    "unknown base": (lambda f: edit(f, base="timm:resnt18"), "resnet18"),
    "base gone": (lambda f: shutil.rmtree(json.loads((f / "config.json").read_text())["base"]), "which is gone"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_said_in_one_line(what, tuned):
    damage, said = DAMAGE[what]
    damage(tuned)
    with pytest.raises(DataError, match=said) as error:
        load_backbone(str(tuned))
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_no_folder_that_loads(tuned, timm_folder, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    backbone = load_backbone(str(timm_folder("resnet")[0]))
    classifier = trained(backbone)
    monkeypatch.setattr("visus.models.tuned.save_file", full)
    with pytest.raises(StoreError, match="No space"):
        save_tuned(tuned, classifier, backbone, classes=("x", "y", "z"))
    with pytest.raises(VisusError, match=r"config\.json"):
        load_backbone(str(tuned))


def test_names_and_info_must_fit(timm_folder, tmp_path):
    backbone = load_backbone(str(timm_folder("resnet")[0]))
    with pytest.raises(DataError, match="3 outputs"):
        save_tuned(tmp_path / "t", trained(backbone), backbone, classes=("a", "b"))
    with pytest.raises(DataError, match="JSON"):
        save_tuned(tmp_path / "t", trained(backbone), backbone, classes=NAMES, info={"x": object()})
