"""How a training went, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visus.figures import AnyFigure, CurvePanel, Curves, Mark, Series
from visus.result import Column, Finding, Metric, Table
from visus.training.from_scratch import Trained
from visus.training.records import Epoch

KEY, QUESTION = "course", "How did the training go?"


@dataclass(frozen=True)
class CourseMeasures:
    """best: position of the epoch that validation chose. images: trained on; seconds: all of it; stopped: why it ended early, or ''."""

    kind: str
    epochs: tuple[Epoch, ...]
    best: int
    seconds: float
    images: int
    parameters: int
    stopped: str
    folder: str


def measure(done: Trained, *, kind: str, folder: Path) -> CourseMeasures:
    fit = done.fit
    return CourseMeasures(
        kind, tuple(fit.epochs), fit.best, fit.seconds, done.images, done.parameters, fit.stopped or "", str(folder)
    )


def metrics(m: CourseMeasures) -> tuple[Metric, ...]:
    best = m.epochs[m.best]
    return (
        Metric("validation/loss", best.val_loss, unit="nats", better="lower", split="validation"),
        Metric("parameters", m.parameters, split="train"),
        Metric("seconds", m.seconds, unit="s", better="lower", split="train"),
    )


def tables(m: CourseMeasures) -> tuple[Table, ...]:
    return (
        Table(
            key="epochs",
            title="Epoch by epoch",
            columns=(
                Column("epoch", "epoch"),
                Column("train_loss", "training loss", "nats"),
                Column("validation_loss", "validation loss", "nats"),
                Column("train", "training", "share"),
                Column("validation", "validation", "share"),
                Column("lr", "learning rate", digits=5),
                Column("seconds", "time", "s", digits=1),
            ),
            rows=[
                (e.number, e.train_loss, e.val_loss, e.train_accuracy, e.val_accuracy, e.lr, e.seconds)
                for e in m.epochs
            ],
        ),
    )


def figures(m: CourseMeasures) -> tuple[AnyFigure, ...]:
    clip = m.kind == "clip"
    told = (
        "By epoch. Training: how often a batch's own text comes first, among few. Validation: the mean reciprocal rank of the right "
        "name among all names. The two lines answer different questions."
        if clip
        else "Accuracy by epoch; the training accuracy is of augmented images."
    )
    return (
        Curves(
            key="loss",
            title="How the loss falls",
            caption="Nats an image by epoch. Training: the batches as they were trained on, augmented. The ring: the epoch that validation chose.",
            x_label="epoch",
            y_label="loss",
            unit="nats",
            panels=(_panel(m, [e.train_loss for e in m.epochs], [e.val_loss for e in m.epochs]),),
        ),
        Curves(
            key="learning",
            title="How it learns",
            caption=told,
            x_label="epoch",
            y_label="share first, or reciprocal rank" if clip else "accuracy",
            unit="share",
            panels=(_panel(m, [e.train_accuracy for e in m.epochs], [e.val_accuracy for e in m.epochs]),),
        ),
    )


def _panel(m: CourseMeasures, train: list[float], held: list[float]) -> CurvePanel:
    x = [float(e.number) for e in m.epochs]
    series = (Series(name="training", x=x, y=train), Series(name="validation", x=x, y=held))
    return CurvePanel(title="", series=series, marks=(Mark("kept", x[m.best], held[m.best]),))


def findings(m: CourseMeasures) -> tuple[Finding, ...]:
    best = m.epochs[m.best]
    said = [
        Finding(
            f"{len(m.epochs)} epochs over {m.images:,} images took {m.seconds / 60:.1f} minutes; epoch {best.number} was kept "
            f"({m.parameters / 1e6:.1f} M parameters).",
            ("seconds", "parameters"),
            ("loss", "epochs"),
        ),
        Finding(f"The model is in {m.folder}, and loads by that path."),
    ]
    if m.stopped == "budget":
        text = "The time given was used up before the last epoch; the learning rate had come down with it."
        said.append(Finding(text, kind="caution"))
    if m.best == len(m.epochs) - 1 and len(m.epochs) > 1:
        said.append(Finding("The last epoch was the best: longer training may bring more.", kind="caution"))
    return tuple(said)
