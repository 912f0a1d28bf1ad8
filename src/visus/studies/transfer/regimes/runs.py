"""Running one regime on one set of pictures: every seed, what it cost, and the trained network; what is finished is read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.errors import SpecError
from visus.training.regimes import WHOLE

if TYPE_CHECKING:
    from visus.models import Backbone
    from visus.studies.transfer.regimes.scores import RegimeScore
    from visus.training.budget import RegimeBudget
    from visus.training.devices import Devices
    from visus.training.networks import Built
    from visus.training.prepared import Prepared
    from visus.training.recipe import Recipe
    from visus.training.training_data import Settings, TrainingData

FORMAT = 1


@dataclass(frozen=True)
class Options:
    """What a user asked of training. regimes: names, without 'probe'. budget: seconds for the study, or None. size: pixels, or None.

    lr: learning rates instead of the regime's grid. seeds: trainings of every regime. scratch_epochs: of 'scratch' alone.
    """

    regimes: tuple[str, ...]
    epochs: int = 10
    scratch_epochs: int | None = None
    batch: int = 32
    accumulate: int = 1
    lr: tuple[float, ...] = ()
    seeds: int = 1
    size: int | None = None
    views: int = 0
    augment: bool = True
    engine: str = "auto"
    seed: int = 0
    budget: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("seeds", self.seeds),
            ("accumulate", self.accumulate),
        ):
            if value < 1:
                raise SpecError(f"--{name} must be at least 1, not {value}")
        if self.batch < 2:
            raise SpecError("--batch must be at least 2: BatchNorm learns nothing from one picture")
        if self.accumulate > self.batch // 2:
            raise SpecError(
                f"--accumulate {self.accumulate} leaves fewer than two pictures a pass of a batch of {self.batch}"
            )
        if self.views < 0 or (self.size is not None and self.size < 32):
            raise SpecError("--views must be 0 or more and --size at least 32 pixels")
        if any(not 0 < lr < 100 for lr in self.lr):
            raise SpecError("--lr must lie between 0 and 100")


@dataclass(frozen=True)
class TrainingContext:
    """What every regime of a model shares: the pictures, the settings, the machine. late_seconds: what the frozen features took."""

    material: TrainingData
    options: Options
    devices: Devices
    late_seconds: float = 0.0

    @property
    def settings(self) -> Settings:
        from visus.training.training_data import Settings

        return Settings(self.options.views, self.options.augment, self.options.engine)

    @property
    def recipe(self) -> Recipe:
        """Without its learning rate and epochs, which the plan gives."""
        from visus.training.recipe import Recipe

        o = self.options
        return Recipe(0.0, batch=o.batch, accumulate=o.accumulate, seed=o.seed)


def content_key(material: TrainingData, networks: Mapping[str, Backbone], *parts: Any) -> str:
    """Content hash of everything that a training depends on."""
    import xxhash

    h = xxhash.xxh3_128(material.images.fingerprint.encode())
    for rows in (material.train, material.validation, material.test, material.labels):
        h.update(np.ascontiguousarray(rows, np.int64).tobytes())
    for regime, backbone in networks.items():
        structure = re.sub(r" at 0x[0-9a-f]+", "", repr(backbone.module))
        h.update(f"{regime}|{backbone.fingerprint}|{structure}|".encode())
    h.update(json.dumps([FORMAT, *parts], sort_keys=True, default=str).encode())
    digest: str = h.hexdigest()
    return digest[:24]


def run_regime(
    shop: TrainingContext,
    built: Built,
    backbone: Backbone,
    allowance: RegimeBudget,
    *,
    model: str,
    note: str = "",
    keep: bool = True,
) -> tuple[RegimeScore, Backbone, Path]:
    """Train one regime with every seed. What is finished is read, not computed again.

    model: its name in the score. note: what a reader should know. keep: save the trained network as a model. Returns the score, the
    network with the weights of the first seed, and the folder of everything that was kept.
    """
    from visus.locks import locked
    from visus.paths import home, write_text
    from visus.studies.transfer.regimes.scores import RegimeScore
    from visus.training import checkpoint
    from visus.training.networks import restore, trained_backbone

    regime, options, material = built.regime, shop.options, shop.material
    said = (options.batch, options.accumulate, options.seed, asdict(shop.settings), asdict(shop.devices))
    root = home() / "training" / f"{regime}-{content_key(material, {regime: backbone}, asdict(allowance), said)}"
    folders = [root / f"seed-{options.seed + k}" for k in range(options.seeds)]
    cost_file = root / "cost.json"
    waiting = f"another process is training {regime} of {model}; waiting for it, its result will be used"
    with locked(root, waiting=waiting):
        runs = [checkpoint.finished(folder) for folder in folders]
        if all(run is not None for run in runs) and cost_file.is_file():
            cost = json.loads(cost_file.read_text("utf-8"))
            restore(built, folders[0])
        else:
            runs, cost = _trained(shop, built, backbone, allowance, folders)
            if regime == "head" and not options.views and material.late is not None:
                cost["seconds"] += shop.late_seconds
            write_text(cost_file, json.dumps(cost))
    preprocess = backbone.preprocess
    if cost["side"] != min(preprocess.size):
        from visus.training.batches import at_size

        preprocess = at_size(preprocess, cost["side"])
    names = set(built.names)
    sizes = {n: p.numel() for n, p in built.classifier.named_parameters()}
    score = RegimeScore(
        model=model,
        regime=regime,
        runs=tuple(run for run in runs if run is not None),
        trainable=sum(size for n, size in sizes.items() if n in names),
        parameters=sum(sizes.values()),
        flops=cost["flops"],
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
            _keep(root / "model", built, replace(backbone, preprocess=preprocess), material, score)
    return score, trained, root


def _keep(folder: Path, built: Built, backbone: Backbone, material: TrainingData, score: RegimeScore) -> None:
    """Save the trained network as a model that every command takes; what cannot be rebuilt from its name is not saved, and said."""
    from visus.errors import VisusError
    from visus.models.tuned import CONFIG, save_tuned
    from visus.progress import log

    if (folder / CONFIG).is_file():
        return
    info = {"regime": score.regime, "images": material.images.name, "validation accuracy": score.validation}
    try:
        save_tuned(folder, built.classifier, backbone, classes=material.images.classes, info=info)
    except VisusError as error:
        log(f"{score.regime}: the trained network is not kept as a model of its own: {error}")


def _trained(
    shop: TrainingContext, built: Built, backbone: Backbone, allowance: RegimeBudget, folders: Sequence[Path]
) -> tuple[list[Any], dict[str, Any]]:
    """The runs, one a seed, and what they took together."""
    import torch

    from visus.training.cost import watching
    from visus.training.prepared import again, prepare
    from visus.training.train import train

    material, options, settings, device = shop.material, shop.options, shop.settings, shop.devices.kind
    begun = time.perf_counter()
    runs: list[Any] = []
    grid = allowance.grid
    with watching(torch.device(device)) as peak:
        prepared: Prepared = prepare(
            built, backbone, material, settings, size=allowance.size, device=device, seed=options.seed
        )
        for k, folder in enumerate(folders):
            mine = prepared if k == 0 else again(prepared, backbone, settings, seed=options.seed + k)
            allowed = None if allowance.seconds is None else allowance.seconds / len(folders)
            run = train(
                mine,
                replace(shop.recipe, epochs=allowance.epochs, seed=options.seed + k),
                grid=grid,
                trial_epochs=allowance.trial_epochs,
                trial_pictures=allowance.trial_pictures,
                allowed=allowed,
                devices=shop.devices,
                folder=folder,
            )
            runs.append(run)
            grid = (run.lr,)  # chosen once, with the first seed
    pictures = sum(run.steps * min(options.batch, len(material.train)) for run in runs)
    pictures += sum(t.epochs * len(material.train) for run in runs for t in run.trials)
    every = settings.augment if built.regime in WHOLE else bool(prepared.note and settings.views)
    views = f"{settings.views} cached views" if settings.views and built.regime not in WHOLE else ""
    cost = {
        "flops": pictures * prepared.flops_an_image() + prepared.trunk_flops,
        "seconds": max(time.perf_counter() - begun, prepared.seconds + sum(run.seconds for run in runs)),
        "peak_memory": peak.bytes,
        "side": min(prepared.preprocess.size),
        "augmented": "every epoch" if every else views,
        "note": prepared.note,
    }
    return runs, cost
