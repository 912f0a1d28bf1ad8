"""How fast this machine trains a network: a few steps at each size of image, before a plan is fitted to the time given."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from visus.models.base import Backbone
from visus.models.cut import entering
from visus.training.batches import at_size, canvas, decoded
from visus.training.budget import Throughput
from visus.training.devices import Devices
from visus.training.networks import Built, FromCut
from visus.training.recipe import Recipe, optimizer_for
from visus.training.training_data import Settings, TrainingData

SCALES = (6 / 7, 5 / 7, 4 / 7)  # of the model's own size: 192, 160 and 128 for 224
STEPS = 2  # timed, after one that is not
DECODED = 24
UNFIT = (RuntimeError, ValueError, AssertionError, TypeError, IndexError)  # what networks of one size raise on another


def sizes_for(built: Built, backbone: Backbone) -> tuple[int, ...]:
    """Sides in pixels, largest first, that the network takes: its own, and smaller ones where its structure allows."""
    native = min(backbone.preprocess.size)
    if backbone.preprocess.size[0] != backbone.preprocess.size[1]:
        return (native,)
    found = [native]
    for scale in SCALES:
        size = round(native * scale / 32) * 32
        if 32 <= size < found[-1] and _runs(built, size):
            found.append(size)
    return tuple(found)


def _runs(built: Built, size: int) -> bool:
    built.classifier.eval()
    try:
        with torch.inference_mode():
            built.classifier(torch.zeros(2, built.classifier.trunk.channels, size, size))
    except UNFIT:
        return False
    return True


def throughput_of_network(
    built: Built, backbone: Backbone, data: TrainingData, sizes: Sequence[int], recipe: Recipe, devices: Devices
) -> Throughput:
    """Of a regime over the whole network, at each of `sizes`: decoding, training, evaluation."""
    n = len(data.train) + len(data.validation) + len(data.test)
    setup, train, held = {}, {}, {}
    for size in sizes:
        preprocess = at_size(backbone.preprocess, size)
        start = time.perf_counter()
        decoded(data.images, data.train[:DECODED], canvas(preprocess), what="a few")
        setup[size] = (time.perf_counter() - start) / min(DECODED, len(data.train)) * n
        batch = min(recipe.batch, len(data.train))
        x = torch.zeros(batch, preprocess.channels, size, size).contiguous(memory_format=torch.channels_last)
        train[size], held[size] = _seconds(built, built.classifier, x, recipe, devices)
    return Throughput(setup, train, held)


def throughput_of_last_block(
    built: Built,
    backbone: Backbone,
    data: TrainingData,
    settings: Settings,
    recipe: Recipe,
    devices: Devices,
    whole: Throughput,
) -> Throughput:
    """Of the last block: the frozen front once for every image and view, then steps over what it gave."""
    size = min(backbone.preprocess.size)
    passes = len(data.train) * max(settings.views, 1) + len(data.validation) + len(data.test)
    entered = entering(
        built.classifier, built.path, torch.zeros(1, backbone.preprocess.channels, *backbone.preprocess.size)
    )
    x = entered.expand(min(recipe.batch, len(data.train)), *entered.shape[1:]).contiguous()
    network = FromCut(built.classifier, built.path, backbone.preprocess.size)
    train, held = _seconds(built, network, x, recipe, devices)
    # The whole network's forward pass is an upper bound of the front's.
    return Throughput({size: whole.setup[size] + passes * whole.held[size]}, {size: train}, {size: held})


def _seconds(
    built: Built, network: torch.nn.Module, x: torch.Tensor, recipe: Recipe, devices: Devices
) -> tuple[float, float]:
    """Seconds an image of a training step and of a forward pass. The weights are as they were before."""
    fabric = devices.fabric() if devices.count == 1 else Devices(devices.kind, 1, devices.precision).fabric()
    before = {k: v.clone() for k, v in built.classifier.state_dict().items()}
    built.train_mode()
    network.to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(network, optimizer_for(network, recipe))
    x, y = x.to(fabric.device), torch.zeros(len(x), dtype=torch.long, device=fabric.device)

    def step() -> None:
        fabric.backward(functional.cross_entropy(model(x).float(), y))
        optimizer.zero_grad(set_to_none=True)

    def forward() -> None:
        with torch.inference_mode():
            model(x)

    train = _timed(step, fabric.device)
    network.eval()
    held = _timed(forward, fabric.device)
    network.to("cpu")
    built.classifier.load_state_dict(before)
    return train / len(x) / devices.count, held / len(x) / devices.count


def _timed(run: object, device: torch.device) -> float:
    """Median seconds of a call, after one that is not counted."""
    times = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        run()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
