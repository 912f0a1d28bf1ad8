"""The input of a regime in memory: images, or what the frozen part of the network makes of them, computed once."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from visus.errors import DataError
from visus.models.base import Backbone
from visus.models.cut import can_cut, entering
from visus.models.preprocess import Preprocess
from visus.progress import log
from visus.training.batches import PARTS, CachedFeed, Feed, ImageFeed, at_size, canvas, decoded
from visus.training.cost import forward_flops, training_flops
from visus.training.frozen_trunk import FrozenTrunk, run_frozen_trunk
from visus.training.loop import Learner
from visus.training.networks import Built, FromCut, OverFeatures, build
from visus.training.regimes import REGIMES
from visus.training.training_data import Settings, TrainingData

SAME = 4  # images on which a cut network must agree with the whole one


@dataclass(frozen=True)
class Prepared:
    """A regime ready to train. network: feed input -> logits, by parts of the classifier. cut: whether it begins at the last block.

    preprocess: of the images as they are trained and tested on. seconds: what the preparation took. note: what a reader should know.
    trunk_flops: what the frozen front took for the training images, once.
    """

    built: Built
    network: torch.nn.Module
    feed: Feed
    preprocess: Preprocess
    seconds: float = 0.0
    trunk_flops: float = 0.0
    note: str = ""

    @property
    def learner(self) -> Learner:
        """What the loop trains: parts of the classifier, whose tensors are kept."""
        return Learner(self.network, self.built.train_mode, self.built.classifier)

    def flops_an_image(self) -> float:
        """Of one forward and backward pass, counted on a copy: a pass in training mode moves BatchNorm's statistics."""
        self.built.train_mode()
        copied = copy.deepcopy(self.network).to("cpu")
        self.built.classifier.eval()
        rows = np.resize(np.arange(min(4, len(self.feed.y))), 4)
        x = self.feed.batch(rows, epoch=0, device=torch.device("cpu"))
        return training_flops(copied, lambda n: x[:n])


def prepare(
    built: Built,
    backbone: Backbone,
    data: TrainingData,
    settings: Settings,
    *,
    size: int | None = None,
    device: str,
    seed: int,
) -> Prepared:
    """Put the regime's input into memory: images, or what the frozen front makes of them.

    size: side in pixels for regimes over the whole network (default: the model's own). Raises DataError for more classes than images.
    """
    start = time.perf_counter()
    if len(data.train) < data.n_classes:
        raise DataError(
            f"{data.images.name} has more classes ({data.n_classes}) than training images ({len(data.train)}); "
            "give at least one image a class to train on"
        )
    trains = REGIMES[built.regime].trains
    if trains == "head":
        found = _over_features(built, backbone, data, settings, device=device, seed=seed)
    elif trains == "last-block":
        found = _over_cut(built, backbone, data, settings, device=device, seed=seed)
    else:
        found = _over_images(built, backbone, data, settings, size=size, seed=seed)
    return replace(found, seconds=time.perf_counter() - start)


def again(prepared: Prepared, backbone: Backbone, settings: Settings, *, seed: int) -> Prepared:
    """The same regime over the same input with another seed: of the head, the order, the augmentation and the dropout."""
    old = prepared.built
    built = build(old.regime, backbone, old.classifier.head.out_features, settings, seed=seed)
    if isinstance(prepared.network, FromCut):
        network: torch.nn.Module = FromCut(built.classifier, built.path, prepared.preprocess.size)
    elif isinstance(prepared.network, OverFeatures):
        network = OverFeatures(built.classifier)
    else:
        network = built.classifier
    feed: Feed = replace(prepared.feed, seed=seed)  # type: ignore[type-var]
    return replace(prepared, built=built, network=network, feed=feed)


def _over_features(
    built: Built, backbone: Backbone, data: TrainingData, settings: Settings, *, device: str, seed: int
) -> Prepared:
    """The head alone, over features that are computed once."""
    front = FrozenTrunk(built.classifier.trunk, _features, backbone.preprocess)
    if data.late is not None and not settings.views:
        held = {part: data.late[part] for part in ("validation", "test")}
        x = data.late["train"][None]
        feed = CachedFeed(x, data.labels[data.train], held, data.held, seed)
        flops = len(data.train) * _trunk_flops(front)
    else:
        feed, flops = _cached(front, backbone, data, settings, device=device, seed=seed)
    network = OverFeatures(built.classifier)
    return Prepared(built, network, feed, backbone.preprocess, trunk_flops=flops)


def _features(trunk: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = trunk.features(batch)  # type: ignore[operator]
    return found


class _Entering:
    """What enters the last block; an object, so that it can be sent to another process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return entering(network, self.path, batch)  # type: ignore[arg-type]


def _over_cut(
    built: Built, backbone: Backbone, data: TrainingData, settings: Settings, *, device: str, seed: int
) -> Prepared:
    """The last block and the head, over what enters the block, computed once; over images where the network cannot be cut."""
    few = decoded(data.images, data.train[:SAME], backbone.preprocess, what="a few")
    if not can_cut(built.classifier, built.path, backbone.preprocess.normalize(torch.from_numpy(few))):
        note = "the frozen front ran in every epoch, as this architecture cannot be cut before its last block"
        log(f"last-block: {note}")
        plain = replace(settings, augment=bool(settings.views))
        return replace(_over_images(built, backbone, data, plain, size=None, seed=seed), note=note)
    front = FrozenTrunk(built.classifier, _Entering(built.path), backbone.preprocess)
    feed, flops = _cached(front, backbone, data, settings, device=device, seed=seed)
    network = FromCut(built.classifier, built.path, backbone.preprocess.size)
    return Prepared(built, network, feed, backbone.preprocess, trunk_flops=flops)


def _cached(
    front: FrozenTrunk, backbone: Backbone, data: TrainingData, settings: Settings, *, device: str, seed: int
) -> tuple[CachedFeed, float]:
    """Everything through a frozen front, once: the feed, and the operations that the training images took."""
    preprocess, views = backbone.preprocess, settings.views
    maps = {}
    for part in ("train", "validation", "test"):
        larger = canvas(preprocess) if views and part == "train" else preprocess
        images = decoded(data.images, data.rows(part), larger, what=part)
        maps[part] = run_frozen_trunk(
            front,
            images,
            views=views if part == "train" else 0,
            seed=seed,
            device=device,
            engine=settings.engine,
            what=f"the frozen front, {part} pictures",
        )
    held = {part: maps[part][0] for part in ("validation", "test")}
    flops = maps["train"].shape[0] * maps["train"].shape[1] * _trunk_flops(front)
    return CachedFeed(maps["train"], data.labels[data.train], held, data.held, seed), flops


def _trunk_flops(front: FrozenTrunk) -> float:
    """Of one image."""
    few = torch.zeros((4, *front.preprocess.size, 3), dtype=torch.uint8)
    return forward_flops(front, lambda n: few[:n])


def _over_images(
    built: Built, backbone: Backbone, data: TrainingData, settings: Settings, *, size: int | None, seed: int
) -> Prepared:
    """The whole network, over images in memory as bytes."""
    preprocess = backbone.preprocess
    if size is not None and size != min(preprocess.size):
        preprocess = at_size(preprocess, size)
    larger = canvas(preprocess) if settings.augment else preprocess
    train = decoded(data.images, data.train, larger, what="training")
    held = {part: decoded(data.images, data.rows(part), preprocess, what=part) for part in PARTS}
    labels = data.labels[data.train]
    feed = ImageFeed(train, labels, held, data.held, preprocess, seed, settings.augment)
    return Prepared(built, built.classifier, feed, preprocess)
