"""A small classifier trained in seconds on images in memory, for a feature space in which samples are judged."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from visus.errors import DataError
from visus.features.latents import as_floats
from visus.memory import halving
from visus.training.devices import Devices, repeatable
from visus.training.loop import Learner, fit
from visus.training.objective import Classification
from visus.training.recipe import Recipe

WIDTH = 128  # of the features
BATCH = 500
STEPS = 300  # at least; small sets get more epochs
LEAST_EPOCHS, MOST_EPOCHS = 3, 30


class SmallCnn(nn.Module):
    """Convolutions at stride 2 with BatchNorm until the map is 4 pixels or smaller, then 128 features, then the classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        c, h, w = shape
        levels = max(1, math.ceil(math.log2(max(h, w) / 4)))
        widths = [c, *(min(32 * 2**k, 128) for k in range(levels))]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
            h, w = -(-h // 2), -(-w // 2)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * h * w, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [b, classes] of images in [0, 1], float [b, c, h, w]."""
        logits: torch.Tensor = self.head(self.trunk(x))
        return logits


@dataclass(frozen=True)
class Labelled:
    """A feed (see batches.Feed) of uint8 images [n, h, w, c] as they are, in [0, 1]."""

    images: np.ndarray
    y: np.ndarray
    held_images: dict[str, np.ndarray]
    held: dict[str, np.ndarray]

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        """float32 [b, c, h, w]."""
        return as_floats(self.images[rows], device)

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        """float32 [b, c, h, w]."""
        return as_floats(self.held_images[part][rows], device)


@dataclass(frozen=True)
class SmallClassifier:
    """The trained network, in eval mode, and its validation accuracy."""

    network: SmallCnn
    validation: float

    def features(self, images: np.ndarray, *, device: str = "cpu") -> np.ndarray:
        """float32 [n, 128]: what the last layer reads, of uint8 images [n, h, w, c]."""
        self.network.to(device)
        try:
            with torch.inference_mode():

                def run(at: slice) -> np.ndarray:
                    features: np.ndarray = self.network.trunk(as_floats(images[at], device)).cpu().numpy()
                    return features

                found = [x for _, x in halving(len(images), BATCH, run, what="features of the small classifier")]
        finally:
            self.network.to("cpu")
        return np.concatenate(found)


def small_classifier(
    train: np.ndarray, y: np.ndarray, held: np.ndarray, held_y: np.ndarray, *, classes: int, devices: Devices, seed: int
) -> SmallClassifier:
    """Train a SmallCnn on uint8 images [n, h, w, c] with labels int64 [n]; `held` are the validation images, which choose the epoch.

    AdamW at 2e-3 with cosine decay. Raises DataError for fewer than two classes in the training part.
    """
    if len(np.unique(y)) < 2:
        raise DataError("a classifier needs training pictures of at least two classes; name a backbone with --features")
    batch = min(128, len(train))
    epochs = min(max(LEAST_EPOCHS, math.ceil(STEPS / max(len(train) // batch, 1))), MOST_EPOCHS)
    recipe = Recipe(2e-3, epochs=epochs, batch=batch, patience=0, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallCnn((train.shape[3], *train.shape[1:3]), classes)
    feed = Labelled(train, y, {"validation": held}, {"validation": held_y})
    with repeatable(devices.kind):
        done = fit(
            Learner(network),
            Classification(feed, recipe.smoothing),
            recipe,
            fabric=Devices(devices.kind).fabric(),
            what="training the classifier whose features judge samples",
        )
    network.to("cpu").eval().requires_grad_(requires_grad=False)
    return SmallClassifier(network, done.epochs[done.best].val_accuracy)
