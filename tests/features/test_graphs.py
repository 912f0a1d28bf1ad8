"""A network's graph is kept without its weights, fits every network of the same structure, and is never trusted further than its features."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.features import tiny

from visus import paths
from visus.features import engines, extract, key
from visus.models.base import Backbone

pytest.importorskip("openvino")
from visus.features import graphs, openvino_engine  # an optional extra

SAMPLE = np.random.default_rng(0).integers(0, 256, (2, tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has a word put into the list whenever a network is traced and converted."""
    calls: list[str] = []
    honest = openvino_engine.converted

    def convert(*arguments: object) -> object:
        calls.append("converted")
        return honest(*arguments)

    monkeypatch.setattr(openvino_engine, "converted", convert)
    return calls


def slot(backbone: Backbone, taps: tuple[str, ...] = ("early", "late")) -> tuple[np.ndarray, ...]:
    """The features of SAMPLE by OpenVINO, its graph kept or found."""
    module = engines.tapped(backbone, backbone.resolve(taps), "mean")
    about = key.tapped_as(backbone, module.taps, "mean")
    (run,) = openvino_engine.openvino_slots(module, 1, "fp32", SAMPLE, about=about)
    return run(SAMPLE)


def by_torch(backbone: Backbone) -> tuple[np.ndarray, ...]:
    module = engines.tapped(backbone, backbone.resolve(["early", "late"]), "mean")
    return tuple(out.numpy() for out in module(torch.from_numpy(SAMPLE)))


def kept_files() -> list[Path]:
    return sorted((paths.home() / "graphs").glob("*"))


def assert_equal(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_networks_of_one_structure_are_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = traced(monkeypatch)
    first, other = tiny.backbone(0), tiny.backbone(1)
    assert np.abs(by_torch(first)[1] - by_torch(other)[1]).max() > 0.01
    for backbone in (first, other, first):
        assert_equal(slot(backbone), by_torch(backbone))
    assert calls == ["converted"]
    slot(first, ("late",))
    assert calls == ["converted"] * 2


def test_a_kept_graph_holds_no_weight() -> None:
    backbone = tiny.backbone()
    slot(backbone)
    (file,) = kept_files()
    for weights in (p for p in backbone.module.parameters() if p.numel() > 8):
        assert weights.detach().numpy().tobytes()[:32] not in file.read_bytes()


@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "writable by others"])
def test_a_graph_that_was_touched_is_made_anew(monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    calls = traced(monkeypatch)
    slot(tiny.backbone())
    (file,) = kept_files()
    whole = file.read_bytes()
    if harm == "writable by others":
        file.chmod(0o666)
    else:
        file.write_bytes({"cut": whole[:-9], "changed": whole[:-9] + b"123456789", "empty": b""}[harm])
    assert_equal(slot(tiny.backbone(1)), by_torch(tiny.backbone(1)))
    assert calls == ["converted"] * 2
    assert kept_files() == [file]
    assert file.read_bytes()[:14] == whole[:14]
    assert not file.stat().st_mode & 0o022


def test_a_graph_with_a_networks_own_numbers_in_it_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers worked out of weights while the graph was made stand in it, and are wrong for other weights."""
    calls = traced(monkeypatch)
    for seed in (0, 1):
        backbone = tiny.backbone(seed)
        backbone.module.body[0].weight_orig = torch.nn.Parameter(backbone.module.body[0].weight.detach())
        del backbone.module.body[0].weight
        backbone.module.body[0].forward = partial(doubled, backbone.module.body[0])
        assert_equal(slot(backbone), by_torch(backbone))
    assert calls == ["converted"] * 2
    assert kept_files() == []


def doubled(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    weight = torch.from_numpy(2 * layer.weight_orig.detach().numpy())  # which a tracer takes for a constant
    return torch.nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def test_a_graph_that_gives_other_features_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = traced(monkeypatch)
    backbone = tiny.backbone(0)
    slot(backbone)
    monkeypatch.setattr(graphs, "weights_of", lambda module: {n: t + 0.01 for n, t in module.state_dict().items()})
    assert_equal(slot(backbone), by_torch(backbone))
    assert calls == ["converted"] * 2


def test_keeping_a_graph_leaves_the_weights_as_they_were() -> None:
    backbone = tiny.backbone(0)
    module = engines.tapped(backbone, backbone.resolve(["late"]), "mean")
    before = {name: t.clone() for name, t in module.state_dict().items()}
    openvino_engine.openvino_slots(module, 1, "fp32", SAMPLE, about="x")
    assert len(kept_files()) == 1
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


def test_everything_but_weights_makes_another_graph() -> None:
    def of(backbone: Backbone, sample: np.ndarray = SAMPLE, about: str = "") -> str:
        return graphs.graph_key(engines.tapped(backbone, backbone.resolve(["late"]), "mean"), about, sample)

    first = of(tiny.backbone(0))
    assert of(tiny.backbone(1)) == first
    assert of(tiny.backbone(0), SAMPLE[:1]) == first
    changed = tiny.backbone(0)
    changed.module.body[2] = torch.nn.ReLU()
    scaled, indexed = tiny.backbone(0), tiny.backbone(0)
    scaled.module.body[1].eps = 0.1
    indexed.module.register_buffer("order", torch.arange(3))
    others = [
        of(changed),
        of(scaled),
        of(indexed),
        of(tiny.backbone(0), SAMPLE[:, :8]),
        of(tiny.backbone(0), about="x"),
    ]
    indexed.module.order += 1
    assert len({first, *others, of(indexed)}) == len(others) + 2
    loose = tiny.backbone(0)
    loose.module.scale = torch.ones(2)  # no buffer
    one = of(loose)
    loose.module.scale = torch.zeros(2)
    assert len({first, one, of(loose)}) == 3


def test_without_a_place_to_keep_it_features_come_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VISUS_HOME", str(tmp_path / "file"))
    assert_equal(slot(tiny.backbone()), by_torch(tiny.backbone()))


def test_the_random_control_finds_the_graph_of_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = traced(monkeypatch)
    images = tiny.noise(5)
    for seed in (0, 1):
        model = tiny.backbone(seed)
        features = extract(images, model, ["body", "late"], engine="openvino")
        np.testing.assert_allclose(features["body"], tiny.reference(images, model, "body"), rtol=1e-4, atol=1e-4)
    assert calls == ["converted"]


def test_importing_openvino_tells_nobody() -> None:
    code = (
        "import sys, os; os.fork = None; from visus.features import openvino_engine; "
        "assert openvino_engine.ov.__version__; assert 'openvino_telemetry' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr
