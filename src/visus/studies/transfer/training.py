"""What training adds to the transfer study: regimes, features before and after, skip connections; within the time given."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from visus.errors import VisusError
from visus.models import Backbone
from visus.paths import home
from visus.progress import log
from visus.result import Section
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.section import section
from visus.studies.common.taps import random_control, rows_of
from visus.studies.transfer import before_after, regimes, skips
from visus.studies.transfer.before_after.measure import BeforeAfterMeasures, FeatureChange, Known, measure_change
from visus.studies.transfer.evaluation import LayerScore
from visus.studies.transfer.inputs import ModelFeatures
from visus.studies.transfer.options import Options
from visus.studies.transfer.regimes.scores import Regimes, RegimeScore
from visus.studies.transfer.regimes.train import FrozenFeatures, Trained, train_regimes
from visus.studies.transfer.skips.ablation import AblationSetup
from visus.training.cost import forward_flops
from visus.training.devices import Devices

LEAST_SECONDS = 5.0  # a plan is made for, however late it is


@dataclass(frozen=True)
class RunConfig:
    """How the study was asked to run, for the parts that come after the probes. deadline: by time.perf_counter(), or None.

    reserve: seconds to keep for what comes after training.
    """

    options: Options
    devices: Devices
    deadline: float | None
    reserve: float

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.perf_counter() > self.deadline


@dataclass(frozen=True)
class Evaluated:
    """The frozen features, what was measured of them, and the images on both sides of the split."""

    images: LabelledImages
    models: tuple[ModelFeatures, ...]
    scores: tuple[LayerScore, ...]

    def of(self, spec: str) -> list[LayerScore]:
        """The scores of one model, in order of depth."""
        return [s for s in self.scores if s.model == spec]


@dataclass(frozen=True)
class TrainingSections:
    """What training adds to the page: sections before and after those of the frozen features. left_out: what the time did not allow."""

    first: tuple[Section, ...] = ()
    then: tuple[Section, ...] = ()
    answer: str = ""
    headline: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def train_and_compare(evaluated: Evaluated, config: RunConfig) -> TrainingSections:
    """Take skips away where asked, train every regime, and compare features before and after."""
    without = _without_skips(evaluated, config)
    if not config.options.training.regimes:
        return TrainingSections(then=without)
    trained = train(evaluated, config)
    left_out = tuple(f"{m}, {t}" for m, done in trained.items() for t in done.left_out if ": left out" in t)
    unfit = tuple(f"{m}, {text}" for m, done in trained.items() for text in done.unfit)
    if not any(done.scores for done in trained.values()):
        every = tuple(f"{m}, {t}" for m, done in trained.items() for t in (*done.left_out, *done.unfit))
        return TrainingSections(then=without, warnings=every, left_out=left_out)
    scores = [s for one in evaluated.models for s in (_probe_score(evaluated, one), *trained[one.spec].scores)]
    images = evaluated.images
    fitted = len(images.splits.folds[0][0])
    whole = Regimes(images.imageset.name, images.classes, images.test_y, tuple(scores), fitted)
    measured = regimes.measure(whole, seed=config.options.seed, trained=_folders(trained))
    changes = compare_features(evaluated, trained, config)
    then = (section(before_after, changes),) if changes.changes or changes.cautions else ()
    return TrainingSections(
        first=(section(regimes, measured),),
        then=(*then, *without),
        answer=regimes.answer(measured),
        headline=regimes.headline(measured),
        warnings=(*unfit, *left_out),
        left_out=left_out,
    )


def train(e: Evaluated, config: RunConfig) -> dict[str, Trained]:
    """Train every regime of every model, one model after the other, each with its share of the time that is left."""
    options = config.options
    trained: dict[str, Trained] = {}
    for k, one in enumerate(e.models):
        seconds = None
        if config.deadline is not None:
            left = (config.deadline - time.perf_counter() - config.reserve) / (len(e.models) - k)
            seconds = max(left, LEAST_SECONDS)
        late = _late(one, e.images) if options.features.pool == "mean" else None
        trained[one.spec] = train_regimes(
            one.backbone,
            _random_network(one, config) if "scratch" in options.training.regimes else None,
            e.images,
            FrozenFeatures(late, float(one.features.cost.get("seconds") or 0.0)),
            options.training,
            config.devices,
            seconds=seconds,
        )
    return trained


def _random_network(one: ModelFeatures, config: RunConfig) -> Backbone | None:
    if one.backbone.random:
        return one.backbone
    try:
        return random_control(one.spec, seed=config.options.seed)
    except VisusError:
        return None


def _late(one: ModelFeatures, images: LabelledImages) -> np.ndarray | None:
    (tap,) = one.backbone.resolve(["late"])
    return rows_of(one.features, tap.name, images.valid_indices) if tap.name in one.taps else None


def _probe_score(e: Evaluated, one: ModelFeatures) -> RegimeScore:
    """The convex probe on the last layer that was looked at, beside the regimes: its cost is one pass over the training images."""
    score = e.of(one.spec)[-1]
    cost, h, w = one.features.cost, *one.backbone.preprocess.size
    module = one.backbone.module
    few = torch.zeros(4, one.backbone.preprocess.channels, h, w)
    flops = forward_flops(lambda x: module(x), lambda n: few[:n]) * len(e.images.splits.train)
    return RegimeScore.from_probe(
        score,
        flops=flops,
        seconds=float(cost.get("seconds") or 0.0) + score.seconds,
        size=(h, w),
        parameters=one.backbone.parameters + (score.width + 1) * len(e.images.classes),
    )


def _folders(trained: Mapping[str, Trained]) -> list[tuple[str, str, str]]:
    return [
        (model, regime, folder.replace(str(home()), "$VISUS_HOME"))
        for model, done in trained.items()
        for regime, folder in done.folders.items()
    ]


def compare_features(e: Evaluated, trained: Mapping[str, Trained], config: RunConfig) -> BeforeAfterMeasures:
    """Features before and after: of each model its pretrained, its most thoroughly trained and its random network."""
    changes, cautions = [], []
    for one in e.models:
        done = trained[one.spec]
        after = next((r for r in ("full", "last-block", "lora") if r in done.backbones), None)
        if after is None:
            continue
        late = config.late
        try:
            changes.append(_change(e, one, after, done, config, late=late))
        except VisusError as error:
            log(f"no features before and after for {one.spec}: {error}")
            cautions.append(f"{one.spec}: no features before and after: {error}")
            continue
        if late:
            cautions.append("The time was up: no maps before and after, and no random network beside them.")
    return BeforeAfterMeasures(tuple(changes), tuple(cautions))


def _change(
    e: Evaluated, one: ModelFeatures, after: str, done: Trained, config: RunConfig, *, late: bool
) -> FeatureChange:
    states = {"pretrained": one.backbone, f"fine-tuned ({after})": done.backbones[after]}
    control = None if late or one.random_control is None else _random_network(one, config)
    if control is not None and control is not one.backbone:
        states["random"] = control
    scores = {r.regime: r for r in done.scores}
    answers = {
        name: scores[r].runs[0].logits.argmax(1) for name, r in (("head", "head"), (after, after)) if r in scores
    }
    known = {("pretrained", c.tap): c for c in e.of(one.spec)}
    features = replace(config.options.features, taps=one.taps, device=config.devices.kind)
    asked = config.options.probe
    probe = replace(asked, device=config.devices.kind, maps=asked.maps and not late)
    return measure_change(e.images, states, features, probe, Known(known, answers if len(answers) > 1 else {}))


def _without_skips(e: Evaluated, config: RunConfig) -> tuple[Section, ...]:
    options = config.options
    if not options.ablate_skips:
        return ()
    f = options.features
    setups = [
        AblationSetup(m.backbone, e.images, f.engine, f.precision, config.devices.kind, options.seed) for m in e.models
    ]
    return (section(skips, skips.measure(setups, options.ablate_skips, options.training, config.devices)),)
