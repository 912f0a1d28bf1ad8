"""Every command on a GPU, which is pretended (tests/pretend.py): it runs to its end, the work is done there, and the numbers are the CPU's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import pretend, shapes
from tests.pretend import OnGpu, gpu
from tests.training.tiny import feed, network
from torch._subclasses.fake_tensor import FakeTensorMode

import visus
from visus.app.run import exact
from visus.device import choose_device
from visus.errors import VisusError
from visus.features import batching, engines, extract
from visus.features.latents import bounds, decoded_latents, log_weights, posteriors, sensitivity
from visus.images import load_images
from visus.measures import probe as probes
from visus.measures.knn import top_k
from visus.models import load_backbone
from visus.models.attention import attention, rollout
from visus.models.dual_open import load_dual
from visus.models.relevance import relevance
from visus.models.tapped_module import TappedModule
from visus.models.tokens import forward_kept
from visus.models.vae import Decoder, VaeSizes, new_vae, wrap
from visus.models.vit import vit_layout
from visus.studies.clip.encoding import embed
from visus.studies.vit import maps as vit_maps
from visus.studies.vit.evaluated import EvaluatedModel, PreparedImages
from visus.studies.vit.masking import curves
from visus.training import checkpoint
from visus.training.batchnorm import recalibrate
from visus.training.devices import Devices, repeatable
from visus.training.gradients import stage_gradient_norms
from visus.training.loop import Learner, fit
from visus.training.objective import Classification, held_logits
from visus.training.recipe import Recipe
from visus.training.small_cnn import small_classifier

CNN, VIT = "timm:test_byobnet?weights=none", "timm:test_vit?weights=none"
SMALL: dict[str, Any] = {
    "epochs": 2, "batch": 8, "size": 16, "patch": 8, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(shapes.write(tmp_path_factory.mktemp("gpu") / "set", each=5))


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The operations that the pretended GPU has done."""
    done: set[str] = set()
    real = OnGpu.__torch_dispatch__.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, func: Any, *rest: Any) -> Any:
        done.add(func._schema.name.removeprefix("aten::"))
        return real(cls, func, *rest)

    monkeypatch.setattr(OnGpu, "__torch_dispatch__", classmethod(watched))
    return done


# The machine itself


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


def crowded(function: Callable[..., Any], most: int, at: int = 1) -> Callable[..., Any]:
    """A function that has no memory for more than `most` rows of its argument at `at`."""

    def small(*args: Any, **kwargs: Any) -> Any:
        if len(args[at]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*args, **kwargs)

    return small


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
    monkeypatch.setattr(vit_maps, "attention", crowded(attention, 2))
    monkeypatch.setattr(curves, "forward_kept", crowded(forward_kept, 3))
    for a, b in zip(look(), expected, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_a_probe_that_a_gpu_has_no_memory_for_is_fitted_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2, np.arange(40)
    settings = {"folds": [(rows[:20], rows[20:30])], "train": rows[:30], "test": rows[30:], "n_classes": 2}
    honest, asked = probes.solve_path, []

    def small(*args: Any, device: str, **kwargs: Any) -> Any:
        asked.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(*args, device=device, **kwargs)

    expected = probes.linear_probe(x, y, **settings)
    monkeypatch.setattr(probes, "solve_path", small)
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


# Training


def trained(device: str, folder: Path, *, epochs: int = 3, **recipe: Any) -> tuple[torch.nn.Module, Any]:
    data, net = feed(), network()
    net[0].bias.requires_grad_(False)  # before BatchNorm: its gradient is nothing but rounding
    net[3] = torch.nn.Identity()  # no dropout: the generators of a GPU are others
    with pretend.on(device)():
        fabric = Devices(device).fabric()
        done = fit(
            Learner(net), Classification(data, 0.1), Recipe(1e-2, batch=24, patience=0, **{"epochs": epochs, **recipe}),
            fabric=fabric, folder=folder,
        )  # fmt: skip
    return net, done


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


# What studies compute


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


def vae() -> Any:
    return wrap(new_vae(VaeSizes(8, 8, 1, 3, 16, 4), Decoder(), seed=0), "tiny")


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


# Whole commands


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A cache of each device's own: features that the CPU has made must not answer for the GPU. The probe, thousands of small steps, which
    has a test of its own, stays on the CPU."""
    monkeypatch.setattr(batching, "CUDA_MOST", 8)  # a GPU tries 512 pictures at once
    honest = probes.linear_probe
    monkeypatch.setattr(probes, "linear_probe", lambda *a, device="cpu", **k: honest(*a, device="cpu", **k))
    return lambda device: monkeypatch.setenv("VISUS_HOME", str(tmp_path / f"home-{device}"))


COMMANDS: dict[str, Callable[[str, str, str], Any]] = {
    "predict": lambda p, d, out: visus.predict(p, model="visus:emoji-vit", device=d),
    "predict by texts": lambda p, d, out: visus.predict(
        p, model="visus:emoji-clip", classes=["circle", "square"], device=d
    ),
    "train vit": lambda p, d, out: visus.train("vit", images=p, device=d, out=out, **SMALL),
}
LONG: dict[str, Callable[[str, str, str], Any]] = {
    "extract": lambda p, d, out: visus.extract(model=CNN, images=p, device=d, engine="torch"),
    "search": lambda p, d, out: visus.clip(model="visus:emoji-clip", images=p, device=d, search=["red circle"]),
    "transfer, a CNN": lambda p, d, out: visus.transfer(
        model=[CNN], images=p, device=d, engine="torch", regime=["head,last-block,lora,full,scratch"], epochs=1, batch=8,
        lr="1e-3", maps=False, budget="none", views=1,
    ),
    "transfer, a ViT in bf16": lambda p, d, out: visus.transfer(
        model=[VIT], images=p, device=d, engine="torch", regime=["last-block,full"], epochs=1, batch=8, lr="1e-3",
        maps=False, budget="none", precision="bf16",
    ),
    "transfer without skips": lambda p, d, out: visus.transfer(
        model=["timm:test_resnet?weights=none"], images=p, device=d, engine="torch", regime=["probe"], maps=False,
        ablate_skips="all", epochs=1, batch=8,
    ),
    "vit": lambda p, d, out: visus.vit(model=["visus:emoji-vit"], images=p, device=d, masked=4, shown=2, controls=False),
    "clip": lambda p, d, out: visus.clip(model="visus:emoji-clip", images=p, device=d, control=False),
    "vae": lambda p, d, out: visus.vae(images="visus:digits", device=d, epochs=1, limit=300, latent=4),
}  # fmt: skip


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
    assert _names(a) == _names(b)
    if name in ("extract", "predict", "predict by texts", "search", "vit"):
        for title in a.tables:
            for x, y in zip(*(_comparable(r.tables[title].rows) for r in (a, b)), strict=True):
                assert x == (pytest.approx(y, rel=1e-3, abs=1e-3) if isinstance(y, float) else y), title


def _names(result: Any) -> list[str]:
    """Keys of its figures, of either schema."""
    return [getattr(f, "name", f) for f in result.figures]


def _comparable(rows: Any) -> list[Any]:
    """Cells of a table; times, speeds and paths left out."""
    return [v for row in rows for v in row if not isinstance(v, str) or "/" not in v]


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
