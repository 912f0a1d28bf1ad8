"""Every command on a GPU, which is pretended (tests/pretend.py): it runs to its end, the work is done there, and the numbers are the CPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pretend import OnGpu, gpu
from tests.studies import gpu_samples as samples
from tests.studies.gpu_samples import CNN, VIT, crowded, trained
from tests.training.tiny import feed
from torch._subclasses.fake_tensor import FakeTensorMode

from visus.app.run import exact
from visus.features import engines, extract
from visus.images import load_images
from visus.measures import probe as probes
from visus.models import load_backbone
from visus.models.attention import last_and_rollout
from visus.models.tapped_module import TappedModule
from visus.models.tokens import forward_kept
from visus.models.vit import vit_layout
from visus.studies.vit import maps as vit_maps
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages
from visus.studies.vit.masking import curves
from visus.training import checkpoint
from visus.training.devices import Devices
from visus.training.loop import Learner, fit
from visus.training.objective import Classification, held_logits
from visus.training.recipe import Recipe

pictures = samples.pictures
worked = samples.worked


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    with gpu():
        here, there = torch.ones(2, 2), torch.ones(2, 2, device="cuda")
        assert (there.device.type, there.is_cuda, there.cpu().device.type) == ("cuda", True, "cpu")
        for mixed in (lambda: here @ there, lambda: there + here, lambda: torch.cat([here, there])):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed()
        assert float((there * torch.tensor(2.0)).sum()) == 8  # a number may be of the CPU
        with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
            there.numpy()
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(2, device="cuda", generator=torch.Generator().manual_seed(0))
        net = torch.nn.Linear(2, 2)
        weight, optimizer = net.weight, torch.optim.AdamW(net.parameters())
        net.to("cuda")
        assert net.weight is weight  # what an optimizer was given
        net(there).sum().backward()
        optimizer.step()
        with pytest.raises(RuntimeError, match="on the same device"):
            net(here)


@pytest.mark.parametrize("spec", [VIT, CNN])
def test_a_forward_pass_of_fake_tensors_stays_on_cuda(spec: str) -> None:
    """PyTorch's own fake tensors, which follow the kernels' rules of devices and hold no values; only weights and pixels are given to them."""
    backbone = load_backbone(spec, seed=0)
    module = TappedModule(backbone, backbone.resolve(["early", "late"]), "mean").eval()
    named = [*module.named_parameters(), *module.named_buffers()]
    with FakeTensorMode(), torch.no_grad():
        weights = {name: torch.empty(t.shape, dtype=t.dtype, device="cuda") for name, t in named}
        x = torch.empty((2, *backbone.preprocess.size, 3), dtype=torch.uint8, device="cuda")
        found = torch.func.functional_call(module, weights, (x,))
        assert {f.device.type for f in found} == {"cuda"}
        with pytest.raises(RuntimeError, match="same device"):
            torch.func.functional_call(module, weights, (x.cpu(),))


def test_a_vit_is_looked_through_in_any_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(VIT, seed=0)
    model = EvaluatedModel(backbone, vit_layout(backbone), "output")
    raw = np.random.default_rng(0).integers(0, 255, (7, *backbone.preprocess.size, 3)).astype(np.uint8)
    images = PreparedImages(raw)
    order = np.tile(np.arange(np.prod(model.inside.grid)), (7, 1))

    def look() -> list[np.ndarray]:
        whole = curves.WholeImages.of(model, images, None, "cpu")
        curve = curves.dropped(whole, order, "random", (1.0, 0.5))
        return [*vit_maps.importance(model, images, "cpu").values(), curve.chosen]

    expected = look()
    monkeypatch.setattr(vit_maps, "last_and_rollout", crowded(last_and_rollout, 2))
    monkeypatch.setattr(curves, "forward_kept", crowded(forward_kept, 3))
    for a, b in zip(look(), expected, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_a_probe_that_a_gpu_has_no_memory_for_is_fitted_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2, np.arange(40)
    settings = {"folds": [(rows[:20], rows[20:30])], "train": rows[:30], "test": rows[30:], "n_classes": 2}
    asked = []

    def small(honest: Any) -> Any:
        def fitted(*args: Any, device: str, **kwargs: Any) -> Any:
            asked.append(device)
            if device != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return honest(*args, device=device, **kwargs)

        return fitted

    expected = probes.linear_probe(x, y, **settings)
    monkeypatch.setattr(probes, "choose", small(probes.choose))  # the choice on the folds
    monkeypatch.setattr(probes, "design", small(probes.design))  # the refit
    with gpu():
        found = probes.linear_probe(x, y, device="cuda", **settings)
    assert asked == ["cuda", "cpu"] * 2
    assert np.allclose(found.logits, expected.logits, atol=1e-3)


def test_an_extraction_that_runs_out_of_memory_on_its_way_starts_again_with_a_smaller_batch(
    pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, backbone = load_images(pictures).limit(6, seed=0), load_backbone(CNN, seed=0)
    expected = extract(images, backbone, ["late"], engine="torch", device="cpu", store=tmp_path / "cpu")
    monkeypatch.setattr(engines.TorchSlot, "launch", crowded(engines.TorchSlot.launch, 2))
    with gpu():
        found = extract(images, backbone, ["late"], device="cuda", batch=4, store=tmp_path / "gpu")
    assert found.cost["batch"] == 2
    tap = backbone.aliases["late"]
    assert np.allclose(np.asarray(found[tap]), np.asarray(expected[tap]), atol=1e-4)


def test_a_command_computes_in_fp32_and_repeatably_on_a_gpu() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()
    for device, expected in (("cpu", before), ("auto", (False, True)), ("cuda:1", (False, True))):
        with gpu(), exact(device):
            assert (torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()) == expected
    assert (torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_a_training_on_a_gpu_and_one_that_was_stopped_there_end_where_the_cpu_ends(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worked: set[str]
) -> None:
    alone, expected = trained("cpu", tmp_path / "cpu", optimizer=optimizer)
    save, calls = checkpoint.save, []

    def dies(fabric: Any, path: Path, state: Any) -> None:
        save(fabric, path, state)
        calls.append(path.name)
        if calls.count(checkpoint.LAST) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        trained("cuda:0", tmp_path / "gpu", optimizer=optimizer)
    monkeypatch.setattr(checkpoint, "save", save)
    net, done = trained("cuda:0", tmp_path / "gpu", optimizer=optimizer)
    assert "addmm" in worked
    assert [e.train_loss for e in done.epochs] == pytest.approx([e.train_loss for e in expected.epochs], rel=1e-4)
    for a, b in zip(alone.state_dict().values(), net.state_dict().values(), strict=True):
        assert not isinstance(b, OnGpu)
        assert torch.allclose(a.double(), b.double(), atol=1e-3)


def test_memory_that_runs_out_on_a_gpu_halves_the_pass(tmp_path: Path) -> None:
    class Small(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(x)

    with gpu():
        fabric, data, net = Devices("cuda").fabric(), feed(), Small(8, 3)
        done = fit(Learner(net), Classification(data, 0.0), Recipe(1e-2, epochs=1, batch=40), fabric=fabric)
        assert done.accumulate == 4
        net.to("cuda")
        assert held_logits(net, data, "test", fabric).shape == (60, 3)
