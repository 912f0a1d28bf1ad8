"""Every command on a GPU, which is pretended (tests/pretend.py): it runs to its end, the work is done there, and the numbers are the CPU's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import pretend
from tests.pretend import gpu
from tests.studies import gpu_samples as samples
from tests.studies.gpu_samples import COMMANDS, LONG, SMALL, VIT, comparable, names, vae

import visus
from visus.device import choose_device
from visus.errors import VisusError
from visus.features.latents import bounds, decoded_latents, log_weights, posteriors, sensitivity
from visus.images import load_images
from visus.measures import probe as probes
from visus.measures.knn import top_k
from visus.models import load_backbone
from visus.models.attention import attention, rollout
from visus.models.dual_open import load_dual
from visus.models.relevance import relevance
from visus.models.tokens import forward_kept
from visus.studies.clip.encoding import embed
from visus.training.batchnorm import recalibrate
from visus.training.devices import Devices, repeatable
from visus.training.gradients import stage_gradient_norms
from visus.training.small_cnn import small_classifier

homes = samples.homes
pictures = samples.pictures
worked = samples.worked


def test_flags_for_repeatable_kernels_are_set_while_a_gpu_works_and_put_back() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    with repeatable("cuda:1"):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before
    with repeatable("cpu"):
        assert torch.are_deterministic_algorithms_enabled() == before[0]


def test_statistics_gradients_and_the_small_classifier(worked: set[str]) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (24, 8, 8, 3)).astype(np.uint8)
    y = np.arange(24) % 2
    with gpu():
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 2)
        )
        twin = copy.deepcopy(net)
        batch, labels = torch.rand(6, 3, 8, 8), torch.tensor([0, 1] * 3)
        net.to("cuda")
        for module in (net, twin):
            assert recalibrate(module, [batch])
        assert torch.allclose(net[1].running_mean.cpu(), twin[1].running_mean, atol=1e-6)
        norms = [stage_gradient_norms(m, [(batch, labels)], {"a": "0", "b": "3"}) for m in (net, twin)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)
        small = small_classifier(x, y, x, y, classes=2, devices=Devices("cuda"), seed=0)
        assert small.features(x, device="cuda").shape == (24, 128)
    assert "convolution" in worked or "cudnn_convolution" in worked


@pytest.mark.parametrize(
    "look",
    [
        lambda v, x, d: np.stack([posteriors(v, x, device=d).mu, posteriors(v, x, device=d).logvar]),
        lambda v, x, d: decoded_latents(v, np.ones((5, 3)), device=d),
        lambda v, x, d: np.stack([bounds(v, x, seed=0, device=d).reconstruction, bounds(v, x, seed=0, device=d).kl]),
        lambda v, x, d: log_weights(v, x, 7, seed=0, device=d),
        lambda v, x, d: sensitivity(v, np.ones((4, 3)), device=d),
    ],
)
def test_a_vae_is_looked_through_on_the_gpu_and_in_any_memory(
    look: Callable[[Any, np.ndarray, str], np.ndarray], worked: set[str]
) -> None:
    x = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1)).astype(np.uint8)
    expected = look(vae(), x, "cpu")
    with gpu():
        assert np.allclose(look(vae(), x, "cuda"), expected, rtol=1e-4, atol=1e-4)
    assert worked & {"addmm", "linear"}


def test_a_vae_that_is_too_large_for_memory_gives_the_same_numbers_in_parts() -> None:
    x = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1)).astype(np.uint8)
    expected = bounds(vae(), x, seed=0).reconstruction, log_weights(vae(), x, 7, seed=0)
    crowded = vae()
    encode = crowded.encode

    def small(pictures: torch.Tensor) -> Any:
        if len(pictures) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pictures)

    crowded.encode = small
    assert np.allclose(bounds(crowded, x, seed=0).reconstruction, expected[0], rtol=1e-5)
    assert np.allclose(log_weights(crowded, x, 7, seed=0), expected[1], rtol=1e-5)


def test_attention_relevance_and_dropped_patches(worked: set[str]) -> None:
    def look(device: str) -> list[np.ndarray]:
        backbone = load_backbone(VIT, seed=0)
        x = torch.rand(2, 3, *backbone.preprocess.size, generator=torch.Generator().manual_seed(0)).to(device)
        with backbone.on(device):
            maps = attention(backbone, x).maps
            kept = torch.tensor([[0, 3, 5], [1, 2, 4]]).to(device)
            found = [
                maps[max(maps)],
                rollout(backbone, x),
                relevance(backbone, x, None),
                forward_kept(backbone, x, kept),
            ]
            return [f.detach().float().cpu().numpy() for f in found]

    expected = look("cpu")
    with gpu():
        for a, b in zip(look("cuda"), expected, strict=True):
            assert np.allclose(a, b, atol=1e-4)
    assert "_softmax" in worked


def test_neighbours_and_the_probe(worked: set[str]) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = (rng.normal(size=(40, 3)) + 2 * y[:, None]).astype(np.float32)
    rows = np.arange(40)
    settings = {"folds": [(rows[:20], rows[20:30])], "train": rows[:30], "test": rows[30:], "n_classes": 2}
    a, p = top_k(x, x, 3, exclude_self=True), probes.linear_probe(x, y, **settings)
    with gpu():
        b = top_k(x, x, 3, exclude_self=True, device="cuda")
        q = probes.linear_probe(x, y, device="cuda", **settings)
    assert np.array_equal(a.indices, b.indices)
    assert np.allclose(p.logits, q.logits, atol=1e-3)
    assert worked & {"mm", "addmm"}


@pytest.mark.parametrize("name", [*COMMANDS, *(pytest.param(n, marks=pytest.mark.slow) for n in LONG)])
def test_a_command_runs_to_its_end_on_a_gpu_and_says_what_the_cpu_says(
    name: str, pictures: str, homes: Callable[[str], None], tmp_path: Path, worked: set[str]
) -> None:
    command = {**COMMANDS, **LONG}[name]
    found = {}
    for device in ("cpu", "cuda"):
        homes(device)
        with pretend.on(device)():
            found[device] = command(pictures, device, str(tmp_path / device))
    assert worked & {"convolution", "_slow_conv2d_forward", "mkldnn_convolution", "native_layer_norm", "addmm"}
    a, b = found["cpu"], found["cuda"]
    assert list(a.tables) == list(b.tables)
    assert names(a) == names(b)
    if name in ("extract", "predict", "predict by texts", "search", "vit"):
        for title in a.tables:
            for x, y in zip(*(comparable(r.tables[title].rows) for r in (a, b)), strict=True):
                assert x == (pytest.approx(y, rel=1e-3, abs=1e-3) if isinstance(y, float) else y), title


@pytest.mark.parametrize("spec", ["visus:emoji-clip"])
def test_the_image_tower_of_a_dual_encoder_runs_where_it_was_moved_to(
    spec: str, pictures: str, homes: Callable[[str], None], worked: set[str]
) -> None:
    images, encoder = load_images(pictures).limit(6, seed=0), load_dual(spec)
    found = []
    for device in ("cpu", "cuda"):
        homes(device)
        with pretend.on(device)():
            found.append(embed(encoder, images, device=device).vectors)
    assert np.allclose(*found, atol=1e-3)
    assert "native_layer_norm" in worked


def test_a_trained_model_is_judged_where_it_was_trained(
    pictures: str, tmp_path: Path, homes: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from visus import device
    from visus.models import classify, dual

    asked: list[str] = []
    honest = classify.choose_device
    for room in (classify, dual, device):
        monkeypatch.setattr(room, "choose_device", lambda device: asked.append(device) or honest(device))
    with gpu():
        homes("cuda")
        visus.train("vit", images=pictures, device="cuda", out=str(tmp_path / "v"), **SMALL)
        visus.train("clip", images=pictures, device="cuda", out=str(tmp_path / "c"), **SMALL)
    assert len(asked) > 4
    assert set(asked) == {"cuda"}
    assert load_dual(str(tmp_path / "c")).module.logit_scale.device.type == "cpu"


def test_texts_and_pictures_in_any_memory() -> None:
    encoder = load_dual("visus:emoji-clip")
    expected = encoder.encode_texts([f"a {k} thing" for k in range(9)])
    text = encoder.text

    def small(module: Any, ids: torch.Tensor) -> torch.Tensor:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return text(module, ids)

    encoder.text = small
    assert np.allclose(encoder.encode_texts([f"a {k} thing" for k in range(9)]), expected, atol=1e-5)


@pytest.mark.parametrize("device", ["mps", "cuda", "cuda:1", "gpu", "xpu:0", "cuda:x", "cpu:0", "CUDA"])
def test_devices_that_are_not_there_are_told_in_one_line(device: str, pictures: str, tmp_path: Path) -> None:
    for command in (COMMANDS[name] for name in ("predict", "train vit")):
        with pytest.raises(VisusError, match=r"device|CUDA") as error:
            command(pictures, device, str(tmp_path / "out"))
        assert "\n" not in str(error.value)


def test_the_second_gpu_of_two_is_taken_and_the_third_refused() -> None:
    with gpu(2):
        assert choose_device("cuda:1") == "cuda:1"
        with pytest.raises(VisusError, match=r"cuda:2"):
            choose_device("cuda:2")
        with pytest.raises(VisusError, match=r"--devices 3"):
            Devices("cuda", 3)
