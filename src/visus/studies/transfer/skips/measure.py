"""What skip connections do (P7): they are taken away in chosen blocks, or one block at a time, and the head is trained again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from visus.images import ImageSet, Splits
    from visus.measures.probe import ProbeResult
    from visus.models import Backbone
    from visus.models.skips import Skip
    from visus.studies.transfer.regimes.runs import Options
    from visus.training.devices import Devices
    from visus.training.records import Run

RECALIBRATED_ON = 512  # training images, in batches of RECALIBRATED_BY
RECALIBRATED_BY = 32
GRADIENTS_OF = 256  # training images
SWEPT = (2000, 1000)  # at most so many training and test images in a sweep, which runs the network once a block


@dataclass(frozen=True)
class AblationSetup:
    """The images and the network that are looked at. kept: positions in the ImageSet; y, splits: in their numbering."""

    backbone: Backbone
    imageset: ImageSet
    kept: np.ndarray
    y: np.ndarray
    splits: Splits
    engine: str
    precision: str
    device: str
    seed: int

    @property
    def test_y(self) -> np.ndarray:
        found: np.ndarray = self.y[self.splits.test]
        return found

    @property
    def n_classes(self) -> int:
        return len(self.imageset.classes)


@dataclass(frozen=True)
class Variant:
    """One network with its head trained again. name: 'intact', 'without skips' or 'without skips, BatchNorm recalibrated'.

    probe: the convex fit of the head. run: the head by gradient descent, for its curves. gradients: stage -> norm of the loss's gradient.
    """

    name: str
    probe: ProbeResult
    run: Run
    gradients: dict[str, float]


@dataclass(frozen=True)
class Removal:
    """One block of a sweep without its skip: which test images the newly fitted head gets right, bool [n_test], without and
    with BatchNorm recalibrated (None: the network has none)."""

    skip: Skip
    right: np.ndarray
    recalibrated: np.ndarray | None


def variants(scene: AblationSetup, skips: Sequence[Skip], options: Options, devices: Devices) -> tuple[Variant, ...]:
    """The intact network and the one without these skips, with and without recalibrated BatchNorm."""
    from visus.progress import task

    found = []
    with task("removing skip connections", 3) as progress:
        for name, network, removal in _networks(scene, skips):
            with removal:
                x = _late(scene, network, scene.imageset, scene.kept)
                run, gradients = _head(scene, network, x, options, devices)
            found.append(Variant(name, _probe(scene, x, scene.y, scene.splits), run, gradients))
            progress.advance()
    return tuple(found)


def sweep(scene: AblationSetup, skips: Sequence[Skip]) -> tuple[np.ndarray, tuple[Removal, ...], Splits]:
    """Every block in turn without its skip. Returns (which test images the intact network gets right, the removals, the splits used)."""
    from visus.progress import task

    small, rows = _smaller(scene)
    images, y = scene.imageset.subset(scene.kept[rows]), scene.y[rows]
    every = np.arange(len(rows))

    def right(network: Backbone) -> np.ndarray:
        probe = _probe(scene, _late(scene, network, images, every), y, small)
        found: np.ndarray = probe.predictions == y[small.test]
        return found

    removals = []
    with task("removing one skip at a time", len(skips)) as progress:
        intact = right(scene.backbone)
        for skip in skips:
            results: list[np.ndarray | None] = []
            for name, network, removal in _networks(scene, [skip]):
                if name != "intact":
                    with removal:
                        results.append(right(network))
            plain, recalibrated = (*results, None)[:2]
            removals.append(Removal(skip, plain, recalibrated))  # type: ignore[arg-type]
            progress.advance()
    return intact, tuple(removals), small


def _networks(scene: AblationSetup, skips: Sequence[Skip]) -> Iterator[tuple[str, Backbone, Any]]:
    """(name, network, context in which its skips are gone) of each variant; the last one only where there is BatchNorm."""
    from visus.models.skips import without_skips

    backbone = scene.backbone
    yield "intact", backbone, nullcontext()
    yield "without skips", backbone, without_skips(backbone.module, skips)
    twin = replace(backbone, module=copy.deepcopy(backbone.module))
    if _recalibrated(scene, twin, skips):
        yield "without skips, BatchNorm recalibrated", twin, without_skips(twin.module, skips)


def _recalibrated(scene: AblationSetup, network: Backbone, skips: Sequence[Skip]) -> bool:
    """Estimate the BatchNorm statistics of the network without its skips on training images; False where it has none."""
    from visus.models.skips import without_skips
    from visus.training.batchnorm import recalibrate

    with without_skips(network.module, skips):
        return recalibrate(network.module, (x for x, _ in _batches(scene, RECALIBRATED_ON, RECALIBRATED_BY)))


def _batches(scene: AblationSetup, n: int, size: int) -> Iterator[tuple[Any, Any]]:
    """(normalised pictures, labels) of up to n training images, chosen by the seed, in whole batches where there are enough."""
    import torch

    from visus.training.batches import decoded

    rows = np.random.default_rng(scene.seed).permutation(scene.splits.folds[0][0])[:n]
    size = min(size, len(rows))
    preprocess = scene.backbone.preprocess
    for start in range(0, len(rows) - size + 1, size):
        part = rows[start : start + size]
        pictures = decoded(scene.imageset, scene.kept[part], preprocess, what="")
        yield preprocess.normalize(torch.from_numpy(pictures)), torch.from_numpy(scene.y[part])


def _late(scene: AblationSetup, network: Backbone, images: ImageSet, rows: np.ndarray) -> np.ndarray:
    """float32 [len(rows), d]: the network's last features as it stands now."""
    from visus.features import extract
    from visus.studies.common.shared import rows_of

    (tap,) = network.resolve(["late"])
    features = extract(images, network, [tap.name], engine=scene.engine, precision=scene.precision, device=scene.device)
    return rows_of(features, tap.name, rows)


def _probe(scene: AblationSetup, x: np.ndarray, y: np.ndarray, splits: Splits) -> ProbeResult:
    from visus.measures.probe import linear_probe

    return linear_probe(
        x, y, folds=splits.folds, train=splits.train, test=splits.test,
        n_classes=scene.n_classes, device=scene.device,
    )  # fmt: skip


def _head(
    scene: AblationSetup, network: Backbone, x: np.ndarray, options: Options, devices: Devices
) -> tuple[Run, dict[str, float]]:
    """Train a new head on the network's features; its run, and the gradient that its loss sends to every stage."""
    from visus.models.stages import stages_of
    from visus.studies.transfer.regimes.measure import train_head
    from visus.training.gradients import stage_gradient_norms

    built, run = train_head(network, scene.imageset, scene.kept, scene.splits, options, devices, late=x)
    stages = {name: f"trunk.{path}" for name, path in stages_of(network).items()}
    return run, stage_gradient_norms(built.classifier, _batches(scene, GRADIENTS_OF, RECALIBRATED_BY), stages)


def _smaller(scene: AblationSetup) -> tuple[Splits, np.ndarray]:
    """Splits of at most SWEPT images, numbered anew, and the positions (in `kept`) that the numbers stand for."""
    from visus.images import Splits

    rng = np.random.default_rng(scene.seed)

    def some(rows: np.ndarray, most: int) -> np.ndarray:
        return np.sort(rng.permutation(rows)[:most])

    fit, val = scene.splits.folds[0]
    share = len(fit) / (len(fit) + len(val))
    fit, val = some(fit, round(SWEPT[0] * share)), some(val, round(SWEPT[0] * (1 - share)))
    test = some(scene.splits.test, SWEPT[1])
    rows = np.sort(np.concatenate([fit, val, test]))

    def at(part: np.ndarray) -> np.ndarray:
        return np.searchsorted(rows, part)

    return Splits(np.sort(np.concatenate([at(fit), at(val)])), ((at(fit), at(val)),), at(test)), rows
