"""Which layer holds most: probe and kNN of every layer, layers and models in pairs, separability, CKA (P3 to P5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from visus.figures import AnyFigure, Group, Heatmap, Intervals, Lines, Reference, Series
from visus.formats import percent
from visus.measures.cka import FEWEST as FEWEST_CKA
from visus.measures.cka import cka_matrix
from visus.measures.confusion import balanced_accuracy
from visus.result import Column, Finding, Metric, Table, key_of
from visus.studies.common.comparisons import Comparison, compare, comparisons_table, family
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.proportion import ACCURACY, Proportion, of_value
from visus.studies.transfer.evaluation import LayerScore, LayerVectors, best_of

KEY, QUESTION = "layers", "How good are the frozen features, and at which layer?"
AT_LAYER = (Column("model", "model"), Column("layer", "layer"))


@dataclass(frozen=True)
class LayerRow:
    """One layer of one model. probe, knn, random: test accuracy (random: of the same probe on random weights); path: (λ, validation accuracy)
    along the path of penalties as far as it was walked; knn_by_k: test accuracy by number of neighbours; nll in nats; ece over 15 bins."""

    model: str
    layer: str
    width: int
    probe: Proportion
    balanced_accuracy: float
    nll: float
    ece: float
    validation: float
    penalty: float
    at_edge: bool
    path: tuple[tuple[float, ...], tuple[float, ...]]
    knn: Proportion
    knn_balanced_accuracy: float
    knn_k: int
    knn_validation: float
    knn_by_k: Mapping[int, float]
    random: Proportion | None
    silhouette: float
    scatter: float

    def key(self, *parts: str) -> str:
        """Of its metrics: model/layer/..."""
        return key_of(self.model, self.layer.split(" ")[0], *parts)


@dataclass(frozen=True)
class NextBest:
    """The layer of a model that validation prefers against the one that it puts next."""

    model: str
    best: str
    second: str
    comparison: Comparison


@dataclass(frozen=True)
class LayersMeasures:
    """rows: every layer of every model, in order of depth. best: the row that validation prefers. majority: test accuracy of always answering
    the most frequent training class. models, layers: paired comparisons. cka: of every two layers over the test images, or None."""

    rows: tuple[LayerRow, ...]
    best: int
    majority: float
    n: int
    models: tuple[Comparison, ...]
    layers: tuple[Comparison, ...]
    next_best: tuple[NextBest, ...]
    cka: tuple[tuple[float, ...], ...] | None
    one_of_each: bool

    @property
    def chosen(self) -> LayerRow:
        return self.rows[self.best]

    @property
    def several(self) -> bool:
        """Whether there is more than one model."""
        return len({r.model for r in self.rows}) > 1

    def name(self, row: LayerRow) -> str:
        """'late', or 'model · late' where there are several models."""
        return f"{row.model} · {row.layer}" if self.several else row.layer

    def of(self, model: str) -> list[LayerRow]:
        return [r for r in self.rows if r.model == model]


def measure(
    images: LabelledImages, scores: Sequence[LayerScore], features: LayerVectors, *, seed: int
) -> LayersMeasures:
    """From the scores of every layer to what is told of them. features: (model, tap) -> float32 [n, d]."""
    y, test = images.test_y, images.splits.test
    models = list(dict.fromkeys(s.model for s in scores))
    right = {(s.model, s.tap): s.probe.predictions == y for s in scores}

    def against(a: LayerScore, b: LayerScore) -> Comparison:
        names = (f"{a.model} · {a.label}", f"{b.model} · {b.label}")
        return compare(right[a.model, a.tap], right[b.model, b.tap], names=names, seed=seed)

    # A pair is resampled once, whoever tells of it.
    by_layer = {(a.model, a.tap, b.tap): against(a, b) for m in models for b, a in pairwise(_of(scores, m))}
    next_best = []
    for m in models:
        if len(_of(scores, m)) < 2:
            continue
        first = best_of(scores, m)
        second = best_of([s for s in scores if s is not first], m)
        known, turned = (by_layer.get((m, a.tap, b.tap)) for a, b in ((first, second), (second, first)))
        comparison = known or (turned.reversed() if turned else against(first, second))
        next_best.append(NextBest(m, first.label, second.label, comparison))
    cka = None
    if len(scores) > 1 and len(y) >= FEWEST_CKA:
        matrix = cka_matrix([features[s.model, s.tap][test] for s in scores])
        cka = tuple(tuple(map(float, row)) for row in matrix)
    counts = np.bincount(images.y[images.splits.train], minlength=len(images.classes))
    return LayersMeasures(
        rows=tuple(_row(s, y, len(images.classes)) for s in scores),
        best=list(scores).index(best_of(scores)),
        majority=float(np.mean(y == counts.argmax())),
        n=len(y),
        models=family([against(best_of(scores, a), best_of(scores, b)) for a, b in combinations(models, 2)]),
        layers=family(list(by_layer.values())),
        next_best=tuple(next_best),
        cka=cka,
        one_of_each=len(set(y.tolist())) == len(y),
    )


def _of(scores: Sequence[LayerScore], model: str) -> list[LayerScore]:
    return [s for s in scores if s.model == model]


def _row(s: LayerScore, y: np.ndarray, n_classes: int) -> LayerRow:
    p, n = s.probe, len(y)
    walked = np.isfinite(p.path_accuracy)
    return LayerRow(
        model=s.model,
        layer=s.label,
        width=s.width,
        probe=of_value(p.top1, n),
        balanced_accuracy=p.balanced_accuracy,
        nll=p.nll,
        ece=p.ece,
        validation=s.validation,
        penalty=p.lambda_,
        at_edge=p.at_edge,
        path=(tuple(map(float, p.lambdas[walked])), tuple(map(float, p.path_accuracy[walked]))),
        knn=of_value(s.knn_top1, n),
        knn_balanced_accuracy=balanced_accuracy(y, s.knn_predictions, n_classes=n_classes),
        knn_k=s.knn_k,
        knn_validation=s.knn_validation,
        knn_by_k=dict(s.knn),
        random=None if s.random is None else of_value(s.random, n),
        silhouette=s.silhouette,
        scatter=s.scatter,
    )


def metrics(m: LayersMeasures) -> tuple[Metric, ...]:
    found = []
    for r in m.rows:
        where = f"{r.model}, {r.layer}"
        found.append(r.probe.metric(r.key("probe", "accuracy"), label=f"linear probe, {where}"))
        found.append(r.knn.metric(r.key("knn", "accuracy"), label=f"kNN, {where}"))
        found += [
            Metric(r.key("probe", "balanced-accuracy"), r.balanced_accuracy, n=m.n, unit="share", better="higher"),
            Metric(r.key("probe", "nll"), r.nll, n=m.n, unit="nats", better="lower"),
            Metric(r.key("probe", "ece"), r.ece, n=m.n, better="lower"),
            Metric(
                r.key("probe", "validation-accuracy"), r.validation, unit="share", better="higher", split="validation"
            ),
            Metric(r.key("silhouette"), r.silhouette, n=m.n, better="higher"),
            Metric(r.key("scatter-ratio"), r.scatter, n=m.n, better="higher"),
        ]
    found.append(Metric("majority/accuracy", m.majority, n=m.n, unit="share", label="most frequent class"))
    found += [c.metric(key_of("probe", c.a, "minus", c.b), m.n) for c in m.models]
    return tuple(found)


def tables(m: LayersMeasures) -> tuple[Table, ...]:
    found = [_accuracy(m)]
    if m.models:
        found.append(
            comparisons_table("models-compared", "Models, each at the layer that validation prefers", m.models)
        )
    if m.layers:
        found.append(comparisons_table("layers-compared", "Neighbouring layers of each model", m.layers))
    return (*found, _geometry(m), _knn(m))


def _accuracy(m: LayersMeasures) -> Table:
    columns = (
        *AT_LAYER,
        Column("features", "features"),
        Column("method", "method"),
        *ACCURACY,
        Column("balanced_accuracy", "balanced accuracy", "share"),
        Column("nll", "NLL"),
        Column("ece", "ECE"),
        Column("validation", "validation", "share", better="higher"),
        Column("chosen", "chosen"),
    )
    rows: list[tuple[object, ...]] = []
    for r in m.rows:
        for method, p, balanced, quality, validation, chosen in (
            ("linear probe", r.probe, r.balanced_accuracy, (r.nll, r.ece), r.validation, f"λ {r.penalty:.1e}"),
            ("kNN", r.knn, r.knn_balanced_accuracy, (None, None), r.knn_validation, f"k {r.knn_k}"),
        ):
            rows.append((r.model, r.layer, r.width, method, *p.cells, balanced, *quality, validation, chosen))
    return Table(
        key="accuracy",
        title="Accuracy of every layer on the test images",
        columns=columns,
        rows=rows,
        note="low, high: 95 % Wilson interval. λ and k were chosen on validation images; the test images were used once. "
        "NLL in nats, ECE over 15 bins. Bold: what validation prefers.",
    )


def _geometry(m: LayersMeasures) -> Table:
    return Table(
        key="geometry",
        title="How far apart the classes lie, without any training",
        columns=(*AT_LAYER, Column("silhouette", "silhouette"), Column("scatter", "between / within scatter")),
        rows=[(r.model, r.layer, r.silhouette, r.scatter) for r in m.rows],
        note="Over the test images. Silhouette with cosine distance, from −1 to 1; scatter: trace ratio of between-class to within-class scatter.",
    )


def _knn(m: LayersMeasures) -> Table:
    ks = sorted({k for r in m.rows for k in r.knn_by_k})
    return Table(
        key="knn",
        title="kNN accuracy by number of neighbours",
        columns=(*AT_LAYER, *(Column(f"k_{k}", f"k = {k}", "share") for k in ks), Column("k", "k by validation")),
        rows=[(r.model, r.layer, *(r.knn_by_k.get(k) for k in ks), r.knn_k) for r in m.rows],
        note="Exact, cosine, votes weighted exp(similarity / 0.07). The k that counts is the one chosen on validation.",
    )


def figures(m: LayersMeasures) -> tuple[AnyFigure, ...]:
    path = Lines(
        key="path",
        title="How the penalty was chosen",
        caption="Validation accuracy of the probe along the path of penalties, rough where it could not be the best; the top of each curve was "
        "refitted and tested.",
        x_label="penalty λ",
        y_label="validation accuracy",
        unit="share",
        x_log=True,
        series=tuple(Series(name=m.name(r), x=r.path[0], y=r.path[1]) for r in m.rows),
    )
    return (_intervals(m), path) if m.cka is None else (_intervals(m), _cka(m, m.cka), path)


def _intervals(m: LayersMeasures) -> Intervals:
    groups = []
    for model in dict.fromkeys(r.model for r in m.rows):
        layers = m.of(model)
        by_method = {"probe": [r.probe for r in layers], "kNN": [r.knn for r in layers]}
        random = [r.random for r in layers if r.random is not None]
        if len(random) == len(layers):
            by_method["probe, random weights"] = random
        for method, values in by_method.items():
            groups.append(
                Group(
                    name=f"{model} · {method}" if m.several else method,
                    labels=[r.layer for r in layers],
                    values=[p.value for p in values],
                    low=[p.low for p in values],
                    high=[p.high for p in values],
                )
            )
    return Intervals(
        key="accuracy",
        title=QUESTION,
        caption=f"Accuracy on {m.n:,} test images by layer, with 95 % intervals.",
        x_label="layer, from the input to the output",
        y_label="test accuracy",
        unit="share",
        groups=tuple(groups),
        reference=(Reference("most frequent class", m.majority),),
    )


def _cka(m: LayersMeasures, values: Sequence[Sequence[float]]) -> Heatmap:
    names = [m.name(r) for r in m.rows]
    return Heatmap(
        key="cka",
        title="How alike are the layers?",
        caption="Linear CKA (unbiased) between layers over the test images: 1 is the same up to rotation and scale, 0 is unrelated.",
        values=values,
        rows=names,
        columns=names,
        label="linear CKA",
        low=0.0,
        high=1.0,
    )


def findings(m: LayersMeasures) -> tuple[Finding, ...]:
    best = m.chosen
    key = best.key("probe", "accuracy")
    said = [
        Finding(
            f"A linear probe on the {best.layer} features of {best.model} is right on {best.probe.text()}.",
            (key,),
            ("accuracy",),
        )
    ]
    for c in m.next_best:
        text = f"{c.model}: validation prefers {c.best} to {c.second}; on test it leads by {c.comparison.text()}"
        shows = ("layers-compared",)
        said.append(Finding(text + (": undecided." if c.comparison.undecided else "."), (), shows, c.comparison.kind))
    said += [_models(c) for c in m.models]
    knn, gap = best.key("knn", "accuracy"), 100 * (best.probe.value - best.knn.value)
    text = f"Without any training, the {best.knn_k} nearest neighbours in the same features give {percent(best.knn.value)}; "
    said.append(Finding(f"{text}fitting a probe changes that by {gap:+.1f} points.", (key, knn), ("accuracy",)))
    return (*said, *_cautions(m))


def _models(c: Comparison) -> Finding:
    if c.undecided:
        text = f"Which of {c.a} and {c.b} is better is undecided on these images: {c.text()}."
    else:
        text = f"{c.ahead.a} beats {c.ahead.b}: {c.ahead.text()}."
    return Finding(text, (key_of("probe", c.a, "minus", c.b),), ("models-compared",), c.kind)


def _cautions(m: LayersMeasures) -> list[Finding]:
    said = [
        f"{r.model}, {r.layer}: validation chose the λ at the edge of the path ({r.penalty:.1e}); a better one may lie beyond."
        for r in m.rows
        if r.at_edge
    ]
    if len(m.rows) > 1 and m.cka is None:
        said.append(f"Layers are not compared by CKA, which needs {FEWEST_CKA} test images; there are {m.n}.")
    if m.one_of_each:
        said.append("No silhouette: it needs two test images of a class, and every one is of another.")
    return [Finding(text, kind="caution") for text in said]


def answer(m: LayersMeasures) -> str:
    """The study's one sentence, where nothing is trained."""
    best = m.chosen
    return f"A linear probe on the {best.layer} features of {best.model} names {percent(best.probe.value)} of {m.n:,} test images."
