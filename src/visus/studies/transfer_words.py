"""What the transfer study says: tables, findings made from their numbers, warnings, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from visus.result import Table
from visus.studies.common import interval_text, percent, quarantine_table

if TYPE_CHECKING:
    from visus.features import Features
    from visus.images import ImageSet, Splits
    from visus.measures.confusion import ConfusedPair
    from visus.models import Backbone
    from visus.studies.layers import LayerScore

CONFUSED_SHOWN = 8


@dataclass(frozen=True)
class Subject:
    """All that was measured: the kept pictures (positions in the ImageSet), their labels, the split among them, every score."""

    images: ImageSet
    splits: Splits
    kept: np.ndarray
    y: np.ndarray
    backbones: tuple[Backbone, ...]
    scores: tuple[LayerScore, ...]

    @property
    def test_y(self) -> np.ndarray:
        found: np.ndarray = self.y[self.splits.test]
        return found

    def of(self, spec: str) -> list[LayerScore]:
        """The scores of one model, in order of depth."""
        return [s for s in self.scores if s.model == spec]

    def best_layer(self, spec: str) -> LayerScore:
        """The layer that validation prefers (test has no say in it)."""
        return max(self.of(spec), key=lambda s: s.validation)

    @property
    def best(self) -> LayerScore:
        """The model and layer that validation prefers."""
        return max(self.scores, key=lambda s: s.validation)

    @property
    def majority(self) -> float:
        """Test accuracy of always answering the most frequent training class."""
        counts = np.bincount(self.y[self.splits.train], minlength=len(self.images.classes))
        return float(np.mean(self.test_y == counts.argmax()))

    @property
    def most_by_luck(self) -> float:
        """The most that answers made without looking can reach: the share of the largest class of the test images."""
        return float(np.bincount(self.test_y).max() / len(self.test_y))


def title(s: Subject) -> str:
    """One line for the head of the page."""
    models = ", ".join(b.spec for b in s.backbones)
    return f"What {models} {'knows' if len(s.backbones) == 1 else 'know'} about {s.images.name}"


def tables(s: Subject, features: Sequence[Features], *, seed: int) -> dict[str, Table]:
    """Every table of the study, in reading order."""
    found = {"accuracy": _accuracy(s)}
    if any(score.shuffled is not None for score in s.scores):
        found["controls"] = _controls(s)
    if len(s.backbones) > 1:
        found["models compared"] = _table_of_pairs(
            model_pairs(s, seed=seed), "Models, each at the layer that validation prefers"
        )
    if len(s.scores) > len(s.backbones):
        found["layers compared"] = _table_of_pairs(layer_pairs(s, seed=seed), "Neighbouring layers of each model")
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


def _accuracy(s: Subject) -> Table:
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
                p.macro_recall,
                p.nll,
                p.ece,
                score.validation,
                f"λ {p.lambda_:.1e}",
            )
        )
        top1 = float(score.knn_correct.mean())
        low, high = wilson(round(top1 * n), n)
        recall = macro_recall_of(score.knn_correct, s.test_y)
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
                None,
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
        "NLL in nats, ECE over 15 bins.",
        bold={"accuracy": "max", "macro recall": "max"},
    )


def macro_recall_of(correct: np.ndarray, y: np.ndarray) -> float:
    """Mean over the classes present in y of the share of correct answers."""
    counts = np.bincount(y)
    hits = np.bincount(y, weights=correct)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))


def _controls(s: Subject) -> Table:
    rows = tuple((c.model, c.label, float(c.probe.top1), c.random, c.shuffled, s.majority) for c in s.scores)
    return Table(
        ("model", "layer", "probe", "random init", "shuffled labels", "most frequent class"),
        rows,
        title="Controls: the same probe where there should be little or nothing to find",
        note="random init: the same architecture with random weights. shuffled labels: training labels permuted; far above the "
        "most frequent class it would mean a leak.",
    )


@dataclass(frozen=True)
class Pair:
    """A paired comparison on the same test images: accuracy of a minus accuracy of b."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float


def _pair(a: LayerScore, b: LayerScore, y: np.ndarray, *, names: tuple[str, str], seed: int) -> Pair:
    from visus.measures.compare import mcnemar, paired_bootstrap

    right_a, right_b = a.probe.predictions == y, b.probe.predictions == y
    boot = paired_bootstrap(right_a, right_b, seed=seed)
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    return Pair(*names, boot.difference, boot.low, boot.high, only_a, only_b, mcnemar(right_a, right_b).p_value)


def model_pairs(s: Subject, *, seed: int) -> list[Pair]:
    """Every pair of models, each at its best layer by validation."""
    best = [s.best_layer(b.spec) for b in s.backbones]
    return [
        _pair(a, b, s.test_y, names=(f"{a.model} · {a.label}", f"{b.model} · {b.label}"), seed=seed)
        for a, b in combinations(best, 2)
    ]


def layer_pairs(s: Subject, *, seed: int) -> list[Pair]:
    """Each layer of a model against the one before it."""
    found = []
    for b in s.backbones:
        layers = s.of(b.spec)
        for before, after in pairwise(layers):
            names = (f"{b.spec} · {after.label}", f"{b.spec} · {before.label}")
            found.append(_pair(after, before, s.test_y, names=names, seed=seed))
    return found


def _table_of_pairs(pairs: Sequence[Pair], heading: str) -> Table:
    from visus.measures.compare import holm

    corrected = holm(np.array([p.p for p in pairs]))
    rows = tuple(
        (p.a, p.b, 100 * p.difference, 100 * p.low, 100 * p.high, p.only_a, p.only_b, p.p, float(h))
        for p, h in zip(pairs, corrected, strict=True)
    )
    return Table(
        ("A", "B", "A − B, points", "low", "high", "only A right", "only B right", "McNemar p", "Holm p"),
        rows,
        title=heading,
        note="Linear probes on the same test images. low, high: 95 % paired bootstrap interval over images, 10,000 resamples. "
        "McNemar: exact; Holm: corrected for the number of rows.",
    )


def _geometry(s: Subject) -> Table:
    rows = tuple((c.model, c.label, c.silhouette, c.scatter) for c in s.scores)
    return Table(
        ("model", "layer", "silhouette", "between / within scatter"),
        rows,
        title="How far apart the classes lie, without any training",
        note="Over the test images. Silhouette with cosine distance, from −1 to 1; scatter: trace ratio of between-class to within-class scatter.",
        bold={"silhouette": "max", "between / within scatter": "max"},
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


def confused(s: Subject, examples: int = 4) -> list[ConfusedPair]:
    """The most confused pairs of classes of the best layer, with positions of example test images, surest first."""
    from visus.measures.confusion import confused_pairs

    probe = s.best.probe
    sure = probe.probabilities.max(axis=1)
    return confused_pairs(
        s.test_y,
        probe.predictions,
        n_classes=len(s.images.classes),
        top=CONFUSED_SHOWN,
        examples=examples,
        score=sure,
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
        note=f"Choices were made on {how} images.",
    )


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


def findings(s: Subject, *, seed: int) -> tuple[str, ...]:
    """Sentences made from the numbers, the most important first."""
    from visus.measures.intervals import wilson

    n, said = len(s.test_y), []
    best = s.best
    low, high = wilson(round(best.probe.top1 * n), n)
    against = f"{percent(s.majority)} for always answering the most frequent class"
    if best.random is not None:
        against += f" and {percent(best.random)} for the same network with random weights"
    said.append(
        f"A linear probe on the {best.label} features of {best.model} is right on {percent(best.probe.top1)} of {n:,} test images "
        f"({interval_text(low, high)}), against {against}."
    )
    for b in s.backbones:
        said += _depth(s, b, seed=seed)
    if len(s.backbones) > 1:
        said += [_sentence(p) for p in model_pairs(s, seed=seed)]
    top1 = float(best.knn_correct.mean())
    said.append(
        f"Without any training, the {best.knn_k} nearest neighbours in the same features give {percent(top1)}; "
        f"the probe's labels buy {100 * (best.probe.top1 - top1):+.1f} points."
    )
    pairs = confused(s)
    if pairs:
        c, names = pairs[0], s.images.classes
        said.append(
            f"Its most frequent mistake takes {names[c.true]} for {names[c.predicted]}: {c.count} of {round(c.count / c.share)} images."
        )
    recalls = [(r, s.images.classes[i]) for i, r in enumerate(best.probe.per_class_recall) if np.isfinite(r)]
    (worst, worst_name), (top, top_name) = min(recalls), max(recalls)
    said.append(
        f"The easiest class is {top_name} (recall {percent(top)}), the hardest {worst_name} ({percent(worst)})."
    )
    return tuple(said)


def _depth(s: Subject, b: Backbone, *, seed: int) -> list[str]:
    layers = s.of(b.spec)
    if len(layers) < 2:
        return []
    path = ", ".join(f"{c.label} {percent(c.probe.top1)}" for c in layers)
    chosen = s.best_layer(b.spec)
    tail = f"validation prefers {chosen.label}"
    if chosen is not layers[-1]:
        pair = _pair(chosen, layers[-1], s.test_y, names=("", ""), seed=seed)
        clear = "a clear" if pair.low > 0 else "no clear"
        tail += f", {clear} gain over the last layer ({100 * pair.difference:+.1f} points, {100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    return [f"Through the depth of {b.spec} the probe's accuracy goes {path}; {tail}."]


def _sentence(p: Pair) -> str:
    span = f"{100 * p.low:+.1f} to {100 * p.high:+.1f} points, McNemar p = {p.p:.2g}"
    if p.low <= 0 <= p.high:
        return f"{p.a} and {p.b} cannot be told apart on these images ({span})."
    first, second, gap = (p.a, p.b, p.difference) if p.difference > 0 else (p.b, p.a, -p.difference)
    return f"{first} beats {second} by {100 * gap:.1f} points ({span} for the first named in the table)."


def warnings(s: Subject, *, twins: Sequence[bool], controls: bool) -> tuple[str, ...]:
    """What a reader must know before trusting a number."""
    from visus.measures.intervals import wilson

    said, n = [], len(s.test_y)
    for c in s.scores:
        if c.probe.at_edge:
            said.append(
                f"{c.model}, {c.label}: validation chose the λ at the edge of the path ({c.probe.lambda_:.1e}); a better one may lie beyond."
            )
        if c.shuffled is not None and wilson(round(c.shuffled * n), n)[0] > s.most_by_luck:
            said.append(
                f"{c.model}, {c.label}: the probe on shuffled labels reaches {percent(c.shuffled)}, more than chance; look for a leak."
            )
    for b, has_twin in zip(s.backbones, twins, strict=True):
        if controls and not has_twin and not b.random:
            said.append(
                f"{b.spec}: no random-init control, since its architecture could not be built without its weights."
            )
    if n < 200:
        said.append(f"Only {n} test images: intervals are wide, and differences of a few points mean nothing.")
    missing = sorted(set(range(len(s.images.classes))) - set(s.test_y.tolist()))
    if missing:
        said.append(
            f"No test image of: {', '.join(s.images.classes[i] for i in missing[:10])}; their recall is unknown."
        )
    return tuple(said)


def provenance(s: Subject, *, seed: int, protocol: str, pool: str) -> dict[str, Any]:
    """Specs, fingerprints, split sizes and settings."""
    return {
        "images": s.images.name,
        "images fingerprint": s.images.fingerprint,
        "models": {b.spec: b.fingerprint for b in s.backbones},
        "split": {
            "train and validation": len(s.splits.train),
            "validation": [len(val) for _, val in s.splits.folds],
            "test": len(s.splits.test),
        },
        "protocol": protocol,
        "pool": pool,
        "seed": seed,
    }
