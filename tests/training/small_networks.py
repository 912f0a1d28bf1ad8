"""Networks of every kind that is trained, with little to learn: what several processes train as one does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import timm.layers
import torch

from visus.models.dual_new import ClipConfig as Sizes
from visus.models.dual_new import new_clip, square
from visus.models.vae import Decoder, VaeSizes, new_vae
from visus.training.captions import learn_tokenizer
from visus.training.contrastive import CaptionedImages, ClipTrainer, Contrastive
from visus.training.from_scratch import DRAWINGS, new_vit
from visus.training.objective import Classification, Objective
from visus.training.recipe import Recipe
from visus.training.vae import Elbo, KLSchedule
from visus.training.views import Drop, Views
from visus.training.vit_multitask import UNKNOWN, Multitask, MultitaskImages, MultitaskViT

ADAM = Recipe(1e-3, epochs=2, batch=9, patience=0)


def images(n: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, side, side, 3] of three colours under noise, and which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    x = rng.integers(0, 120, (n, side, side, 3))
    x[np.arange(n), :, :, y] += 100
    return x.astype(np.uint8), y.astype(np.int64)


@dataclass
class Coloured:
    """A feed of coloured pictures; cannot be asked for test."""

    x: np.ndarray
    y: np.ndarray
    held_x: dict[str, np.ndarray]
    held: dict[str, np.ndarray] = field(default_factory=dict)

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self.x[rows]).to(device).permute(0, 3, 1, 2) / 255

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self.held_x[part][rows]).to(device).permute(0, 3, 1, 2) / 255


def colours() -> Coloured:
    (x, y), (v, vy) = (
        images(50, 8),
        images(70, 8, 1),
    )  # 70: two batches of validation for one process, none for the other
    return Coloured(x, y, {"validation": v}, {"validation": vy})


def cnn() -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False),  # a bias before BatchNorm has no gradient but rounding
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 8, 3, 2, 1, bias=False),
            timm.layers.BatchNormAct2d(8),  # with a forward of its own, as in timm's networks
            torch.nn.Flatten(),
            torch.nn.Linear(32, 8, bias=False),
            torch.nn.BatchNorm1d(8, momentum=None),
            torch.nn.Linear(8, 3),
        )


def convolutional() -> tuple[torch.nn.Module, Objective]:
    return cnn(), Classification(colours(), 0.1)


def transformer() -> tuple[torch.nn.Module, Objective]:
    x, y = images(45, 16)
    known = np.where(np.arange(45) % 4 == 0, UNKNOWN, y)  # unevenly spread over the processes
    named = np.where(np.arange(45) % 3 == 0, y, UNKNOWN)
    train = MultitaskImages(x, known, named, None, np.eye(45, 7, dtype=np.float32) + 0.1)
    v, vy = images(20, 16, 1)
    held = MultitaskImages(v, vy, np.full(20, UNKNOWN))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MultitaskViT(new_vit(Sizes(16, 8, 64, 2), 3, seed=0), 3, 7)
    return net, Multitask(train, held, Views(square(16), DRAWINGS, Drop(0.0)), ADAM)


def image_text() -> tuple[torch.nn.Module, Objective]:
    x, y = images(45, 16)
    names = ["a red one", "a green one", "a blue one"]
    tokenizer = learn_tokenizer([*names, "dark, small, old, noisy"], size=300, context=16)
    captions = [(names[k], "dark, small, old, noisy") for k in y]
    v, vy = images(12, 16, 1)
    train, held = CaptionedImages(x, captions, y), CaptionedImages(v, [(names[k],) for k in vy], vy)
    objective = Contrastive(train, held, names, tokenizer, Views(square(16), DRAWINGS, Drop(0.0)), ADAM)
    return ClipTrainer(new_clip(tokenizer, Sizes(16, 8, 64, 1, 64, 1, 64), seed=0)), objective


class Crowded(torch.nn.Module):
    """A network behind which the second process has room for two rows alone; it finds out behind a BatchNorm, while the first one waits."""

    def __init__(self, net: torch.nn.Sequential) -> None:
        super().__init__()
        self.first, self.rest = net[:4], net[4:]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.training and len(x) > 2 and torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        found: torch.Tensor = self.rest(x)
        return found


def crowded() -> tuple[torch.nn.Module, Objective]:
    return Crowded(cnn()), Classification(colours(), 0.1)


def autoencoder() -> tuple[torch.nn.Module, Objective]:
    x, _ = images(45, 8)
    return new_vae(VaeSizes(8, 8, 3, 4, 16, 4), Decoder(), seed=0), Elbo(x, x[:20], KLSchedule(free_bits=0.05), seed=0)
