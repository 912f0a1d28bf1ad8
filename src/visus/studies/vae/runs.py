"""How did the VAEs learn: epoch by epoch, over seeds, and where they are kept (P11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure, CurvePanel, Curves, Mark, Series
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.vae.evaluation import NamedVae
from visus.studies.vae.gallery import NAME, nats
from visus.training.loop import Fit

KEY, QUESTION = "runs", "How did it learn, and does another seed say the same?"
TERMS = ("reconstruction", "KL", "negative ELBO")


@dataclass(frozen=True)
class Nats:
    """Both sides of the ELBO in nats per image, and their sum."""

    reconstruction: float
    kl: float
    total: float

    def term(self, i: int) -> float:
        """In the order of TERMS."""
        return (self.reconstruction, self.kl, self.total)[i]


@dataclass(frozen=True)
class EpochRow:
    """One epoch. beta: the weight of the KL in it. chosen: whether validation kept it."""

    number: int
    beta: float
    train: Nats
    validation: Nats
    chosen: bool
    seconds: float


@dataclass(frozen=True)
class RunRow:
    """One run. epochs: of its first seed. seeds: trainings; mean, deviation: of the validation images at the epoch that each kept (deviation None
    of one seed). folder: where the first one is kept. stopped: whether time ran out."""

    name: str
    epochs: tuple[EpochRow, ...]
    seeds: int
    mean: Nats
    deviation: Nats | None
    folder: str
    stopped: bool

    @property
    def last_is_best(self) -> bool:
        return self.epochs[-1].chosen


@dataclass(frozen=True)
class RunMeasures:
    """rows: every run that was trained."""

    rows: tuple[RunRow, ...]


def measure(models: Sequence[NamedVae]) -> RunMeasures:
    """Read the trainings off their records."""
    return RunMeasures(tuple(_row(m) for m in models if m.trained))


def _row(model: NamedVae) -> RunRow:
    trained = model.trained
    best = [t.fit.epochs[t.fit.best].parts for t in trained]
    columns = [[b["val_reconstruction"] for b in best], [b["val_kl"] for b in best]]
    columns.append([sum(pair) for pair in zip(*columns, strict=True)])
    several = len(trained) > 1
    first = trained[0].fit
    return RunRow(
        name=model.name,
        epochs=_epochs(first),
        seeds=len(trained),
        mean=Nats(*(float(np.mean(c)) for c in columns)),
        deviation=Nats(*(float(np.std(c, ddof=1)) for c in columns)) if several else None,
        folder=str(trained[0].folder),
        stopped=first.stopped == "budget",
    )


def _epochs(fit: Fit) -> tuple[EpochRow, ...]:
    rows = []
    for i, epoch in enumerate(fit.epochs):
        p = epoch.parts
        train = Nats(p["reconstruction"], p["kl"], p["reconstruction"] + p["kl"])
        held = Nats(p["val_reconstruction"], p["val_kl"], p["val_reconstruction"] + p["val_kl"])
        rows.append(EpochRow(epoch.number, p["beta"], train, held, i == fit.best, epoch.seconds))
    return tuple(rows)


def cut_short(m: RunMeasures) -> tuple[str, ...]:
    """A sentence for every run whose time was used up before its epochs were."""
    return tuple(f"{r.name}: the time given was used up after epoch {len(r.epochs)}." for r in m.rows if r.stopped)


def metrics(m: RunMeasures) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            key_of(r.name, "validation", "negative-elbo"), r.mean.total, unit="nats", better="lower", split="validation",
            label=f"negative ELBO of validation images, {r.name}",
        )
        for r in m.rows
    )  # fmt: skip


def tables(m: RunMeasures) -> tuple[Table, ...]:
    seeds = (_seeds(m),) if any(r.seeds > 1 for r in m.rows) else ()
    return (*seeds, _epoch_table(m), _models(m))


def _seeds(m: RunMeasures) -> Table:
    rows = []
    for r in m.rows:
        spread = [v for i in range(3) for v in (r.mean.term(i), None if r.deviation is None else r.deviation.term(i))]
        rows.append((r.name, r.seeds, *spread))
    return Table(
        key="seeds",
        title="Over seeds",
        columns=(
            NAME,
            Column("seeds", "seeds"),
            nats("reconstruction", "reconstruction"),
            nats("reconstruction_sd", "±"),
            nats("kl", "KL"),
            nats("kl_sd", "±"),
            nats("negative_elbo", "negative ELBO"),
            nats("negative_elbo_sd", "±"),
        ),
        rows=rows,
        note="Mean and standard deviation over trainings, on validation images at the epoch that was kept. Everything else is of the first seed.",
    )


def _epoch_table(m: RunMeasures) -> Table:
    rows = []
    for r in m.rows:
        for e in r.epochs:
            both = [part.term(i) for part in (e.train, e.validation) for i in range(3)]
            rows.append((r.name, e.number, e.beta, *both, "kept" if e.chosen else "", e.seconds))
    return Table(
        key="epochs",
        title="Epoch by epoch",
        columns=(
            NAME,
            Column("epoch", "epoch"),
            Column("beta", "beta", digits=2),
            nats("reconstruction", "reconstruction"),
            nats("kl", "KL"),
            nats("sum", "sum"),
            nats("validation_reconstruction", "validation reconstruction"),
            nats("validation_kl", "validation KL"),
            nats("validation_sum", "validation sum"),
            Column("choice", "choice"),
            Column("seconds", "time", "seconds", 2),
        ),
        rows=rows,
        note="Nats per image. beta: the effective weight of the KL on this scale in that epoch. The epoch with the lowest validation objective "
        "at the full beta is kept.",
    )


def _models(m: RunMeasures) -> Table:
    return Table(
        key="models",
        title="Kept on this machine",
        columns=(NAME, Column("checkpoint", "--checkpoint")),
        rows=[(r.name, r.folder) for r in m.rows],
        note="Each opens again with visus vae --checkpoint.",
    )


def figures(m: RunMeasures) -> tuple[AnyFigure, ...]:
    panels = []
    for i, title in enumerate(TERMS):
        series, marks = [], []
        for r in m.rows:
            x = [float(e.number) for e in r.epochs]
            validation = [e.validation.term(i) for e in r.epochs]
            series.append(Series(name=f"{r.name}, training", x=x, y=[e.train.term(i) for e in r.epochs]))
            series.append(Series(name=f"{r.name}, validation", x=x, y=validation))
            marks += [Mark("kept", x[k], validation[k]) for k, e in enumerate(r.epochs) if e.chosen]
        panels.append(CurvePanel(title=title, series=tuple(series), marks=tuple(marks)))
    return (
        Curves(
            key="curves",
            title="How it learns",
            caption="Nats per image by epoch, logarithmic. The ring: the epoch that validation chose.",
            x_label="epoch",
            unit="nats per image",
            y_log=True,
            own_y=True,
            panels=tuple(panels),
        ),
    )


def findings(m: RunMeasures) -> tuple[Finding, ...]:
    said = [
        *cut_short(m),
        *(
            f"{r.name}: the last epoch was the best, so longer training may bring more."
            for r in m.rows
            if r.last_is_best and len(r.epochs) > 1 and not r.stopped
        ),
    ]
    return tuple(Finding(text, shows=("epochs", "curves"), kind="caution") for text in said)
