"""Fitting a plan to the time given: what is kept, what is made smaller, and a sentence for everything that is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from visus.errors import SpecError
from visus.training.regimes import REGIMES, WHOLE

WORTHWHILE = 4  # epochs over the whole network that are worth larger images
TRIAL_IMAGES = 1000  # of a trial of one learning rate over the whole network, where time is short
TRIED = 3  # learning rates of a longer grid that are tried as a rule: both sides of the best
LEAST_IMPORTANT = ("scratch", "lora", "full", "last-block")  # what is left out first
SLACK = 0.95  # of the time is planned; the rest is for what the estimates miss


@dataclass(frozen=True)
class RegimeBudget:
    """What one regime may spend.

    epochs: at most. size: pixels of the side of the images that are trained on. grid: learning rates to try. trial_epochs, trial_pictures:
    length of a trial (None: all images). seconds: of the final run (None: as long as it takes).
    """

    epochs: int
    size: int
    grid: tuple[float, ...]
    trial_epochs: int
    trial_pictures: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Throughput:
    """What a regime takes on this machine, by side of the images in pixels, largest first.

    setup: seconds before the first step (decoding, the frozen front). train, held: seconds an image, to train on and to evaluate.
    """

    setup: Mapping[int, float]
    train: Mapping[int, float]
    held: Mapping[int, float]


@dataclass(frozen=True)
class Sizes:
    """Numbers of images: to train on, for validation, for test."""

    train: int
    validation: int
    test: int


def seconds_of(text: str | None) -> float | None:
    """'10m', '90s', '1h30m', '600' -> seconds; None and 'none' -> None. Raises SpecError for anything else."""
    if text is None or text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)h)?\s*(?:(\d+(?:\.\d+)?)m)?\s*(?:(\d+(?:\.\d+)?)s?)?\s*", text.lower())
    total = sum(float(v or 0) * unit for v, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0.0
    if not total:
        raise SpecError(f"--budget {text!r} is no time; write 10m, 1h30m, 90s or none")
    return total


def predicted(pace: Throughput, a: RegimeBudget, sizes: Sizes) -> float:
    """Seconds that a regime takes by its pace: setup, trials, the run, the test."""
    images = min(sizes.train, a.trial_pictures or sizes.train)
    train, held = pace.train[a.size], pace.held[a.size]
    trial = a.trial_epochs * (images * train + sizes.validation * held)
    trials = trial * min(len(a.grid), TRIED) if len(a.grid) > 1 else 0.0
    run = a.epochs * (sizes.train * train + sizes.validation * held)
    return pace.setup[a.size] + trials + run + sizes.test * held


def fit_to(
    asked: Mapping[str, RegimeBudget], paces: Mapping[str, Throughput], sizes: Sizes, *, seconds: float
) -> tuple[dict[str, RegimeBudget], tuple[str, ...]]:
    """Cut a plan until it fits `seconds`. Returns the allowances of the regimes that are kept, and what was left out, in sentences.

    First trials of learning rates are shortened (those of 'scratch', which a short time teaches little, are left out); then it is trained
    on smaller images, as long as that buys epochs up to WORTHWHILE; then for fewer epochs; at last a regime is left out, the least
    important first. Regimes over cached features cost little: their runs are left whole, until nothing else is left to cut.
    """
    plan, said = dict(asked), []
    room = SLACK * seconds
    if sum(predicted(paces[r], a, sizes) for r, a in plan.items()) <= room:
        return {r: replace(a, seconds=_run_time(paces[r], a, sizes) / SLACK) for r, a in plan.items()}, ()
    for regime, a in plan.items():
        if len(a.grid) == 1 or regime == "head":
            continue
        if REGIMES[regime].random:
            lr = a.grid[len(a.grid) // 2]
            plan[regime] = replace(a, grid=(lr,))
            said.append(f"{regime}: its learning rate was not searched, {lr:g} was taken.")
            continue
        images = min(TRIAL_IMAGES, sizes.train) if regime in WHOLE else None
        plan[regime] = replace(a, trial_epochs=1, trial_pictures=images)
        of = f" of {images:,} pictures" if images else ""
        said.append(f"{regime}: learning rates were tried for one epoch{of} only.")
    while True:
        cheap = sum(predicted(paces[r], a, sizes) for r, a in plan.items() if r not in WHOLE)
        whole = [r for r in plan if r in WHOLE]
        weight = sum(REGIMES[r].share for r in whole)
        chosen = {r: _largest(plan[r], paces[r], sizes, (room - cheap) * REGIMES[r].share / weight) for r in whole}
        unfit = [r for r in whole if chosen[r] is None] if cheap <= room else list(plan)
        gone = next((r for r in LEAST_IMPORTANT if r in unfit), None)
        if gone is None:
            break
        if gone == "last-block":
            left = room - cheap + predicted(paces[gone], plan[gone], sizes)
            shorter = _largest(plan[gone], paces[gone], sizes, left)
            if shorter is not None:
                said.append(f"{gone}: {shorter.epochs} of {plan[gone].epochs} epochs.")
                plan[gone] = shorter
                break
        del plan[gone]
        said = [s for s in said if not s.startswith(f"{gone}:")]
        said.append(f"{gone}: left out, as not even one epoch fits.")
    for regime, found in chosen.items():
        if regime not in plan or found is None:
            continue
        was = plan[regime]
        if found.size < was.size:
            said.append(f"{regime}: trained and tested on pictures of {found.size} pixels instead of {was.size}.")
        if found.epochs < was.epochs:
            said.append(f"{regime}: {found.epochs} of {was.epochs} epochs.")
        plan[regime] = found
    return plan, tuple(said)


def _run_time(pace: Throughput, a: RegimeBudget, sizes: Sizes) -> float:
    return a.epochs * (sizes.train * pace.train[a.size] + sizes.validation * pace.held[a.size])


def _largest(a: RegimeBudget, pace: Throughput, sizes: Sizes, seconds: float) -> RegimeBudget | None:
    """The largest images that leave time for WORTHWHILE epochs, else the size with the most epochs; None where no epoch fits."""
    best: RegimeBudget | None = None
    for size in pace.train:
        fixed = predicted(pace, replace(a, size=size, epochs=0), sizes)
        an_epoch = _run_time(pace, replace(a, size=size, epochs=1), sizes)
        epochs = min(int((seconds - fixed) / an_epoch), a.epochs)
        if epochs < 1 or (best is not None and epochs <= best.epochs):
            continue
        best = replace(a, size=size, epochs=epochs, seconds=seconds - fixed)
        if epochs >= min(WORTHWHILE, a.epochs):
            break
    return best
