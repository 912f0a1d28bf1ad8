"""Can it be trusted: the controls of every probe, and the same image on both sides of the split (P3, P16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visus.figures import AnyFigure
from visus.formats import percent
from visus.measures.probe_null import PERMUTATIONS
from visus.measures.repeats import repeats
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common import repeated_images
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.null_cautions import null_cautions
from visus.studies.common.repeated_images import Answers, RepeatedImages
from visus.studies.common.taps import pixels_of
from visus.studies.transfer.evaluation import LayerScore, best_of
from visus.studies.transfer.inputs import ModelFeatures
from visus.studies.transfer.layers import AT_LAYER

KEY, QUESTION = "trust", "Can these numbers be trusted?"


@dataclass(frozen=True)
class ControlRow:
    """One probe beside its controls, test accuracies: random weights; shuffled labels (mean and 95 % point of permutations, permutation p)."""

    model: str
    layer: str
    probe: float
    random: float | None
    shuffled: float | None
    shuffled_point: float | None
    p: float | None


@dataclass(frozen=True)
class TrustMeasures:
    """rows: every layer of every model; best: the one that validation prefers. majority: of always answering the most frequent class.
    repeated: the same image in training and test, its first two accuracies those of the best layer's probe and kNN. cautions: sentences."""

    rows: tuple[ControlRow, ...]
    best: int
    majority: float
    controls: bool
    repeated: RepeatedImages
    best_repeated: int
    cautions: tuple[str, ...]


def measure(
    images: LabelledImages,
    models: Sequence[ModelFeatures],
    scores: Sequence[LayerScore],
    *,
    majority: float,
    controls: bool,
) -> TrustMeasures:
    """Set every probe beside its controls, and find the images that stand on both sides of the split."""
    y, splits = images.test_y, images.splits
    rows = []
    for s in scores:
        null, top1 = s.shuffled, float(s.probe.top1)
        of_null = (None, None, None) if null is None else (null.mean, null.point, null.p_value(top1))
        rows.append(ControlRow(s.model, s.label, top1, s.random, *of_null))
    pixels = pixels_of(models[0].features, images.valid_indices)
    found = repeats(pixels, images.y, splits.train, splits.test, splits.folds)
    answers = [
        Answers((s.model, s.label, method), predicted == y)
        for s in scores
        for method, predicted in (("linear probe", s.probe.predictions), ("kNN", s.knn_predictions))
    ]
    known = repeated_images.Rows(images.ids, splits.test, images.y, images.classes)
    by_luck = float(np.bincount(y).max() / len(y))  # the most that answers made without looking can reach
    said = null_cautions([(f"{s.model}, {s.label}", s.shuffled, s.probe.top1) for s in scores], by_luck)
    said += [
        f"{m.spec}: no random-init control, since its architecture could not be built without its weights."
        for m in models
        if controls and m.random_control is None and not m.backbone.random
    ]
    best = list(scores).index(best_of(scores))
    return TrustMeasures(
        rows=tuple(rows),
        best=best,
        majority=majority,
        controls=any(s.shuffled is not None for s in scores),
        repeated=repeated_images.measure(found, known, answers),
        best_repeated=2 * best,
        cautions=tuple(said),
    )


def metrics(m: TrustMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        where = key_of(r.model, r.layer.split(" ")[0])
        if r.random is not None:
            label = f"random weights, {r.model}, {r.layer}"
            found.append(
                Metric(key_of(where, "random", "accuracy"), r.random, n=m.repeated.n_test, unit="share", label=label)
            )
        if r.shuffled is not None:
            label = f"shuffled labels, {r.model}, {r.layer}"
            found.append(
                Metric(
                    key_of(where, "shuffled", "accuracy"), r.shuffled, n=m.repeated.n_test, unit="share", label=label
                )
            )
    if m.repeated.count:
        found.append(Metric("repeated-images", m.repeated.count, n=m.repeated.n_test, better="lower"))
    return tuple(found)


def tables(m: TrustMeasures) -> tuple[Table, ...]:
    found = [_controls(m)] if m.controls else []
    if m.repeated.count:
        columns = (*AT_LAYER, Column("method", "method"))
        found.append(repeated_images.without_table(m.repeated, "accuracy-without-repeats", columns))
        found.append(repeated_images.pairs_table(m.repeated))
    return tuple(found)


def _controls(m: TrustMeasures) -> Table:
    return Table(
        key="controls",
        title="Controls: the same probe where there should be little or nothing to find",
        columns=(
            *AT_LAYER,
            Column("probe", "probe", "share"),
            Column("random", "random init", "share"),
            Column("shuffled", "shuffled labels", "share"),
            Column("shuffled_point", "shuffled, 95 % point", "share"),
            Column("p", "permutation p"),
            Column("majority", "most frequent class", "share"),
        ),
        rows=[(r.model, r.layer, r.probe, r.random, r.shuffled, r.shuffled_point, r.p, m.majority) for r in m.rows],
        note=f"random init: the same architecture with random weights. shuffled labels: mean of {PERMUTATIONS} permutations of the training "
        "labels, at the penalty chosen for the true ones; a probe that does not exceed their 95 % point has found nothing that is surely "
        "there. permutation p: the share of permutations, the true labels counted among them, that reach the probe.",
    )


def figures(m: TrustMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: TrustMeasures) -> tuple[Finding, ...]:
    r = m.rows[m.best]
    against = [f"{percent(m.majority)} for always answering the most frequent class"]
    if r.random is not None:
        against.append(f"{percent(r.random)} for the same network with random weights")
    said = [Finding(f"Against the probe's {percent(r.probe)} stand {' and '.join(against)}.", shows=_shown(m))]
    if r.shuffled is not None and r.shuffled_point is not None:
        text = f"On shuffled labels the same probe reaches {percent(r.shuffled)}, its 95 % point {percent(r.shuffled_point)}."
        said.append(Finding(text, shows=_shown(m)))
    if m.repeated.count:
        answer = m.repeated.accuracies[m.best_repeated]
        said.append(repeated_images.finding(m.repeated, "the probe", answer, shows=("accuracy-without-repeats",)))
    cautions = (*repeated_images.cautions(m.repeated), *m.cautions)
    return (*said, *(Finding(text, kind="caution") for text in cautions))


def _shown(m: TrustMeasures) -> tuple[str, ...]:
    return ("controls",) if m.controls else ()
