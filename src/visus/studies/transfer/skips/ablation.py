"""Networks without some of their skip connections, each with a head fitted again (P7)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from visus.features import extract
from visus.images import Splits
from visus.measures.probe import ProbeResult
from visus.models import Backbone
from visus.models.skips import Skip, without_skips
from visus.models.stages import stages_of
from visus.progress import task
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.probing import fit_probe
from visus.studies.common.taps import rows_of
from visus.studies.transfer.regime_options import RegimeOptions
from visus.studies.transfer.regimes.train import train_head
from visus.training.batches import decoded
from visus.training.batchnorm import recalibrate
from visus.training.devices import Devices
from visus.training.gradients import stage_gradient_norms
from visus.training.records import Run

RECALIBRATED_ON = 512  # training images, in batches of RECALIBRATED_BY
RECALIBRATED_BY = 32
GRADIENTS_OF = 256  # training images
SWEPT = (2000, 1000)  # at most so many training and test images in a sweep, which runs the network once a block


@dataclass(frozen=True)
class AblationSetup:
    """The network that is looked at, on which images, and how features are extracted."""

    backbone: Backbone
    images: LabelledImages
    engine: str
    precision: str
    device: str
    seed: int


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


def variants(
    setup: AblationSetup, skips: Sequence[Skip], options: RegimeOptions, devices: Devices
) -> tuple[Variant, ...]:
    """The intact network and the one without these skips, with and without recalibrated BatchNorm."""
    found = []
    with task("removing skip connections", 3) as progress:
        for name, network, removal in _networks(setup, skips):
            with removal:
                x = _late(setup, network, setup.images)
                run, gradients = _head(setup, network, x, options, devices)
            found.append(Variant(name, fit_probe(x, setup.images, device=setup.device), run, gradients))
            progress.advance()
    return tuple(found)


def sweep(setup: AblationSetup, skips: Sequence[Skip]) -> tuple[np.ndarray, tuple[Removal, ...], Splits]:
    """Every block in turn without its skip. Returns (which test images the intact network gets right, the removals, the splits used)."""
    small = _smaller(setup.images, setup.seed)

    def right(network: Backbone) -> np.ndarray:
        probe = fit_probe(_late(setup, network, small), small, device=setup.device)
        found: np.ndarray = probe.predictions == small.test_y
        return found

    removals = []
    with task("removing one skip at a time", len(skips)) as progress:
        intact = right(setup.backbone)
        for skip in skips:
            results: list[np.ndarray | None] = []
            for name, network, removal in _networks(setup, [skip]):
                if name != "intact":
                    with removal:
                        results.append(right(network))
            plain, recalibrated = (*results, None)[:2]
            removals.append(Removal(skip, plain, recalibrated))  # type: ignore[arg-type]
            progress.advance()
    return intact, tuple(removals), small.splits


def _networks(setup: AblationSetup, skips: Sequence[Skip]) -> Iterator[tuple[str, Backbone, Any]]:
    """(name, network, context in which its skips are gone) of each variant; the last one only where there is BatchNorm."""
    backbone = setup.backbone
    yield "intact", backbone, nullcontext()
    yield "without skips", backbone, without_skips(backbone.module, skips)
    copied = replace(backbone, module=copy.deepcopy(backbone.module))
    if _recalibrated(setup, copied, skips):
        yield "without skips, BatchNorm recalibrated", copied, without_skips(copied.module, skips)


def _recalibrated(setup: AblationSetup, network: Backbone, skips: Sequence[Skip]) -> bool:
    """Estimate the BatchNorm statistics of the network without its skips on training images; False where it has none."""
    with without_skips(network.module, skips):
        return recalibrate(network.module, (x for x, _ in _batches(setup, RECALIBRATED_ON, RECALIBRATED_BY)))


def _batches(setup: AblationSetup, n: int, size: int) -> Iterator[tuple[Any, Any]]:
    """(normalised pictures, labels) of up to n training images, chosen by the seed, in whole batches where there are enough."""
    rows = np.random.default_rng(setup.seed).permutation(setup.images.splits.folds[0][0])[:n]
    size = min(size, len(rows))
    preprocess = setup.backbone.preprocess
    for start in range(0, len(rows) - size + 1, size):
        part = rows[start : start + size]
        pictures = decoded(setup.images.imageset, setup.images.valid_indices[part], preprocess, what="")
        yield preprocess.normalize(torch.from_numpy(pictures)), torch.from_numpy(setup.images.y[part])


def _late(setup: AblationSetup, network: Backbone, images: LabelledImages) -> np.ndarray:
    """float32 [n, d]: the network's last features of the valid images as it stands now."""
    (tap,) = network.resolve(["late"])
    features = extract(
        images.imageset, network, [tap.name], engine=setup.engine, precision=setup.precision, device=setup.device
    )
    return rows_of(features, tap.name, images.valid_indices)


def _head(
    setup: AblationSetup, network: Backbone, x: np.ndarray, options: RegimeOptions, devices: Devices
) -> tuple[Run, dict[str, float]]:
    """Train a new head on the network's features; its run, and the gradient that its loss sends to every stage."""
    built, run = train_head(network, setup.images, options, devices, late=x)
    stages = {name: f"trunk.{path}" for name, path in stages_of(network).items()}
    return run, stage_gradient_norms(built.classifier, _batches(setup, GRADIENTS_OF, RECALIBRATED_BY), stages)


def _smaller(images: LabelledImages, seed: int) -> LabelledImages:
    """At most SWEPT of the valid images, numbered anew, with their splits."""
    rng = np.random.default_rng(seed)

    def some(rows: np.ndarray, most: int) -> np.ndarray:
        return np.sort(rng.permutation(rows)[:most])

    fit, val = images.splits.folds[0]
    share = len(fit) / (len(fit) + len(val))
    fit, val = some(fit, round(SWEPT[0] * share)), some(val, round(SWEPT[0] * (1 - share)))
    test = some(images.splits.test, SWEPT[1])
    rows = np.sort(np.concatenate([fit, val, test]))

    def at(part: np.ndarray) -> np.ndarray:
        return np.searchsorted(rows, part)

    splits = Splits(np.sort(np.concatenate([at(fit), at(val)])), ((at(fit), at(val)),), at(test))
    subset = images.imageset.subset(images.valid_indices[rows])
    return LabelledImages(subset, splits, np.arange(len(rows)), images.y[rows])
