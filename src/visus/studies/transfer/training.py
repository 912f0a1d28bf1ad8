"""What training adds to the transfer study: regimes, features before and after, skip connections; within the time given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from visus.studies.common.schema1 import Table
from visus.studies.common.sections import Part

if TYPE_CHECKING:
    from visus.models import Backbone
    from visus.studies.transfer import ModelFeatures
    from visus.studies.transfer.layers.subject import Subject
    from visus.studies.transfer.regimes.measure import Trained
    from visus.studies.transfer.regimes.runs import Options
    from visus.studies.transfer.regimes.scores import RegimeScore
    from visus.training.devices import Devices

LEAST_SECONDS = 5.0  # a plan is made for, however late it is


@dataclass(frozen=True)
class RunConfig:
    """How the study was asked to run, for the parts that come after the probes. deadline: by time.perf_counter(), or None.

    reserve: seconds to keep for what comes after training.
    """

    options: Options
    devices: Devices
    pool: str
    protocol: str
    precision: str
    maps: bool
    deadline: float | None
    reserve: float


def train(s: Subject, seen: Sequence[ModelFeatures], how: RunConfig) -> tuple[Part, dict[str, Trained]]:
    """Train every regime of every model, one model after the other, each with its share of the time that is left."""
    from visus.studies.common import repeated
    from visus.studies.transfer.regimes import figures as pictures
    from visus.studies.transfer.regimes import findings as words
    from visus.studies.transfer.regimes.measure import train_regimes
    from visus.studies.transfer.regimes.scores import Regimes
    from visus.studies.transfer.regimes.tables import tables

    trained: dict[str, Trained] = {}
    scores: list[RegimeScore] = []
    for k, one in enumerate(seen):
        seconds = None
        if how.deadline is not None:
            seconds = max((how.deadline - time.perf_counter() - how.reserve) / (len(seen) - k), LEAST_SECONDS)
        done = train_regimes(
            one.backbone,
            _twin(one, how) if "scratch" in how.options.regimes else None,
            s.images,
            s.kept,
            s.splits,
            how.options,
            how.devices,
            late=_late(one, s.kept) if how.pool == "mean" else None,
            late_seconds=float(one.features.cost.get("seconds") or 0.0),
            seconds=seconds,
        )
        trained[one.backbone.spec] = done
        scores += [_probe_score(s, one), *done.scores]
    if not any(done.scores for done in trained.values()):
        said = tuple(f"{m}, {text}" for m, done in trained.items() for text in (*done.left_out, *done.unfit))
        return Part(warnings=said), trained
    fitted = len(s.splits.folds[0][0])
    regimes = Regimes(s.images.name, s.images.classes, s.test_y, tuple(scores), fitted)
    seed = how.options.seed
    warnings = [*words.warnings(regimes)]
    warnings += [f"{m}, {text}" for m, done in trained.items() for text in done.unfit]
    warnings += [f"{m}, {t}" for m, done in trained.items() for t in done.left_out if ": left out" in t]
    found = {**tables(regimes, seed=seed), "trained models": _folders(trained)}
    if s.repeats is not None and s.repeats.count:
        right = [repeated.Answered((c.model, c.words), c.right(s.test_y).mean(axis=0)) for c in scores]
        found["regimes without repeats"] = repeated.accuracy_without(s.repeats, ("model", "regime"), right)
    part = Part(words.findings(regimes, seed=seed), found, pictures.draw(regimes), {}, tuple(warnings))
    return part, trained


def _twin(one: ModelFeatures, how: RunConfig) -> Backbone | None:
    from visus.errors import VisusError
    from visus.studies.common.shared import random_control

    if one.backbone.random:
        return one.backbone
    try:
        return random_control(one.backbone.spec, seed=how.options.seed)
    except VisusError:
        return None


def _late(one: ModelFeatures, kept: np.ndarray) -> np.ndarray | None:
    from visus.studies.common.shared import rows_of

    (tap,) = one.backbone.resolve(["late"])
    return rows_of(one.features, tap.name, kept) if tap.name in one.taps else None


def _probe_score(s: Subject, one: ModelFeatures) -> RegimeScore:
    """The convex probe on the last layer that was looked at, beside the regimes: its cost is one pass over the training images."""
    import torch

    from visus.studies.transfer.regimes.scores import RegimeScore
    from visus.training.cost import forward_flops

    score = s.of(one.backbone.spec)[-1]
    cost, h, w = one.features.cost, *one.backbone.preprocess.size
    module = one.backbone.module
    few = torch.zeros(4, one.backbone.preprocess.channels, h, w)
    flops = forward_flops(lambda x: module(x), lambda n: few[:n]) * len(s.splits.train)
    return RegimeScore.from_probe(
        score,
        flops=flops,
        seconds=float(cost.get("seconds") or 0.0) + score.seconds,
        peak_memory=0,
        size=(h, w),
        parameters=one.backbone.parameters + (score.width + 1) * len(s.images.classes),
    )


def _folders(trained: dict[str, Trained]) -> Table:
    from visus.paths import home

    rows = []
    for model, done in trained.items():
        for regime, folder in done.folders.items():
            rows.append((model, regime, folder.replace(str(home()), "$VISUS_HOME")))
    return Table(
        ("model", "regime", "folder"),
        tuple(rows),
        title="Where the trained networks are",
        note="Each is a model to every command: visus predict --model FOLDER. $VISUS_HOME is the lab's cache folder.",
    )


def compare_features(
    s: Subject, seen: Sequence[ModelFeatures], trained: dict[str, Trained], how: RunConfig
) -> list[Part]:
    """Features before and after: of each model its pretrained, its most thoroughly trained and its random network."""
    from visus.errors import VisusError
    from visus.progress import log
    from visus.studies.transfer.before_after.measure import before_after

    parts = []
    for one in seen:
        done = trained[one.backbone.spec]
        after = next((r for r in ("full", "last-block", "lora") if r in done.backbones), None)
        if after is None:
            continue
        late = how.deadline is not None and time.perf_counter() > how.deadline
        states = {"pretrained": one.backbone, f"fine-tuned ({after})": done.backbones[after]}
        twin = None if late or one.twin is None else _twin(one, how)
        if twin is not None and twin is not one.backbone:
            states["random"] = twin
        scores = {r.regime: r for r in done.scores}
        answers = {
            name: scores[r].runs[0].logits.argmax(1) for name, r in (("head", "head"), (after, after)) if r in scores
        }
        try:
            found = before_after(
                s.images,
                states,
                splits=s.splits,
                y=s.y,
                kept=s.kept,
                taps=one.taps,
                pool=how.pool,
                protocol=how.protocol,
                precision=how.precision,
                engine=how.options.engine,
                device=how.devices.kind,
                maps=how.maps and not late,
                seed=how.options.seed,
                known={("pretrained", c.tap): c for c in s.of(one.backbone.spec)},
                test_predictions=answers if len(answers) > 1 else None,
            )
        except VisusError as error:
            log(f"no features before and after for {one.backbone.spec}: {error}")
            parts.append(Part(warnings=(f"{one.backbone.spec}: no features before and after: {error}",)))
            continue
        part = Part(found.findings, found.tables, found.figures, found.arrays, found.warnings)
        parts.append(part if len(seen) == 1 else _of_model(part, one.backbone.spec))
        if late:
            parts.append(
                Part(warnings=("The time was up: no maps before and after, and no random network beside them.",))
            )
    return parts


def _of_model(part: Part, model: str) -> Part:
    """The same part with the model in every name, so that several models stand on one page."""
    from visus.studies.transfer.layers.figures import slug

    def renamed(value: object) -> object:
        if isinstance(value, dict):
            return {k: renamed(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [renamed(v) for v in value]
        return f"{slug(model)} {value}" if isinstance(value, str) and value in part.arrays else value

    return Part(
        tuple(f"{model}: {f}" for f in part.findings),
        {f"{name}, {model}": replace(t, title=f"{t.title} · {model}") for name, t in part.tables.items()},
        tuple(
            replace(f, name=f"{f.name}-{slug(model)}", title=f"{f.title} · {model}", data=renamed(dict(f.data)))  # type: ignore[arg-type]
            for f in part.figures
        ),
        {f"{slug(model)} {name}": a for name, a in part.arrays.items()},
        tuple(f"{model}: {w}" for w in part.warnings),
    )


def ablate(s: Subject, seen: Sequence[ModelFeatures], text: str, how: RunConfig) -> list[Part]:
    """Skip connections removed, as `text` names them: blocks and ranges, or 'sweep' for every block in turn."""
    from visus.models.skips import choose_skips, find_skips
    from visus.studies.transfer.skips import measure as ablation
    from visus.studies.transfer.skips.report import of_sweep, of_variants

    parts = []
    for one in seen:
        scene = ablation.AblationSetup(
            one.backbone,
            s.images,
            s.kept,
            s.y,
            s.splits,
            how.options.engine,
            how.precision,
            how.devices.kind,
            how.options.seed,
        )
        prefix = f"{one.backbone.spec}, " if len(seen) > 1 else ""
        skips = find_skips(one.backbone)
        if text == "sweep":
            every = choose_skips(skips, "all")
            intact, removals, used = ablation.sweep(scene, every)
            parts.append(of_sweep(scene, intact, removals, used, prefix=prefix))
        else:
            chosen = choose_skips(skips, text)
            # In this process alone: classes made at run time cannot be sent to another one.
            found = ablation.variants(scene, chosen, how.options, replace(how.devices, count=1))
            parts.append(of_variants(scene, chosen, found, prefix=prefix))
    return parts
