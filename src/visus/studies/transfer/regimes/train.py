"""Training a backbone in several ways on the same images, within the time given: from features to one score a regime (P6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from visus.errors import VisusError
from visus.models import Backbone
from visus.progress import log
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.labels import labels_of
from visus.studies.transfer.regime_options import RegimeOptions
from visus.studies.transfer.regimes.plan import asked_for, planned
from visus.studies.transfer.regimes.runs import TrainingContext, run_regime
from visus.studies.transfer.regimes.scores import RegimeScore
from visus.training.devices import Devices
from visus.training.networks import Built, build, restore
from visus.training.records import Run
from visus.training.regimes import REGIMES
from visus.training.training_data import TrainingData


@dataclass(frozen=True)
class Trained:
    """What came of it. scores: one a regime, in the order of REGIMES. backbones: by regime, with the weights of its first seed.

    left_out: what the time given did not allow, in sentences. unfit: regimes that the architecture does not allow, in sentences.
    """

    scores: tuple[RegimeScore, ...]
    backbones: Mapping[str, Backbone]
    left_out: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FrozenFeatures:
    """late: float32 [n, d] of the valid images, the frozen network's last features, or None; seconds: what they took."""

    late: np.ndarray | None = None
    seconds: float = 0.0


def train_regimes(
    backbone: Backbone,
    random_network: Backbone | None,
    images: LabelledImages,
    frozen: FrozenFeatures,
    options: RegimeOptions,
    devices: Devices,
    *,
    seconds: float | None,
) -> Trained:
    """Train every regime that was asked for, and score it.

    The first fold chooses learning rates and epochs. random_network: the same architecture with random weights, for 'scratch' (None: it is
    said to be unfit). seconds: time for all of it; the plan is fitted to it once, and a resumed run keeps it.
    """
    context = TrainingContext(training_data(images, frozen.late), options, devices, frozen.seconds)
    networks: dict[str, Backbone] = {}
    unfit: list[str] = []
    builts: dict[str, Built] = {}
    for regime in options.regimes:
        source = random_network if REGIMES[regime].random and not backbone.random else backbone
        if source is None:
            unfit.append(f"{regime}: the architecture could not be built without its weights.")
            continue
        try:
            builts[regime] = build(regime, source, context.data.n_classes, context.settings, seed=options.seed)
        except VisusError as error:
            if len(options.regimes) == 1:
                raise
            unfit.append(f"{regime}: {error}.")
            continue
        networks[regime] = source
    plan, left_out = planned(context, builts, networks, seconds=seconds)
    for sentence in left_out:
        log(f"to keep the time: {sentence}")
    scores, backbones, folders = [], {}, {}
    for regime, budget in plan.items():
        score, trained, folder = run_regime(
            context, builts[regime], networks[regime], budget, model=backbone.spec, note=_sentences(regime, left_out)
        )
        scores.append(score)
        backbones[regime] = trained
        folders[regime] = str(folder / "model")
    return Trained(tuple(scores), backbones, left_out, tuple(unfit), folders)


def _sentences(regime: str, left_out: Sequence[str]) -> str:
    """What was cut of one regime, as sentences without its name."""
    said = [s.split(": ", 1)[1] for s in left_out if s.startswith(f"{regime}:")]
    return " ".join(s[0].upper() + s[1:] for s in said)


def train_head(
    backbone: Backbone, images: LabelledImages, options: RegimeOptions, devices: Devices, *, late: np.ndarray
) -> tuple[Built, Run]:
    """Train a head on the last features of a network as it stands; the classifier that it completes, and the run. late: float32 [n, d]."""
    options = replace(options, regimes=("head",), views=0, augment=False, seeds=1)
    context = TrainingContext(training_data(images, late), options, devices)
    built = build("head", backbone, context.data.n_classes, context.settings, seed=options.seed)
    # Not kept as a model: the network may stand without its skips, which no name can say.
    score, _, root = run_regime(
        context, built, backbone, asked_for("head", backbone, options), model=backbone.spec, keep=False
    )
    restore(built, root / f"seed-{options.seed}")
    return built, score.runs[0]


def training_data(images: LabelledImages, late: np.ndarray | None) -> TrainingData:
    """What is trained on: the first fold's two parts, and test."""
    fit, val = images.splits.folds[0]
    parts = {"train": fit, "validation": val, "test": images.splits.test}
    known = None if late is None else {part: late[rows] for part, rows in parts.items()}
    train, validation, test = (images.valid_indices[rows] for rows in parts.values())
    imageset = images.imageset
    return TrainingData(imageset, labels_of(imageset), len(imageset.classes), train, validation, test, known)
