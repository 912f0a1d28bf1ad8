"""Made for test_on_gpu, test_studies_on_gpu."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import pretend, shapes
from tests.pretend import OnGpu
from tests.training.tiny import feed, network

import visus
from visus.features import batching
from visus.measures import probe as probes
from visus.models.vae import Decoder, VaeSizes, new_vae, wrap
from visus.training.devices import Devices
from visus.training.loop import Learner, fit
from visus.training.objective import Classification
from visus.training.recipe import Recipe

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


def crowded(function: Callable[..., Any], most: int, at: int = 1) -> Callable[..., Any]:
    """A function that has no memory for more than `most` rows of its argument at `at`."""

    def small(*args: Any, **kwargs: Any) -> Any:
        if len(args[at]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*args, **kwargs)

    return small


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


def vae() -> Any:
    return wrap(new_vae(VaeSizes(8, 8, 1, 3, 16, 4), Decoder(), seed=0), "tiny")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A cache of each device's own: features that the CPU has made must not answer for the GPU. The probe, thousands of small steps, which
    has a test of its own, stays on the CPU."""
    monkeypatch.setattr(batching, "CUDA_MOST", 8)  # a GPU tries 512 pictures at once
    # Where the probe itself looks for it: studies hold the probe by a name of their own.
    honest = probes.solve_path
    monkeypatch.setattr(probes, "solve_path", lambda *a, device="cpu", **k: honest(*a, device="cpu", **k))
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


def names(result: Any) -> list[str]:
    """Keys of its figures, of either schema."""
    return [getattr(f, "name", f) for f in result.figures]


def comparable(rows: Any) -> list[Any]:
    """Cells of a table; times, speeds and paths left out."""
    return [v for row in rows for v in row if not isinstance(v, str) or "/" not in v]
