"""One regime from a backbone to a trained network: what trains, on what input, with which learning rate, and what it cost (P6)."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from visus.errors import DataError
from visus.locks import locked
from visus.models.base import Backbone
from visus.models.classifier import Classifier, classifier_of
from visus.models.cut import Tail, can_cut, entering
from visus.models.lora import add_lora, merge_lora
from visus.models.parts import freeze, last_block, set_modes, trainable
from visus.models.preprocess import Preprocess
from visus.paths import write_text
from visus.progress import log
from visus.training import checkpoint
from visus.training.batches import PARTS, CachedFeed, Feed, PictureFeed, at_size, canvas, decoded
from visus.training.cost import forward_flops, training_flops
from visus.training.devices import Devices
from visus.training.frozen_trunk import Front, through_front
from visus.training.loop import DivergedError, Fit, fit, shorter
from visus.training.objective import Classification, held_logits
from visus.training.processes import with_fabric
from visus.training.recipe import Recipe
from visus.training.records import Run, Trial

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from visus.images import ImageSet

REGIMES = ("head", "last-block", "lora", "full", "scratch")
WHOLE = ("lora", "full", "scratch")  # every picture passes through the whole network in every epoch
SAME = 4  # pictures on which a cut network must agree with the whole one


@dataclass(frozen=True)
class TrainingData:
    """What a regime is trained on. train, validation, test: positions in the ImageSet; labels: int64 [len(images)].

    late: (float32 [n, d], ...) by part, the frozen network's features where they are known already.
    """

    images: ImageSet
    labels: np.ndarray
    n_classes: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    late: Mapping[str, np.ndarray] | None = None

    def rows(self, part: str) -> np.ndarray:
        """Positions of 'train', 'validation' or 'test'."""
        found: np.ndarray = getattr(self, part)
        return found

    @property
    def held(self) -> dict[str, np.ndarray]:
        """Labels of the held-out parts."""
        return {part: self.labels[self.rows(part)] for part in ("validation", "test")}


@dataclass(frozen=True)
class Settings:
    """What holds for every regime. views: augmented views of every picture that a frozen front keeps (0: none, the pictures as they stand).

    augment: whether regimes over the whole network see augmented pictures. engine: what runs a frozen front.
    """

    views: int = 0
    augment: bool = True
    engine: str = "auto"
    lora_rank: int = 8


@dataclass(frozen=True)
class Built:
    """The network of a regime before it is fed. classifier: trunk and head. names: its parameters that train. path: of the last block."""

    regime: str
    classifier: Classifier
    names: tuple[str, ...]
    path: str = ""

    def train_mode(self) -> None:
        """Train what trains; keep what is frozen in eval mode, so that its BatchNorm statistics stay (P2)."""
        set_modes(self.classifier, self.names)


@dataclass(frozen=True)
class Prepared:
    """A regime ready to train. network: feed input -> logits, by parts of the classifier. cut: whether it begins at the last block.

    preprocess: of the pictures as they are trained and tested on. seconds: what the preparation took. note: what a reader should know.
    front_flops: what the frozen front took for the training pictures, once.
    """

    built: Built
    network: torch.nn.Module
    feed: Feed
    preprocess: Preprocess
    seconds: float = 0.0
    front_flops: float = 0.0
    note: str = ""

    def flops_a_picture(self) -> float:
        """Of one forward and backward pass, counted on a copy: a pass in training mode moves BatchNorm's statistics."""
        self.built.train_mode()
        twin = copy.deepcopy(self.network).to("cpu")
        self.built.classifier.eval()
        rows = np.resize(np.arange(min(4, len(self.feed.y))), 4)
        x = self.feed.batch(rows, epoch=0, device=torch.device("cpu"))
        return training_flops(twin, lambda n: x[:n])


def build(regime: str, backbone: Backbone, n_classes: int, settings: Settings, *, seed: int) -> Built:
    """The classifier of a regime, with gradients where it trains. backbone: pretrained, or random for 'scratch'.

    Raises SpecError where the architecture does not allow the regime.
    """
    classifier = classifier_of(backbone, n_classes, seed=seed)
    names = (
        add_lora(classifier, backbone, rank=settings.lora_rank, seed=seed)
        if regime == "lora"
        else trainable(classifier, backbone, regime)
    )
    freeze(classifier, names)
    return Built(regime, classifier, names, last_block(backbone) if regime == "last-block" else "")


def prepare(
    built: Built,
    backbone: Backbone,
    material: TrainingData,
    settings: Settings,
    *,
    size: int | None = None,
    device: str,
    seed: int,
) -> Prepared:
    """Put the regime's input into memory: pictures, or what the frozen front makes of them.

    size: side in pixels for regimes over the whole network (default: the model's own). Raises DataError for more classes than images.
    """
    start = time.perf_counter()
    if len(material.train) < material.n_classes:
        raise DataError(
            f"{material.images.name} has more classes ({material.n_classes}) than training images ({len(material.train)}); "
            "give at least one image a class to train on"
        )
    if built.regime == "head":
        found = _over_features(built, backbone, material, settings, device=device, seed=seed)
    elif built.regime == "last-block":
        found = _over_cut(built, backbone, material, settings, device=device, seed=seed)
    else:
        found = _over_pictures(built, backbone, material, settings, size=size, seed=seed)
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


class OverFeatures(torch.nn.Module):
    """Features -> logits: the classifier's head alone."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.head = classifier.head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(features)
        return logits


def _over_features(
    built: Built, backbone: Backbone, material: TrainingData, settings: Settings, *, device: str, seed: int
) -> Prepared:
    """The head alone, over features that are computed once."""
    front = Front(built.classifier.trunk, _features, backbone.preprocess)
    if material.late is not None and not settings.views:
        held = {part: material.late[part] for part in ("validation", "test")}
        x = material.late["train"][None]
        feed = CachedFeed(x, material.labels[material.train], held, material.held, seed)
        flops = len(material.train) * _front_flops(front)
    else:
        feed, flops = _cached(front, backbone, material, settings, device=device, seed=seed)
    network = OverFeatures(built.classifier)
    return Prepared(built, network, feed, backbone.preprocess, front_flops=flops)


def _features(trunk: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = trunk.features(batch)  # type: ignore[operator]
    return found


class _Entering:
    """What enters the last block; an object, so that it can be sent to another process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return entering(network, self.path, batch)  # type: ignore[arg-type]


class FromCut(torch.nn.Module):
    """What enters the last block -> logits: the classifier from the cut on, as a module that Fabric can set up."""

    def __init__(self, classifier: Classifier, path: str, size: tuple[int, int]) -> None:
        super().__init__()
        self.classifier = classifier
        self.path, self.size = path, size
        self._tail: Tail | None = None

    def forward(self, cached: torch.Tensor) -> torch.Tensor:
        if self._tail is None:
            self._tail = Tail(self.classifier, self.path, self.size)
        return self._tail(cached)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tail": None}  # it holds outputs by module: another process makes its own


def _over_cut(
    built: Built, backbone: Backbone, material: TrainingData, settings: Settings, *, device: str, seed: int
) -> Prepared:
    """The last block and the head, over what enters the block, computed once; over pictures where the network cannot be cut."""
    few = decoded(material.images, material.train[:SAME], backbone.preprocess, what="a few")
    if not can_cut(built.classifier, built.path, backbone.preprocess.normalize(torch.from_numpy(few))):
        note = "the frozen front ran in every epoch, as this architecture cannot be cut before its last block"
        log(f"last-block: {note}")
        plain = replace(settings, augment=bool(settings.views))
        return replace(_over_pictures(built, backbone, material, plain, size=None, seed=seed), note=note)
    front = Front(built.classifier, _Entering(built.path), backbone.preprocess)
    feed, flops = _cached(front, backbone, material, settings, device=device, seed=seed)
    network = FromCut(built.classifier, built.path, backbone.preprocess.size)
    return Prepared(built, network, feed, backbone.preprocess, front_flops=flops)


def _cached(
    front: Front, backbone: Backbone, material: TrainingData, settings: Settings, *, device: str, seed: int
) -> tuple[CachedFeed, float]:
    """Everything through a frozen front, once: the feed, and the operations that the training pictures took."""
    preprocess, views = backbone.preprocess, settings.views
    maps = {}
    for part in ("train", "validation", "test"):
        larger = canvas(preprocess) if views and part == "train" else preprocess
        pictures = decoded(material.images, material.rows(part), larger, what=part)
        maps[part] = through_front(
            front,
            pictures,
            views=views if part == "train" else 0,
            seed=seed,
            device=device,
            engine=settings.engine,
            what=f"the frozen front, {part} pictures",
        )
    held = {part: maps[part][0] for part in ("validation", "test")}
    flops = maps["train"].shape[0] * maps["train"].shape[1] * _front_flops(front)
    return CachedFeed(maps["train"], material.labels[material.train], held, material.held, seed), flops


def _front_flops(front: Front) -> float:
    """Of one picture."""
    few = torch.zeros((4, *front.preprocess.size, 3), dtype=torch.uint8)
    return forward_flops(front, lambda n: few[:n])


def _over_pictures(
    built: Built, backbone: Backbone, material: TrainingData, settings: Settings, *, size: int | None, seed: int
) -> Prepared:
    """The whole network, over pictures in memory as bytes."""
    preprocess = backbone.preprocess
    if size is not None and size != min(preprocess.size):
        preprocess = at_size(preprocess, size)
    larger = canvas(preprocess) if settings.augment else preprocess
    train = decoded(material.images, material.train, larger, what="training")
    held = {part: decoded(material.images, material.rows(part), preprocess, what=part) for part in PARTS}
    labels = material.labels[material.train]
    feed = PictureFeed(train, labels, held, material.held, preprocess, seed, settings.augment)
    return Prepared(built, built.classifier, feed, preprocess)


def train(
    prepared: Prepared,
    recipe: Recipe,
    *,
    grid: tuple[float, ...],
    trial_epochs: int,
    trial_pictures: int | None = None,
    allowed: float | None = None,
    devices: Devices,
    folder: Path,
) -> Run:
    """Choose the learning rate on validation, train with it, and look at the test pictures once. The classifier holds the best epoch.

    folder: checkpoints, trials and the finished run; a second call with the same arguments goes on, or returns what is finished.
    Raises DivergedError where every learning rate, or the run itself, breaks down.
    """
    waiting = (
        f"another process is training {prepared.built.regime} in {folder}; waiting for it, its result will be used"
    )
    with locked(folder, waiting=waiting):
        found = checkpoint.finished(folder)
        if found is None:
            work = _Work(prepared, recipe, grid, trial_epochs, trial_pictures, allowed, folder)
            with_fabric(work, devices)
            found = checkpoint.finished(folder)
    if found is None:
        raise DataError(f"{folder} was changed while it was written; run the same command again")
    restore(prepared.built, folder)
    return found


def restore(built: Built, folder: Path) -> None:
    """Put the weights that a finished run kept into its classifier."""
    kept = checkpoint.load(folder / checkpoint.BEST)
    if kept is None:
        raise DataError(f"{folder} holds no weights; delete it and run the same command again")
    checkpoint.put_back(built.classifier, kept["tensors"])
    built.classifier.eval()


@dataclass(frozen=True)
class _Work:
    """The work of one process: the same in each, but the share of every batch."""

    prepared: Prepared
    recipe: Recipe
    grid: tuple[float, ...]
    trial_epochs: int
    trial_pictures: int | None
    allowed: float | None
    folder: Path

    def __call__(self, fabric: Fabric) -> None:
        start = time.perf_counter()
        trials = self._trials(fabric)
        lr = _best(trials).lr if trials else self.grid[0]
        recipe = replace(self.recipe, lr=lr)
        network, feed = self.prepared.network, self.prepared.feed
        done = fit(
            network,
            Classification(feed, recipe.smoothing),
            recipe,
            fabric=fabric,
            train_mode=self.prepared.built.train_mode,
            holder=self.prepared.built.classifier,
            folder=self.folder,
            allowed=self.allowed,
            what=f"{self.prepared.built.regime}, learning rate {lr:g}",
        )
        network.to(fabric.device)
        try:
            logits = held_logits(network, feed, "test", fabric)
        finally:
            network.to("cpu")
        seconds = done.seconds + sum(t.seconds for t in trials)
        if fabric.global_rank == 0:
            run = _record(done, recipe, logits, trials, max(seconds, time.perf_counter() - start))
            checkpoint.finish(self.folder, run)
        fabric.barrier()

    def _trials(self, fabric: Fabric) -> tuple[Trial, ...]:
        """Learning rates of the grid, tried from the same start; what was tried before a kill is not tried again."""
        if len(self.grid) == 1:
            return ()
        p, file = self.prepared, self.folder / "trials.json"
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else []
        tried_before: list[Trial] = fabric.broadcast([Trial(**t) for t in kept])  # as the first process found them
        whole, begin = p.built.classifier, checkpoint.tensors_of(p.built.classifier)
        feed = p.feed if self.trial_pictures is None else _Few(p.feed, self._few())
        known: dict[float, Trial] = {t.lr: t for t in tried_before}

        def tried(lr: float) -> Trial:
            if lr in known:
                return known[lr]
            checkpoint.put_back(whole, begin)
            recipe, started = shorter(self.recipe, epochs=self.trial_epochs, lr=lr), time.perf_counter()
            what = f"{p.built.regime}, trying learning rate {lr:g}"
            try:
                task = Classification(feed, recipe.smoothing)
                done = fit(
                    p.network, task, recipe, fabric=fabric, train_mode=p.built.train_mode, holder=whole, what=what
                )
                last = _last(done)
            except DivergedError:
                last = (0.0, float("inf"))
            share = len(feed.y) / len(p.feed.y)
            known[lr] = Trial(lr, *last, self.trial_epochs * share, time.perf_counter() - started)
            if fabric.global_rank == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps([asdict(t) for t in known.values()]))
            return known[lr]

        trials = walk(self.grid, tried)
        checkpoint.put_back(whole, begin)
        if all(t.val_loss == float("inf") for t in trials):
            raise DivergedError(
                f"{p.built.regime}: the loss is not a number at any learning rate of the grid; give a lower --lr"
            )
        return tuple(trials)

    def _few(self) -> np.ndarray:
        n = len(self.prepared.feed.y)
        return np.random.default_rng(self.recipe.seed).permutation(n)[: self.trial_pictures]


def walk(grid: tuple[float, ...], tried: Callable[[float], Trial]) -> list[Trial]:
    """Try learning rates from the middle of the grid towards the better side, until they get worse or the grid ends.

    Validation accuracy over the logarithm of the learning rate rises and then falls: what lies beyond a fall need not be tried.
    grid: rising, two or more. Returns the trials, by learning rate.
    """
    at = min(len(grid) // 2, len(grid) - 2)
    trials = {k: tried(grid[k]) for k in (at, at + 1)}
    step = 1 if _rank(trials[at + 1]) >= _rank(trials[at]) else -1
    k = max(trials) if step > 0 else at
    while 0 <= k + step < len(grid):
        trials[k + step] = tried(grid[k + step])
        if _rank(trials[k + step]) < _rank(trials[k]):
            break
        k += step
    return [trials[k] for k in sorted(trials)]


def _rank(trial: Trial) -> tuple[float, float]:
    return trial.val_accuracy, -trial.val_loss


def _last(done: Fit) -> tuple[float, float]:
    """(accuracy, loss) on validation after a trial: of its best epoch."""
    return done.epochs[done.best].val_accuracy, done.epochs[done.best].val_loss


def _best(trials: tuple[Trial, ...]) -> Trial:
    """By validation accuracy, then loss: test pictures have no say, they are not even in a Trial."""
    return max(trials, key=_rank)


def _record(done: Fit, recipe: Recipe, logits: np.ndarray, trials: tuple[Trial, ...], seconds: float) -> Run:
    return Run(recipe.seed, recipe.lr, done.epochs, done.best, logits, trials, seconds, done.stopped, done.steps)


@dataclass(frozen=True)
class _Few:
    """A feed with some of the training pictures of another."""

    feed: Feed
    rows: np.ndarray

    @property
    def y(self) -> np.ndarray:
        found: np.ndarray = self.feed.y[self.rows]
        return found

    @property
    def held(self) -> dict[str, np.ndarray]:
        return self.feed.held

    def batch(self, rows: np.ndarray, *, epoch: int, device: torch.device) -> torch.Tensor:
        return self.feed.batch(self.rows[rows], epoch=epoch, device=device)

    def held_batch(self, part: str, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        return self.feed.held_batch(part, rows, device=device)


def trained_backbone(built: Built, backbone: Backbone, preprocess: Preprocess | None = None) -> Backbone:
    """The backbone with the weights that training left, for looking at its features; LoRA's adapters are merged into them.

    preprocess: of the pictures that it was trained on, where it is not the backbone's own.
    """
    if built.regime == "lora":
        merge_lora(built.classifier)
    found = built.classifier.backbone(backbone)
    return replace(found, preprocess=preprocess) if preprocess else found
