"""The tables of the transfer study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.measures.probe_null import PERMUTATIONS
from visus.studies.common import repeated
from visus.studies.common.pairs import table_of_pairs
from visus.studies.common.schema1 import Table
from visus.studies.common.shared import quarantine_table
from visus.studies.transfer.layers.subject import Subject, confused, layer_pairs, model_pairs

if TYPE_CHECKING:
    from visus.features import Features


def tables(s: Subject, features: Sequence[Features], *, seed: int) -> dict[str, Table]:
    """Every table of the study, in reading order."""
    found = {"accuracy": _accuracy(s)}
    if s.repeats is not None and s.repeats.count:
        found["accuracy without repeats"] = repeated.accuracy_without(
            s.repeats, ("model", "layer", "method"), answers(s)
        )
        found["repeated images"] = repeated.listed(s.repeats, s.ids, s.splits.test, s.y, s.images.classes)
    if any(score.shuffled is not None for score in s.scores):
        found["controls"] = _controls(s)
    if len(s.backbones) > 1:
        found["models compared"] = table_of_pairs(
            model_pairs(s, seed=seed), "Models, each at the layer that validation prefers"
        )
    if len(s.scores) > len(s.backbones):
        found["layers compared"] = table_of_pairs(layer_pairs(s, seed=seed), "Neighbouring layers of each model")
    found["geometry"] = _geometry(s)
    found["knn"] = _knn(s)
    found["classes"] = _classes(s)
    if confused(s):
        found["confused"] = _confused(s)
    found["images"] = _images(s)
    found["cost"] = _cost(s, features)
    set_aside = {(q.id, q.reason): q for q in (*s.images.quarantine, *(q for f in features for q in f.quarantine))}
    if set_aside:
        found["quarantine"] = quarantine_table(set_aside.values())
    return found


def answers(s: Subject) -> list[repeated.Answered]:
    """Which test images every layer's probe and kNN got right."""
    found = []
    for score in s.scores:
        for method, said in (("linear probe", score.probe.predictions), ("kNN", score.knn_predictions)):
            found.append(repeated.Answered((score.model, score.label, method), said == s.test_y))
    return found


def _accuracy(s: Subject) -> Table:
    from visus.measures.confusion import balanced_accuracy
    from visus.measures.intervals import wilson

    n = len(s.test_y)
    rows: list[tuple[Any, ...]] = []
    for score in s.scores:
        p = score.probe
        low, high = wilson(round(p.top1 * n), n)
        rows.append(
            (
                score.model,
                score.label,
                score.width,
                "linear probe",
                p.top1,
                low,
                high,
                n,
                p.balanced_accuracy,
                p.nll,
                p.ece,
                score.validation,
                f"λ {p.lambda_:.1e}",
            )
        )
        top1 = score.knn_top1
        low, high = wilson(round(top1 * n), n)
        recall = balanced_accuracy(s.test_y, score.knn_predictions, n_classes=len(s.images.classes))
        rows.append(
            (
                score.model,
                score.label,
                score.width,
                "kNN",
                top1,
                low,
                high,
                n,
                recall,
                None,
                None,
                score.knn_validation,
                f"k {score.knn_k}",
            )
        )
    return Table(
        (
            "model",
            "layer",
            "features",
            "method",
            "accuracy",
            "low",
            "high",
            "n",
            "macro recall",
            "NLL",
            "ECE",
            "validation",
            "chosen",
        ),
        tuple(rows),
        title="Accuracy of every layer on the test images",
        note="low, high: 95 % Wilson interval. λ and k were chosen on validation images; the test images were used once. "
        "NLL in nats, ECE over 15 bins. Bold: what validation prefers.",
        bold={"validation": "max"},
    )


def _controls(s: Subject) -> Table:
    rows = []
    for c in s.scores:
        null, top1 = c.shuffled, float(c.probe.top1)
        of_null = (None, None, None) if null is None else (null.mean, null.point, null.p_value(top1))
        rows.append((c.model, c.label, top1, c.random, *of_null, s.majority))
    return Table(
        (
            "model",
            "layer",
            "probe",
            "random init",
            "shuffled labels",
            "shuffled, 95 % point",
            "permutation p",
            "most frequent class",
        ),
        tuple(rows),
        title="Controls: the same probe where there should be little or nothing to find",
        note=f"random init: the same architecture with random weights. shuffled labels: mean of {PERMUTATIONS} permutations of the training "
        "labels, at the penalty chosen for the true ones; a probe that does not exceed their 95 % point has found nothing that is surely "
        "there. permutation p: the share of permutations, the true labels counted among them, that reach the probe.",
    )


def _geometry(s: Subject) -> Table:
    rows = tuple((c.model, c.label, c.silhouette, c.scatter) for c in s.scores)
    return Table(
        ("model", "layer", "silhouette", "between / within scatter"),
        rows,
        title="How far apart the classes lie, without any training",
        note="Over the test images. Silhouette with cosine distance, from −1 to 1; scatter: trace ratio of between-class to within-class scatter.",
    )


def _knn(s: Subject) -> Table:
    ks = sorted({k for c in s.scores for k in c.knn})
    rows = tuple((c.model, c.label, *(c.knn.get(k) for k in ks), c.knn_k) for c in s.scores)
    return Table(
        ("model", "layer", *(f"k = {k}" for k in ks), "k by validation"),
        rows,
        title="kNN accuracy by number of neighbours",
        note="Exact, cosine, votes weighted exp(similarity / 0.07). The k that counts is the one chosen on validation.",
    )


def _classes(s: Subject) -> Table:
    from visus.measures.intervals import wilson

    best, y = s.best, s.test_y
    rows: list[tuple[Any, ...]] = []
    for index, name in enumerate(s.images.classes):
        mine = y == index
        n, hits = int(mine.sum()), int(np.sum(best.probe.predictions[mine] == index))
        low, high = wilson(hits, n) if n else (None, None)
        said = best.probe.predictions == index
        precision = float(np.mean(y[said] == index)) if said.any() else None
        rows.append((name, n, hits / n if n else None, low, high, precision))
    rows.sort(key=lambda row: (row[2] is None, row[2]))
    return Table(
        ("class", "n", "recall", "low", "high", "precision"),
        tuple(rows),
        title=f"Class by class, hardest first: {best.model}, {best.label}",
        note="Linear probe on the test images; low, high: 95 % Wilson interval of the recall.",
    )


def _confused(s: Subject) -> Table:
    names = s.images.classes
    rows = tuple((names[c.true], names[c.predicted], c.count, c.share) for c in confused(s))
    return Table(
        ("class", "taken for", "images", "share of the class"),
        rows,
        title=f"Most confused: {s.best.model}, {s.best.label}",
    )


def _images(s: Subject) -> Table:
    counts = {
        "train": np.bincount(s.y[s.splits.train], minlength=len(s.images.classes)),
        "test": np.bincount(s.test_y, minlength=len(s.images.classes)),
    }
    rows = [(name, int(counts["train"][i]), int(counts["test"][i])) for i, name in enumerate(s.images.classes)]
    rows.append(("all", int(counts["train"].sum()), int(counts["test"].sum())))
    held = [len(val) for _, val in s.splits.folds]
    how = (
        f"one validation part of {held[0]:,}"
        if len(held) == 1
        else f"{len(held)} validation folds of about {round(np.mean(held)):,}"
    )
    return Table(
        ("class", "train and validation", "test"),
        tuple(rows),
        title="The images",
        note=f"Choices were made on {how} images." + _no_repeats(s),
    )


def _no_repeats(s: Subject) -> str:
    if s.repeats is None or s.repeats.count:
        return ""
    return " No test image is, pixel for pixel, a training image."


def _cost(s: Subject, features: Sequence[Features]) -> Table:
    rows = []
    for b, f in zip(s.backbones, features, strict=True):
        cost: Mapping[str, Any] = f.cost
        rows.append(
            (
                b.spec,
                b.parameters,
                cost.get("engine"),
                cost.get("batch"),
                cost.get("seconds"),
                cost.get("images_per_second"),
                bool(cost.get("cached")),
            )
        )
    return Table(
        ("model", "parameters", "engine", "batch", "seconds", "images/s", "from the store"),
        tuple(rows),
        title="What the features cost",
        note="One pass over all images, decoding and writing included; from the store: computed by an earlier run, not again.",
        digits=1,
    )
