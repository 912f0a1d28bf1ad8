"""Which VAEs a study trains: named runs, sweeps, and the rerun that fixes; each with every seed, read where it is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from visus.errors import DataError
from visus.spec import unknown

if TYPE_CHECKING:
    from visus.models.vae import Decoder, VaeSizes
    from visus.studies.vae.subject import Subject
    from visus.training.devices import Devices
    from visus.training.recipe import Recipe
    from visus.training.vae import KLSchedule, TrainedVae

NAMED: Mapping[str, tuple[bool, bool]] = {  # name: (warm-up, free bits)
    "baseline": (False, False),
    "mitigated": (True, True),
    "warm-up": (True, False),
    "free-bits": (False, True),
}
SWEEPS: Mapping[str, tuple[float, ...]] = {
    "beta": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "latent": (2, 4, 8, 16, 32),
    "free-bits": (0.0, 0.01, 0.05, 0.2, 0.5),
}


@dataclass(frozen=True)
class Settings:
    """What all runs share, and what a named run may switch on: sizes, likelihood, beta, warm-up in epochs, free bits in nats, recipe,
    seconds for all trainings (None: as long as they take), trainings a run."""

    sizes: VaeSizes
    decoder: Decoder
    beta: float
    warmup: int
    free_bits: float
    recipe: Recipe
    devices: Devices
    budget: float | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        """Raise DataError for a beta, a warm-up or free bits that are none."""
        from visus.training.vae import KLSchedule

        KLSchedule(self.beta, self.warmup, self.free_bits)


@dataclass(frozen=True)
class Run:
    """A VAE to train. setting: the value that a sweep gave it (None outside sweeps)."""

    name: str
    sizes: VaeSizes
    pressure: KLSchedule
    setting: float | None = None


def named_runs(text: str, s: Settings) -> list[Run]:
    """'baseline,mitigated' -> runs. Raises SpecError for an unknown name, DataError where two runs would be the same."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise DataError("--compare names no run; write for example baseline,mitigated")
    for name in names:
        if name not in NAMED:
            raise unknown("run in --compare:", name, NAMED)
    runs = [Run(name, s.sizes, pressure_of(name, s)) for name in names]
    for a, b in ((a, b) for i, a in enumerate(runs) for b in runs[:i] if a.pressure == b.pressure):
        raise DataError(f"{b.name} and {a.name} are the same with these settings; give --warmup or --free-bits above 0")
    return runs


def pressure_of(name: str, s: Settings) -> KLSchedule:
    """What the KL costs in a named run."""
    from visus.training.vae import KLSchedule

    warm, free = NAMED[name]
    return KLSchedule(s.beta, s.warmup if warm else 0, s.free_bits if free else 0.0)


def swept_runs(text: str, s: Settings) -> list[Run]:
    """'beta' or 'beta=0.5,1,2' -> runs without warm-up; free bits only where they are swept. Raises SpecError, DataError."""
    from visus.training.vae import KLSchedule

    kind, _, listed = text.partition("=")
    kind = kind.strip()
    if kind not in SWEEPS:
        raise unknown("--sweep", kind, SWEEPS)
    try:
        values = [float(part) for part in listed.split(",") if part.strip()] if listed else list(SWEEPS[kind])
    except ValueError:
        raise DataError(f"--sweep {text!r}: values are numbers; write {kind}=0.5,1,2") from None
    values = sorted(set(values))
    if len(values) < 2:
        raise DataError(f"--sweep {text!r} has one value; give two or more, as {kind}=0.5,1,2")
    if kind == "latent" and any(v != int(v) for v in values):
        raise DataError(f"--sweep {text!r}: numbers of latent dimensions are whole")
    runs = []
    for v in values:
        sizes = replace(s.sizes, latent=int(v)) if kind == "latent" else s.sizes
        beta, free = (v if kind == "beta" else s.beta), (v if kind == "free-bits" else 0.0)
        runs.append(Run(f"{kind} {v:g}", sizes, KLSchedule(beta, 0, free), v))
    return runs


def train_runs(runs: Sequence[Run], subject: Subject, s: Settings) -> list[list[TrainedVae]]:
    """Train every run with every seed; what is finished is read, what was stopped goes on. One list of seeds a run."""
    from visus.paths import home
    from visus.training.vae import VaePlan, train_vae

    allowed = None if s.budget is None else s.budget / (len(runs) * s.seeds)
    found = []
    for run in runs:
        plans = [
            VaePlan(
                run.name if s.seeds == 1 else f"{run.name}, seed {s.recipe.seed + k}", run.sizes, s.decoder, run.pressure,
                replace(s.recipe, seed=s.recipe.seed + k), s.devices, allowed,
            )
            for k in range(s.seeds)
        ]  # fmt: skip
        found.append(
            [
                train_vae(subject.train, subject.validation, p, content=subject.content, root=home() / "training")
                for p in plans
            ]
        )
    return found
