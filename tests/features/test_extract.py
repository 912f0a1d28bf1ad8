"""extract against plain PyTorch, with planted truth, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.features import tiny

from visus import paths
from visus.errors import DataError, MissingExtraError, SpecError, StoreError
from visus.features import engines, extract, openvino_engine
from visus.features import manifest as manifests
from visus.progress import Silent, reporting

ENGINES = ["openvino", "torch"]


class Log(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def log(self, message: str) -> None:
        self.lines.append(message)

    def advance(self, task: int, steps: int) -> None:
        self.steps += steps


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pool", ["mean", "flatten"])
def test_features_equal_plain_torch(engine: str, pool: str) -> None:
    images, model = tiny.noise(37), tiny.backbone()
    features = extract(images, model, ["stem", "body", "late"], pool=pool, engine=engine, batch=8, shard_rows=16)
    assert features.taps == ("stem", "body", "head")
    for tap in features.taps:
        expected = tiny.reference(images, model, tap, pool)
        assert features[tap].dtype == np.float32
        np.testing.assert_allclose(features[tap], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert features.cost["engine"] == engine
    assert features.cost["cached"] is False


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_keep_their_pictures_and_undecodable_ones_shift_nothing(engine: str, workers: int) -> None:
    broken = (0, 5, 17, 41, 42, 49)
    images, model, log = tiny.plain_images(50, broken), tiny.backbone(), Log()
    with reporting(log):
        features = extract(images, model, ["eyes"], engine=engine, batch=4, shard_rows=20, workers=workers)
    kept = [i for i in range(50) if i not in broken]
    assert features.rows.tolist() == kept
    assert features.ids == tuple(f"p/{i}.png" for i in kept)
    assert [q.id for q in features.quarantine] == [f"p/{i}.png" for i in broken]
    assert all(q.reason for q in features.quarantine)
    # The network's first tap is the picture's mean colour in 0..255, and the colour is the index.
    np.testing.assert_allclose(features["eyes"], [tiny.color(i) for i in kept], atol=1e-2)
    assert log.steps == 50


def test_nothing_is_computed_twice() -> None:
    images, model = tiny.noise(20), tiny.backbone()
    reads = images.source.reads  # type: ignore[attr-defined]
    first = extract(images, model, ["stem", "body"], engine="torch", batch=4)
    before = {tap: first[tap].copy() for tap in first.taps}
    assert len(reads) == 20
    second = extract(images, model, ["body", "head"], engine="torch", batch=4)
    cost = [
        [json.loads(line) for line in (manifests.side(second.folders[t]) / manifests.COST).read_text().splitlines()]
        for t in ("body", "head")
    ]
    assert [len(runs) for runs in cost] == [1, 1]
    assert cost[1][0]["taps"] == ["head"]
    assert len(reads) == 40
    again = extract(images, model, ["stem", "body", "head"], engine="torch")
    assert again.cost["cached"] is True
    assert len(reads) == 40
    for tap, values in before.items():
        assert np.array_equal(again[tap], values)


def test_labels_are_no_part_of_the_key_but_pictures_and_weights_are() -> None:
    images = tiny.noise(6)
    first = extract(images, tiny.backbone(), ["late"], engine="torch")
    labelled = replace(images, labels=np.zeros(6, np.int64), classes=("a",))
    assert extract(labelled, tiny.backbone(), ["late"], engine="torch").cost["cached"]
    other = extract(tiny.noise(6, seed=1), tiny.backbone(), ["late"], engine="torch")
    weights = extract(images, tiny.backbone(seed=1), ["late"], engine="torch")
    assert len({f.folders["head"] for f in (first, other, weights)}) == 3


def test_equal_weights_under_another_activation_are_another_model() -> None:
    images, twin = tiny.noise(6), tiny.backbone()
    first = extract(images, tiny.backbone(), ["body"], engine="torch")
    twin.module.body[2] = torch.nn.ReLU()  # type: ignore[index, union-attr]
    second = extract(images, twin, ["body"], engine="torch")
    assert not np.allclose(first["body"], second["body"])


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_means_frozen(engine: str) -> None:
    model = tiny.backbone()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.module.modules()]
    threads = torch.get_num_threads()
    extract(tiny.noise(9), model, ["early", "late"], engine=engine, batch=4)
    after = model.module.state_dict()
    assert all(
        torch.equal(before[name], after[name]) and before[name].stride() == after[name].stride() for name in before
    )
    assert [len(module._forward_hooks) for module in model.module.modules()] == hooks == [0] * len(hooks)
    assert torch.get_num_threads() == threads


def test_bf16_is_close_and_stored_as_float32() -> None:
    images, model = tiny.noise(12), tiny.backbone()
    features = extract(images, model, ["body"], precision="bf16", engine="torch", batch=4)
    expected = tiny.reference(images, model, "body")
    assert features["body"].dtype == np.float32
    assert 0 < np.abs(features["body"] - expected).max() < 0.03 * np.abs(expected).max()


def test_a_network_that_openvino_gets_wrong_is_run_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    images, model, log = tiny.noise(10), tiny.backbone(), Log()
    honest = openvino_engine.openvino_slot

    def wrong(request: object) -> object:
        slot = honest(request)
        return lambda batch: tuple(out * 1.001 for out in slot(batch))

    monkeypatch.setattr(openvino_engine, "openvino_slot", wrong)
    with reporting(log):
        features = extract(images, model, ["late"], batch=4)
    assert features.cost["engine"] == "torch"
    assert any("differ from PyTorch's by 1.0e-03" in line for line in log.lines)
    np.testing.assert_allclose(features["head"], tiny.reference(images, model, "head"), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="--engine torch"):
        extract(images, tiny.backbone(1), ["late"], engine="openvino", batch=4)


def test_openvino_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from openvino.tools.ovc import convert_impl

    calls: list[str] = []
    monkeypatch.setattr(convert_impl, "init_ovc_telemetry", lambda *_: calls.append("telemetry"))
    monkeypatch.setattr("os.fork", lambda: calls.append("fork"))
    features = extract(tiny.noise(3), tiny.backbone(), ["late"], engine="openvino")
    assert features.cost["engine"] == "openvino"
    assert calls == []


def test_what_openvino_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"visus\[openvino\]"):
        extract(tiny.noise(2), tiny.backbone(), ["late"], engine="openvino")
    assert extract(tiny.noise(2), tiny.backbone(), ["late"]).cost["engine"] == "torch"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"taps": ["latte"]}, SpecError, "late"),
        ({"taps": []}, DataError, "taps is empty"),
        ({"pool": "max"}, DataError, "mean, cls or flatten"),
        ({"precision": "fp16"}, DataError, "fp32 or bf16"),
        ({"engine": "tensorrt"}, DataError, "auto, openvino or torch"),
        ({"device": "gpu"}, SpecError, "cuda:N"),
        ({"device": "cuda:9"}, SpecError, "CUDA"),
        ({"batch": 0}, DataError, "from 1 up"),
    ],
)
def test_bad_requests_are_answered_in_one_line(change: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        extract(tiny.noise(2), tiny.backbone(), **{"taps": ["late"], **change})
    assert "\n" not in str(caught.value)


def test_no_picture_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        extract(tiny.plain_images(0), tiny.backbone(), ["late"])
    with pytest.raises(DataError, match="none of the 3 images"):
        extract(tiny.plain_images(3, (0, 1, 2)), tiny.backbone(), ["late"], engine="torch")


def test_an_error_in_a_worker_comes_out_once_and_the_next_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = tiny.noise(64), tiny.backbone()
    call = engines.TorchSlot.__call__
    calls = []

    def fails(self: engines.TorchSlot, batch: np.ndarray) -> object:
        calls.append(1)
        if len(calls) == 9:
            raise FloatingPointError("planted")
        return call(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(engines.TorchSlot, "__call__", fails)
        with pytest.raises(FloatingPointError, match="planted"):
            extract(images, model, ["late"], engine="torch", batch=4, shard_rows=8, workers=2)
    reads = images.source.reads  # type: ignore[attr-defined]
    reads.clear()
    features = extract(images, model, ["late"], engine="torch", batch=4, shard_rows=8)
    assert 0 < len(reads) <= 64 - 16
    np.testing.assert_allclose(features["head"], tiny.reference(images, model, "head"), rtol=1e-4, atol=1e-4)


def test_ctrl_c_keeps_the_finished_shards(tmp_path: Path) -> None:
    images, model = tiny.noise(40), tiny.backbone()

    class Interrupting(Log):
        def advance(self, task: int, steps: int) -> None:
            super().advance(task, steps)
            if self.steps == 24:
                raise KeyboardInterrupt

    log = Interrupting()
    with reporting(log), pytest.raises(KeyboardInterrupt):
        extract(images, model, ["late"], engine="torch", batch=4, shard_rows=8, store=tmp_path)
    assert log.lines[-1] == "stopped; 16 of 40 images are kept, the same command goes on from there"
    again = Log()
    with reporting(again):
        extract(images, model, ["late"], engine="torch", store=tmp_path)
    assert again.steps == 24


def test_an_unwritable_store_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="choose another folder") as caught:
        extract(tiny.noise(2), tiny.backbone(), ["late"], store=tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_the_default_store_is_the_labs() -> None:
    features = extract(tiny.noise(2), tiny.backbone(), ["late"], engine="torch")
    assert paths.features_home() in features.folders["head"].parents
