"""Zero-shot classification as metrics and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from visus.result import Column, Metric, Table, key_of
from visus.studies.clip.zero_shot.measure import PromptScore, ZeroShotMeasures
from visus.studies.common.comparisons import Comparison, comparisons_table


def scored(m: ZeroShotMeasures) -> tuple[PromptScore, ...]:
    """Every prompt set, and random weights where they were scored."""
    return m.scores if m.control is None else (*m.scores, m.control)


def metric_key(m: ZeroShotMeasures, prompts: str, what: str) -> str:
    """Of one number of a prompt set, named by its key."""
    return key_of(m.name, "zero-shot", prompts, what)


def difference_key(m: ZeroShotMeasures, c: Comparison) -> str:
    """Of the difference in accuracy between two prompt sets."""
    keys = {s.prompts: s.key for s in m.scores}
    return metric_key(m, f"{keys[c.a]}-minus-{keys[c.b]}", "accuracy")


def metrics(m: ZeroShotMeasures) -> tuple[Metric, ...]:
    """Every accuracy, calibration error and difference between prompt sets."""
    return tuple(_metrics(m))


def _metrics(m: ZeroShotMeasures) -> Iterator[Metric]:
    for s in scored(m):
        values: tuple[tuple[str, float | None, str, Literal["higher", "lower"]], ...] = (
            ("balanced-accuracy", s.balanced, "share", "higher"), ("top-5", s.top_5, "share", "higher"),
            ("ece", s.ece, "share", "lower"), ("nll", s.nll, "nats", "lower"),
        )  # fmt: skip
        yield s.accuracy.metric(
            metric_key(m, s.key, "accuracy"), label=f"zero-shot accuracy, {s.prompts}", split=m.split
        )
        for what, value, unit, better in values:
            if value is not None:
                key = metric_key(m, s.key, what)
                yield Metric(key, value, n=m.n, unit=unit, better=better, split=m.split, label=f"{what}, {s.prompts}")
    for c in m.comparisons:
        yield c.metric(difference_key(m, c), m.n)
    for p in m.precisions:
        key, label = metric_key(m, p.key, "mean-average-precision"), f"mean average precision, {p.prompts}"
        yield Metric(key, p.mean, n=m.n, unit="share", better="higher", split=m.split, label=label)


def tables(m: ZeroShotMeasures) -> tuple[Table, ...]:
    """Accuracy by prompts, prompt sets in pairs, classes and images that turn on them, what is confused, and the hardest images."""
    if m.precisions:
        return (_precisions(m),)
    found = [_accuracy(m)]
    if len(m.scores) > 1:
        found += [
            comparisons_table("prompt-pairs", "Prompt sets compared", m.comparisons, what="Zero-shot classifiers"),
            _recalls(m),
            _flips(m),
        ]
    found.append(_confused(m))
    if m.wrong:
        found.append(_hardest(m))
    return tuple(found)


def _accuracy(m: ZeroShotMeasures) -> Table:
    return Table(
        key="zero-shot",
        title="Zero-shot, by prompts",
        columns=(
            Column("prompts", "prompts"), Column("templates", "templates"), Column("accuracy", "accuracy", "share", 2),
            Column("low", "low", "share", 2), Column("high", "high", "share", 2),
            Column("balanced_accuracy", "balanced accuracy", "share", 2), Column("top_5", "top-5", "share", 2),
            Column("ece", "ECE", "share", 2), Column("nll", "NLL", digits=2), Column("n", "n"),
        ),
        rows=[
            (
                s.prompts, s.templates, s.accuracy.value, s.accuracy.low, s.accuracy.high, s.balanced, s.top_5, s.ece, s.nll, s.accuracy.n
            )
            for s in scored(m)
        ],
        note=f"{len(m.classes)} classes: chance is {100 * m.chance:.1f} %. A class is the normalised mean of its prompts' unit "
        f"vectors. low, high: 95 % Wilson intervals. ECE (15 bins) and NLL: softmax of cosines times the model's own scale, {m.scale:.1f}.",
    )  # fmt: skip


def _recalls(m: ZeroShotMeasures) -> Table:
    return Table(
        key="classes-by-prompts",
        title="Recall of every class, by prompts",
        columns=(
            Column("class", "class"),
            *(Column(f"recall_{s.key}", s.prompts, "share") for s in m.scores),
            Column("range", "range", "points"),
            Column("n", "n"),
        ),
        rows=[(c.name, *c.recalls, c.spread, c.n) for c in m.recalls],
        note="Those first whose recall depends most on the prompts.",
    )


def _flips(m: ZeroShotMeasures) -> Table:
    return Table(
        key="images-by-prompts",
        title="Images that turn on the prompts",
        columns=(
            Column("image", "image"),
            Column("class", "class"),
            *(Column(f"answer_{s.key}", f"{s.prompts} says") for s in m.scores),
            Column("sets_right", "sets right"),
        ),
        rows=[(f.id, f.label, *f.answers, f.right) for f in m.flips],
        note=f"{len(m.flips):,} of {m.flipped:,} images (of {m.n:,}) that one set gets right and another wrong, those first whose class "
        "gains the most probability from one set to another.",
    )


def _confused(m: ZeroShotMeasures) -> Table:
    return Table(
        key="zero-shot-confused",
        title=f"Most often confused, with {m.scores[0].prompts} prompts",
        columns=(
            Column("class", "class"), Column("taken_for", "taken for"), Column("images", "images"),
            Column("share", "of the class", "share"),
        ),
        rows=[(c.label, c.answer, c.count, c.share) for c in m.confused],
    )  # fmt: skip


def _hardest(m: ZeroShotMeasures) -> Table:
    return Table(
        key="hardest-images",
        title=f"Hardest images, with {m.scores[0].prompts} prompts",
        columns=(
            Column("image", "image"), Column("class", "class"), Column("answer", "answer"),
            Column("p_answer", "probability of the answer", "share"), Column("p_class", "of the class", "share"),
        ),
        rows=[(w.id, w.label, w.answer, w.p_answer, w.p_label) for w in m.wrong],
        note=f"{len(m.wrong):,} of {m.n_wrong:,} wrong answers, those first that give the class least.",
    )  # fmt: skip


def _precisions(m: ZeroShotMeasures) -> Table:
    return Table(
        key="average-precision",
        title="Average precision of every class",
        columns=(
            Column("prompts", "prompts"), Column("class", "class"), Column("average_precision", "average precision", "share"),
            Column("positives", "positives"),
        ),
        rows=[(p.prompts, c.name, c.value, c.positives) for p in m.precisions for c in p.classes],
    )  # fmt: skip
