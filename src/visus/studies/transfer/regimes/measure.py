"""Training a backbone in several ways on the same images, within the time given: from features to one score a regime (P6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from visus.errors import SpecError
from visus.spec import unknown
from visus.studies.transfer.regimes.plan import asked_for, planned
from visus.studies.transfer.regimes.runs import Options, TrainingContext, run_regime
from visus.training.regimes import REGIMES, STANDARD

if TYPE_CHECKING:
    from visus.images import ImageSet, Splits
    from visus.models import Backbone
    from visus.studies.transfer.regimes.scores import RegimeScore
    from visus.training.devices import Devices
    from visus.training.networks import Built
    from visus.training.records import Run
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


def chosen_regimes(names: Sequence[str] | None) -> tuple[str, ...]:
    """Regimes by name, several may be separated by commas; None gives the standard ones. In the order of REGIMES, always with the probe."""
    asked = [part.strip() for name in names or STANDARD for part in name.split(",") if part.strip()]
    for name in asked:
        if name not in REGIMES:
            raise unknown("--regime", name, REGIMES)
    return tuple(r for r in REGIMES if r in asked or r == "probe")


def chosen_rates(text: str | None) -> tuple[float, ...]:
    """'1e-4,3e-4' -> (1e-4, 3e-4), rising; None -> (). Raises SpecError."""
    try:
        rates = tuple(sorted({float(part) for part in (text or "").split(",") if part.strip()}))
    except ValueError:
        raise SpecError(f"--lr {text!r} is no list of numbers; write for example 1e-4,3e-4") from None
    if wrong := [rate for rate in rates if not 0 < rate < math.inf]:
        raise SpecError(f"--lr {text!r} holds {wrong[0]:g}; a learning rate is a number above 0, as 1e-4")
    return rates


def train_regimes(
    backbone: Backbone,
    twin: Backbone | None,
    imageset: ImageSet,
    kept: np.ndarray,
    splits: Splits,
    options: Options,
    devices: Devices,
    *,
    late: np.ndarray | None,
    late_seconds: float = 0.0,
    seconds: float | None,
) -> Trained:
    """Train every regime that was asked for, and score it.

    kept: positions in the ImageSet; splits: in their numbering. The first fold chooses learning rates and epochs. late: float32
    [len(kept), d], the frozen network's last features; late_seconds: what they took. twin: with random weights,
    for 'scratch' (None: it is said to be unfit). seconds: time for all of it; the plan is fitted to it once, and a resumed run keeps it.
    """
    from visus.errors import VisusError
    from visus.progress import log
    from visus.training.networks import build

    shop = TrainingContext(_material(imageset, kept, splits, late), options, devices, late_seconds)
    networks: dict[str, Backbone] = {}
    unfit: list[str] = []
    builts: dict[str, Built] = {}
    for regime in options.regimes:
        source = twin if REGIMES[regime].random and not backbone.random else backbone
        if source is None:
            unfit.append(f"{regime}: the architecture could not be built without its weights.")
            continue
        try:
            builts[regime] = build(regime, source, shop.material.n_classes, shop.settings, seed=options.seed)
        except VisusError as error:
            if len(options.regimes) == 1:
                raise
            unfit.append(f"{regime}: {error}.")
            continue
        networks[regime] = source
    plan, left_out = planned(shop, builts, networks, seconds=seconds)
    for sentence in left_out:
        log(f"to keep the time: {sentence}")
    scores, backbones, folders = [], {}, {}
    for regime, allowance in plan.items():
        score, trained, folder = run_regime(
            shop, builts[regime], networks[regime], allowance, model=backbone.spec, note=_sentences(regime, left_out)
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
    backbone: Backbone,
    imageset: ImageSet,
    kept: np.ndarray,
    splits: Splits,
    options: Options,
    devices: Devices,
    *,
    late: np.ndarray,
) -> tuple[Built, Run]:
    """Train a head on the last features of a network as it stands; the classifier that it completes, and the run."""
    from visus.training.networks import build, restore

    options = replace(options, regimes=("head",), views=0, augment=False, seeds=1)
    shop = TrainingContext(_material(imageset, kept, splits, late), options, devices)
    built = build("head", backbone, shop.material.n_classes, shop.settings, seed=options.seed)
    # Not kept as a model: the network may stand without its skips, which no name can say.
    score, _, root = run_regime(
        shop, built, backbone, asked_for("head", backbone, options), model=backbone.spec, keep=False
    )
    restore(built, root / f"seed-{options.seed}")
    return built, score.runs[0]


def _material(imageset: ImageSet, kept: np.ndarray, splits: Splits, late: np.ndarray | None) -> TrainingData:
    """What is trained on: the first fold's two parts, and test."""
    from visus.studies.common.shared import labels_of
    from visus.training.training_data import TrainingData

    fit, val = splits.folds[0]
    parts = {"train": fit, "validation": val, "test": splits.test}
    known = None if late is None else {part: late[rows] for part, rows in parts.items()}
    train, validation, test = (kept[rows] for rows in parts.values())
    return TrainingData(imageset, labels_of(imageset), len(imageset.classes), train, validation, test, known)
