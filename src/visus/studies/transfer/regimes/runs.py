"""Running one regime on one set of images: every seed, what it cost, and the trained network; what is finished is read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from visus.errors import VisusError
from visus.locks import locked
from visus.models import Backbone
from visus.models.tuned import CONFIG, save_tuned
from visus.paths import home, write_text
from visus.progress import log
from visus.studies.transfer.regime_options import RegimeOptions
from visus.studies.transfer.regimes.scores import RegimeScore
from visus.training import checkpoint
from visus.training.batches import at_size
from visus.training.budget import RegimeBudget
from visus.training.cost import watching
from visus.training.devices import Devices
from visus.training.networks import Built, restore, trained_backbone
from visus.training.prepared import Prepared, again, prepare
from visus.training.recipe import Recipe
from visus.training.regimes import WHOLE
from visus.training.train import train
from visus.training.training_data import Settings, TrainingData

FORMAT = 1


@dataclass(frozen=True)
class TrainingContext:
    """What every regime of a model shares: the images, the settings, the machine. late_seconds: what the frozen features took."""

    data: TrainingData
    options: RegimeOptions
    devices: Devices
    late_seconds: float = 0.0

    @property
    def settings(self) -> Settings:
        return Settings(self.options.views, self.options.augment, self.options.engine)

    @property
    def recipe(self) -> Recipe:
        """Without its learning rate and epochs, which the plan gives."""
        o = self.options
        return Recipe(0.0, batch=o.batch, accumulate=o.accumulate, seed=o.seed)


def content_key(data: TrainingData, networks: Mapping[str, Backbone], *parts: Any) -> str:
    """Content hash of everything that a training depends on."""
    h = xxhash.xxh3_128(data.images.fingerprint.encode())
    for rows in (data.train, data.validation, data.test, data.labels):
        h.update(np.ascontiguousarray(rows, np.int64).tobytes())
    for regime, backbone in networks.items():
        structure = re.sub(r" at 0x[0-9a-f]+", "", repr(backbone.module))
        h.update(f"{regime}|{backbone.fingerprint}|{structure}|".encode())
    h.update(json.dumps([FORMAT, *parts], sort_keys=True, default=str).encode())
    digest: str = h.hexdigest()
    return digest[:24]


def run_regime(
    context: TrainingContext,
    built: Built,
    backbone: Backbone,
    budget: RegimeBudget,
    *,
    model: str,
    note: str = "",
    keep: bool = True,
) -> tuple[RegimeScore, Backbone, Path]:
    """Train one regime with every seed. What is finished is read, not computed again.

    model: its name in the score. note: what a reader should know. keep: save the trained network as a model. Returns the score, the
    network with the weights of the first seed, and the folder of everything that was kept.
    """
    regime, options, data = built.regime, context.options, context.data
    said = (options.batch, options.accumulate, options.seed, asdict(context.settings), asdict(context.devices))
    root = home() / "training" / f"{regime}-{content_key(data, {regime: backbone}, asdict(budget), said)}"
    folders = [root / f"seed-{options.seed + k}" for k in range(options.seeds)]
    cost_file = root / "cost.json"
    waiting = f"another process is training {regime} of {model}; waiting for it, its result will be used"
    with locked(root, waiting=waiting):
        runs = [checkpoint.finished(folder) for folder in folders]
        if all(run is not None for run in runs) and cost_file.is_file():
            cost = json.loads(cost_file.read_text("utf-8"))
            restore(built, folders[0])
        else:
            runs, cost = _trained(context, built, backbone, budget, folders)
            if regime == "head" and not options.views and data.late is not None:
                cost["seconds"] += context.late_seconds
            write_text(cost_file, json.dumps(cost))
    preprocess = backbone.preprocess
    if cost["side"] != min(preprocess.size):
        preprocess = at_size(preprocess, cost["side"])
    names = set(built.names)
    sizes = {n: p.numel() for n, p in built.classifier.named_parameters()}
    score = RegimeScore(
        model=model,
        regime=regime,
        runs=tuple(run for run in runs if run is not None),
        trainable=sum(size for n, size in sizes.items() if n in names),
        parameters=sum(sizes.values()),
        # Kept by a version that counted a first pass wrongly, it may be below nought: unknown.
        flops=cost["flops"] if cost["flops"] > 0 else float("nan"),
        seconds=cost["seconds"],
        peak_memory=cost["peak_memory"],
        batch=options.batch,
        accumulate=options.accumulate,
        size=preprocess.size,
        augmented=cost["augmented"],
        note=" ".join(part for part in (cost["note"], note) if part),
    )
    trained = trained_backbone(built, backbone, preprocess)
    if keep:
        with locked(root, waiting=waiting):
            _keep(root / "model", built, replace(backbone, preprocess=preprocess), data, score)
    return score, trained, root


def _keep(folder: Path, built: Built, backbone: Backbone, data: TrainingData, score: RegimeScore) -> None:
    """Save the trained network as a model that every command takes; what cannot be rebuilt from its name is not saved, and said."""
    if (folder / CONFIG).is_file():
        return
    info = {"regime": score.regime, "images": data.images.name, "validation accuracy": score.validation}
    try:
        save_tuned(folder, built.classifier, backbone, classes=data.images.classes, info=info)
    except VisusError as error:
        log(f"{score.regime}: the trained network is not kept as a model of its own: {error}")


def _trained(
    context: TrainingContext, built: Built, backbone: Backbone, budget: RegimeBudget, folders: Sequence[Path]
) -> tuple[list[Any], dict[str, Any]]:
    """The runs, one a seed, and what they took together."""
    data, options, settings, device = context.data, context.options, context.settings, context.devices.kind
    begun = time.perf_counter()
    runs: list[Any] = []
    grid = budget.grid
    with watching(torch.device(device)) as peak:
        prepared: Prepared = prepare(
            built, backbone, data, settings, size=budget.size, device=device, seed=options.seed
        )
        for k, folder in enumerate(folders):
            mine = prepared if k == 0 else again(prepared, backbone, settings, seed=options.seed + k)
            allowed = None if budget.seconds is None else budget.seconds / len(folders)
            run = train(
                mine,
                replace(context.recipe, epochs=budget.epochs, seed=options.seed + k),
                grid=grid,
                trial_epochs=budget.trial_epochs,
                trial_pictures=budget.trial_pictures,
                allowed=allowed,
                devices=context.devices,
                folder=folder,
            )
            runs.append(run)
            grid = (run.lr,)  # chosen once, with the first seed
    images_seen = sum(run.steps * min(options.batch, len(data.train)) for run in runs)
    images_seen += sum(t.epochs * len(data.train) for run in runs for t in run.trials)
    every = settings.augment if built.regime in WHOLE else bool(prepared.note and settings.views)
    views = f"{settings.views} cached views" if settings.views and built.regime not in WHOLE else ""
    cost = {
        "flops": images_seen * prepared.flops_an_image() + prepared.trunk_flops,
        "seconds": max(time.perf_counter() - begun, prepared.seconds + sum(run.seconds for run in runs)),
        "peak_memory": peak.bytes,
        "side": min(prepared.preprocess.size),
        "augmented": "every epoch" if every else views,
        "note": prepared.note,
    }
    return runs, cost
