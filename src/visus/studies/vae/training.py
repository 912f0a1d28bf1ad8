"""Which VAEs a study trains: named runs, sweeps, and the rerun that fixes; each with every seed, read where it is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from visus.errors import DataError
from visus.models.vae import ConvVae, Decoder, VaeSizes
from visus.paths import home
from visus.spec import unknown
from visus.studies.common.options import split_commas
from visus.studies.vae.evaluation import NamedVae
from visus.studies.vae.inputs import ImageArrays
from visus.training.devices import Devices
from visus.training.recipe import Recipe
from visus.training.vae import KLSchedule, VaePlan, train_vae

COMPARED = "baseline,mitigated"
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
class TrainingSettings:
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
        KLSchedule(self.beta, self.warmup, self.free_bits)

    def schedule(self, name: str) -> KLSchedule:
        """What the KL costs in a named run."""
        warm, free = NAMED[name]
        return KLSchedule(self.beta, self.warmup if warm else 0, self.free_bits if free else 0.0)


@dataclass(frozen=True)
class Run:
    """A VAE to train. setting: the value that a sweep gave it (None outside sweeps)."""

    name: str
    sizes: VaeSizes
    schedule: KLSchedule
    setting: float | None = None


def planned_runs(compare: str | None, sweep: str | None, s: TrainingSettings) -> list[Run]:
    """The runs that were asked for; a baseline and a mitigated one where nothing was."""
    return swept_runs(sweep, s) if sweep else named_runs(compare or COMPARED, s)


def named_runs(text: str, s: TrainingSettings) -> list[Run]:
    """'baseline,mitigated' -> runs. Raises SpecError for an unknown name, DataError where two runs would be the same."""
    names = list(dict.fromkeys(split_commas(text)))
    if not names:
        raise DataError("--compare names no run; write for example baseline,mitigated")
    for name in names:
        if name not in NAMED:
            raise unknown("run in --compare:", name, NAMED)
    runs = [Run(name, s.sizes, s.schedule(name)) for name in names]
    for a, b in ((a, b) for i, a in enumerate(runs) for b in runs[:i] if a.schedule == b.schedule):
        raise DataError(f"{b.name} and {a.name} are the same with these settings; give --warmup or --free-bits above 0")
    return runs


def swept_runs(text: str, s: TrainingSettings) -> list[Run]:
    """'beta' or 'beta=0.5,1,2' -> runs without warm-up; free bits only where they are swept. Raises SpecError, DataError."""
    kind, _, listed = text.partition("=")
    kind = kind.strip()
    if kind not in SWEEPS:
        raise unknown("--sweep", kind, SWEEPS)
    try:
        values = [float(part) for part in split_commas(listed)] if listed else list(SWEEPS[kind])
    except ValueError:
        raise DataError(f"--sweep {text!r}: values are numbers; write {kind}=0.5,1,2") from None
    values = sorted(set(values))
    if len(values) < 2:
        raise DataError(f"--sweep {text!r} has one value; give two or more, as {kind}=0.5,1,2")
    if kind == "latent" and any(v != int(v) for v in values):
        raise DataError(f"--sweep {text!r}: numbers of latent dimensions are whole")
    shown = [f"{v:g}" for v in values]
    if len(set(shown)) < len(shown):
        shown = [f"{v!r}" for v in values]  # closer than six digits tell apart
    runs = []
    for v, name in zip(values, shown, strict=True):
        sizes = replace(s.sizes, latent=int(v)) if kind == "latent" else s.sizes
        beta, free = (v if kind == "beta" else s.beta), (v if kind == "free-bits" else 0.0)
        runs.append(Run(f"{kind} {name}", sizes, KLSchedule(beta, 0, free), v))
    return runs


def rerun_of(first: NamedVae, s: TrainingSettings) -> tuple[Run, TrainingSettings]:
    """The same network, likelihood and beta as the first, with warm-up and free bits, and the settings to train it with."""
    network = first.vae.module
    if isinstance(network, ConvVae):
        s = replace(s, sizes=network.sizes, decoder=network.decoder)
    else:
        s = replace(s, sizes=replace(s.sizes, latent=first.vae.latent))
    if first.schedule is not None:
        s = replace(s, beta=first.schedule.beta)
    # What was fixed once, and is opened again, has that name already.
    name = "fixed" if first.name.lower() != "fixed" else "fixed again"
    return Run(name, s.sizes, s.schedule("mitigated")), s


def train_runs(runs: Sequence[Run], images: ImageArrays, s: TrainingSettings) -> list[NamedVae]:
    """Train every run with every seed; what is finished is read, what was stopped goes on. The first seed's VAE stands for its run."""
    allowed = None if s.budget is None else s.budget / (len(runs) * s.seeds)
    found = []
    for run in runs:
        plans = [
            VaePlan(
                run.name if s.seeds == 1 else f"{run.name}, seed {s.recipe.seed + k}", run.sizes, s.decoder, run.schedule,
                replace(s.recipe, seed=s.recipe.seed + k), s.devices, allowed,
            )
            for k in range(s.seeds)
        ]  # fmt: skip
        trained = [
            train_vae(images.train, images.validation, p, content=images.content, root=home() / "training")
            for p in plans
        ]
        found.append(NamedVae(run.name, trained[0].vae, run.schedule, trained, run.setting))
    return found
