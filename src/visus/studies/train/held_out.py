"""What a network trained from nothing reaches on held-out images, beside chance and the untrained network."""

from __future__ import annotations

from dataclasses import dataclass

from visus.figures import AnyFigure
from visus.formats import interval_text, percent
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.proportion import Proportion, of_counts
from visus.studies.train.judging import Judged

KEY, QUESTION = "held-out", "What does it reach on images that it never saw?"
TOLD = ("accuracy", "recall@10, image to name", "zero-shot, plain prompts", "zero-shot, variants prompts")
ALONE = "No caption has a second picture: no held-out name was seen in training, so retrieval is as hard as it can be."


@dataclass(frozen=True)
class HeldOutRow:
    """One share on held-out images. asked: of what; chance: what answering blindly gives; untrained: the same network before training;
    balanced: balanced accuracy, where classes were asked for."""

    name: str
    asked: str
    share: Proportion
    chance: float
    untrained: float | None
    balanced: float | None

    @property
    def key(self) -> str:
        return key_of(self.name.replace(",", ""))


@dataclass(frozen=True)
class HeldOutMeasures:
    """calibration: expected calibration error over 15 bins, of a classifier. cautions: sentences."""

    kind: str
    rows: tuple[HeldOutRow, ...]
    calibration: float | None
    cautions: tuple[str, ...]


def measure(judged: Judged, *, kind: str, alone: bool = False) -> HeldOutMeasures:
    """alone: whether no caption has a second image."""
    rows = tuple(
        HeldOutRow(name, s.asked, of_counts(s.hits, s.n), s.chance, s.untrained, judged.balanced.get(name))
        for name, s in judged.scores.items()
    )
    return HeldOutMeasures(kind, rows, judged.calibration, (*judged.warnings, *((ALONE,) if alone else ())))


def metrics(m: HeldOutMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        found.append(r.share.metric(r.key, label=r.name))
        if r.balanced is not None:
            key = key_of(r.key, "balanced-accuracy")
            found.append(
                Metric(key, r.balanced, n=r.share.n, unit="share", better="higher", label=f"{r.name}, balanced")
            )
    if m.calibration is not None:
        found.append(Metric("calibration-error", m.calibration, n=m.rows[0].share.n, better="lower"))
    return tuple(found)


def tables(m: HeldOutMeasures) -> tuple[Table, ...]:
    rows = []
    for r in m.rows:
        interval = (r.share.value, r.share.low, r.share.high)
        rows.append((r.name, *interval, r.balanced, r.chance, r.untrained, r.share.n, r.asked))
    return (
        Table(
            key="held-out",
            title="On held-out images",
            columns=(
                Column("measure", "measure"),
                Column("value", "share", "share"),
                Column("low", "low", "share"),
                Column("high", "high", "share"),
                Column("balanced_accuracy", "balanced accuracy", "share"),
                Column("chance", "chance", "share"),
                Column("untrained", "untrained", "share"),
                Column("n", "n"),
                Column("asked", "what is asked"),
            ),
            rows=rows,
            note="95 % Wilson intervals. These images were looked at once, with the weights that validation chose.",
        ),
    )


def figures(m: HeldOutMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: HeldOutMeasures) -> tuple[Finding, ...]:
    said = [Finding(_sentence(r), (r.key,), ("held-out",)) for r in told(m)]
    accuracy = m.rows[0]
    if m.calibration is not None and accuracy.balanced is not None:
        text = f"Balanced accuracy {percent(accuracy.balanced)}, calibration error (15 bins) {percent(m.calibration)}."
        said.append(Finding(text, (key_of(accuracy.key, "balanced-accuracy"), "calibration-error"), ("held-out",)))
    return (*said, *(Finding(text, kind="caution") for text in m.cautions))


def told(m: HeldOutMeasures) -> list[HeldOutRow]:
    """The rows that sentences are made of."""
    without = ("accuracy without repeats",) if m.kind == "vit" else ()
    return [r for r in m.rows if r.name in (*TOLD, *without)]


def _sentence(r: HeldOutRow) -> str:
    name = f"accuracy {r.asked}" if r.name == "accuracy without repeats" else r.name
    span = interval_text(r.share.low, r.share.high)
    return f"{name[0].upper()}{name[1:]}: {percent(r.share.value)} ({span}, n = {r.share.n:,}; chance {percent(r.chance)})."


def headline(m: HeldOutMeasures) -> tuple[str, ...]:
    return tuple(r.key for r in told(m))[:4]


def answer(m: HeldOutMeasures) -> str:
    """The study's one sentence."""
    r = told(m)[0]
    return f"{r.name[0].upper()}{r.name[1:]}: {percent(r.share.value)} of {r.share.n:,} held-out images, against {percent(r.chance)} by chance."
