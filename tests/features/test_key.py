"""The cache key: every ingredient that is changed is a miss, and nothing changed is a hit."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
import torch
from PIL import Image
from tests.features import tiny

from visus.features import extract
from visus.features.key import feature_key
from visus.images import ImageSet, load_images
from visus.models.base import Backbone

SETTING = {"pool": "mean", "precision": "fp32", "engine": "torch", "device": "cpu"}


def key(images: ImageSet, backbone: Backbone, **changed: str) -> str:
    return feature_key(images, backbone, **{**SETTING, **changed})  # type: ignore[arg-type]


def files(root: Path, n: int = 3) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (4, 4), (i * 20, 0, 0)).save(root / f"{i}.bmp")
        os.utime(root / f"{i}.bmp", (1e9, 1e9))
    return root


def sneaky(path: Path, data: bytes) -> None:
    """Change a file in place, keeping its size and time of change."""
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def swapped(root: Path) -> None:
    """Put another file in a file's place, by a move, with its size and time."""
    other = root.parent / "other.bmp"
    shutil.copy(root / "1.bmp", other)
    data = bytearray(other.read_bytes())
    data[-1] ^= 255
    other.write_bytes(data)
    os.utime(other, (1e9, 1e9))
    other.replace(root / "1.bmp")


def edited(root: Path) -> None:
    data = bytearray((root / "1.bmp").read_bytes())
    data[-1] ^= 255
    sneaky(root / "1.bmp", bytes(data))


@pytest.mark.parametrize("change", [edited, swapped], ids=lambda f: f.__name__)
def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    root, model = files(tmp_path / "photos"), tiny.backbone()
    first = key(load_images(str(root)), model)
    time.sleep(0.06)  # the memo remembers
    assert key(load_images(str(root)), model) == first
    change(root)
    assert key(load_images(str(root)), model) != first


def test_touched_and_copied_files_of_the_same_content_are_a_hit(tmp_path: Path) -> None:
    root, model = files(tmp_path / "photos"), tiny.backbone()
    first = key(load_images(str(root)), model)
    os.utime(root / "0.bmp")
    shutil.copytree(root, tmp_path / "copy")
    assert key(load_images(str(root)), model) == first == key(load_images(str(tmp_path / "copy")), model)


def test_nothing_changed_is_a_hit_in_another_object_and_in_a_trained_copy_put_back() -> None:
    assert key(tiny.noise(4), tiny.backbone()) == key(tiny.noise(4), tiny.backbone())
    model = tiny.backbone()
    first = key(tiny.noise(4), model)
    weight = model.module.head.weight.clone()  # type: ignore[union-attr, operator]
    model.module.head.weight.data.add_(1)  # type: ignore[union-attr, operator]
    assert key(tiny.noise(4), model) != first
    model.module.head.weight.data.copy_(weight)  # type: ignore[union-attr, operator]
    assert key(tiny.noise(4), model) == first
    extract(tiny.noise(4), model, ["late"], engine="torch")  # looking changes nothing
    assert key(tiny.noise(4), model) == first


def _scaled(module: torch.nn.Module, x: torch.Tensor, by: int) -> torch.Tensor:
    return module(x) * by


def _forward(self: tiny.Net, x: torch.Tensor) -> torch.Tensor:
    return self.head(self.body(self.stem(x)).mean((2, 3))) * 2


def _hidden(net: torch.nn.Module) -> None:
    net.register_buffer("table", torch.zeros(3), persistent=False)


def _hidden_value(net: torch.nn.Module) -> None:
    net.table.add_(1)  # type: ignore[operator, union-attr]


MODEL: dict[str, Callable[[torch.nn.Module], object]] = {
    "a weight, in place": lambda net: net.head.weight.data.mul_(1.001),  # type: ignore[union-attr, operator]
    "a bias, in place": lambda net: net.head.bias.data.add_(1e-3),  # type: ignore[union-attr, operator]
    "a statistic": lambda net: net.stem[1].running_mean.add_(0.01),  # type: ignore[index, union-attr]
    "a buffer that is not saved": _hidden_value,
    "eps": lambda net: setattr(net.stem[1], "eps", 0.1),  # type: ignore[index]
    "an attribute": lambda net: setattr(net, "scale", 2.0),
    "an activation": lambda net: net.body.__setitem__(2, torch.nn.ReLU()),  # type: ignore[operator]
    "a hook": lambda net: net.body.register_forward_hook(lambda module, inputs, out: out * 2),  # type: ignore[operator, union-attr]
    "a method": lambda net: setattr(net, "forward", MethodType(_forward, net)),
}


@pytest.mark.parametrize("change", MODEL)
def test_a_model_changed_after_loading_is_another(change: str) -> None:
    images, model = tiny.noise(2), tiny.backbone()
    _hidden(model.module)
    first = key(images, model)
    MODEL[change](model.module)
    assert key(images, model) != first


def test_preprocessing_call_taps_and_settings_are_in_the_key() -> None:
    images, model = tiny.noise(2), tiny.backbone()
    others = [
        replace(model, preprocess=replace(model.preprocess, interpolation="bicubic")),
        replace(model, preprocess=replace(model.preprocess, mean=(0.1, 0.0, 0.0))),
        replace(model, call=lambda module, x: module(x) * 2),
        replace(model, call=lambda module, x: module(x) * 3),
        replace(model, call=partial(_scaled, by=2)),
        replace(model, call=partial(_scaled, by=3)),
        replace(model, taps=model.taps[:-1]),
    ]
    keys = [key(images, m) for m in [model, *others]]
    settings = [{"pool": "cls"}, {"precision": "bf16"}, {"engine": "openvino"}, {"device": "cuda:0"}]
    keys += [key(images, model, **s) for s in settings]
    keys += [
        key(images.subset(np.array([0])), model),
        key(replace(images, ids=("x", "y")), model),
        key(tiny.noise(2, 5), model),
    ]
    assert len(set(keys)) == len(keys)
    assert key(images, model, device="cuda:1") == key(images, model, device="cuda:0")


@pytest.mark.parametrize(
    ("package", "version", "same"),
    [("torch", "1.0.0", False), ("pillow", "1.0", False), ("openvino", "1999.1", False), ("pillow-heif", "0.1", False),
     ("pillow", "patch", True), ("matplotlib", "0.1", True)],
)  # fmt: skip
def test_versions_of_what_decodes_and_computes(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str, same: bool
) -> None:
    images, model = tiny.noise(2), tiny.backbone()
    first, real = key(images, model, engine="openvino"), metadata.version
    if version == "patch":
        version = ".".join([*real(package).split(".")[:2], "99"])
    monkeypatch.setattr(metadata, "version", lambda name: version if name == package else real(name))
    assert (key(images, model, engine="openvino") == first) is same


def test_the_package_that_a_network_comes_from_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    from timm.layers import LayerNorm2d

    images, model = tiny.noise(2), tiny.backbone()
    model.module.extra = LayerNorm2d(3)
    first, real = key(images, model), metadata.version
    assert timm.__version__
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1" if name == "timm" else real(name))
    assert key(images, model) != first


CODE = """
import torch

SCALE = {scale}

def double(x):{comment}
    return x * {factor}

class Net(torch.nn.Module):
    def forward(self, x):
        return double(x) * SCALE
"""


def own(folder: Path, name: str, **words: object) -> Backbone:
    """The tiny network with a part whose class is written into a file and imported."""
    path = folder / f"{name}.py"
    path.write_text(CODE.format(**{"scale": 1, "factor": 2, "comment": "", **words}))
    spec = importlib.util.spec_from_file_location("my_nets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = tiny.backbone()
    model.module.extra = module.Net()
    return model


def test_the_code_of_a_network_of_ones_own_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    images = tiny.noise(2)
    first = key(images, own(tmp_path, "a"))
    assert key(images, own(tmp_path, "b", comment="  # doubles")) == first
    assert key(images, own(tmp_path, "c", factor=3)) != first  # in a function that forward calls
    assert key(images, own(tmp_path, "d", scale=7)) != first  # in a constant of the module


def test_pictures_that_could_not_be_opened_are_tried_again_when_their_package_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, model = tiny.noise(2), tiny.backbone()
    real = metadata.version

    def installed(name: str) -> str:
        return "1.0.0" if name == "pillow-jxl-plugin" else real(name)

    before = key(images, model)
    monkeypatch.setattr(metadata, "version", installed)
    assert key(images, model) != before


def test_the_key_is_the_same_in_every_process() -> None:
    script = "from tests.features.test_key import key, tiny; m = tiny.backbone(); m.module.names = {'b', 'a', 'c'}; print(key(tiny.noise(2), m))"
    root = Path(__file__).resolve().parents[2]
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=root)
        assert done.returncode == 0, done.stderr[-2000:]
        found.add(done.stdout)
    assert len(found) == 1
