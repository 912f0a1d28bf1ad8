"""CLS or mean? Linear probes on the ways to make one vector of a ViT's tokens, at the last layer and through depth (P3, P9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from visus.measures.probe_null import PERMUTATIONS
from visus.studies.common import repeated
from visus.studies.common.pairs import Pair, compare_right, table_of_pairs
from visus.studies.common.schema1 import Figure, Table
from visus.studies.common.sections import Part
from visus.studies.common.shared import null_warnings, percent

if TYPE_CHECKING:
    from visus.features import Features
    from visus.images import ImageSet
    from visus.measures.probe import ProbeResult
    from visus.measures.probe_null import PermutationNull
    from visus.measures.repeats import Repeats
    from visus.models import Backbone
    from visus.studies.vit.subject import EvaluatedModel

DEPTHS = 4
ORDER = ("CLS", "mean", "CLS + mean", "pre-logits")


@dataclass(frozen=True)
class Pooled:
    """One probe: of which model, at which layer (1-based; 0: behind the pooling head), by which pooling; test accuracy of its controls, the
    same probe on permuted labels and on the network with random weights (None: not run, or no such network)."""

    model: str
    layer: int
    pooling: str
    width: int
    probe: ProbeResult
    shuffled: PermutationNull | None = None
    random: float | None = None


@dataclass(frozen=True)
class Repeated:
    """Which test pictures are training pictures too, with the names, labels and classes of all that were probed. test: int64 rows."""

    repeats: Repeats
    ids: tuple[str, ...]
    test: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]


def pool(
    viewer: EvaluatedModel, imageset: ImageSet, *, controls: bool, device: str, seed: int
) -> tuple[list[Pooled], np.ndarray, Repeated]:
    """Probes of one vision transformer, the labels of the test pictures, and which of these are training pictures too; controls: beside
    every probe.

    Without a CLS token only mean and pre-logits are there. Prefix tokens are never averaged in.
    """
    from visus.errors import VisusError
    from visus.measures.probe import linear_probe
    from visus.measures.probe_null import ProbeSetting, permutation_null
    from visus.measures.repeats import repeats
    from visus.progress import log, task
    from visus.studies.common.shared import labels_of, pixels_of, random_control
    from visus.studies.common.valid import valid_indices

    assert viewer.layout is not None
    y, backbone = labels_of(imageset), viewer.backbone
    count = len(viewer.layout.blocks)
    chosen = sorted({max(round(count * k / DEPTHS), 1) for k in range(1, DEPTHS + 1)})
    layers = {k: viewer.layout.blocks[k - 1] for k in chosen}
    found = _extracted(backbone, imageset, layers, flat=viewer.flat, device=device)
    twin = None
    if controls and not backbone.random:
        try:
            twin = _extracted(random_control(viewer.spec, seed=seed), imageset, layers, flat=viewer.flat, device=device)
        except VisusError as error:
            log(f"no random-init control for {viewer.spec}: {error}")
    kept, splits = valid_indices(imageset.split(seed=seed), [*found, *(twin or [])], len(imageset))
    y = y[kept]
    vectors = _vectors(found, backbone, layers, kept)
    of_twin = _vectors(twin, backbone, layers, kept) if twin else {}

    def fitted(x: np.ndarray) -> ProbeResult:
        return linear_probe(
            x,
            y,
            folds=splits.folds,
            train=splits.train,
            test=splits.test,
            n_classes=len(imageset.classes),
            device=device,
        )

    probes = []
    with task(f"probing poolings of {viewer.spec}", len(vectors)) as progress:
        for (layer, pooling), x in vectors.items():
            probe, shuffled = fitted(x), None
            if controls:
                shuffled = permutation_null(
                    x,
                    y,
                    train=splits.train,
                    test=splits.test,
                    setting=ProbeSetting(len(imageset.classes), probe.lambda_),
                    device=device,
                    seed=seed,
                )
            random = fitted(of_twin[layer, pooling]).top1 if of_twin else None
            probes.append(Pooled(viewer.spec, layer, pooling, x.shape[1], probe, shuffled, random))
            progress.advance()
    twice = repeats(pixels_of(found[0], kept), y, splits.train, splits.test, splits.folds)
    return (
        probes,
        y[splits.test],
        Repeated(twice, tuple(imageset.ids[i] for i in kept), splits.test, y, imageset.classes),
    )


def _extracted(
    backbone: Backbone, imageset: ImageSet, layers: Mapping[int, str], *, flat: bool, device: str
) -> list[Features]:
    """Features by the mean of the patch tokens (and pre-logits), and where there is a CLS token by it."""
    from visus.features import extract

    names = _names(backbone, layers)
    found = [extract(imageset, backbone, [*names.values(), backbone.aliases["late"]], pool="mean", device=device)]
    return found if flat else [*found, extract(imageset, backbone, list(names.values()), pool="cls", device=device)]


def _names(backbone: Backbone, layers: Mapping[int, str]) -> dict[int, str]:
    by_path = {tap.module: tap.name for tap in backbone.taps}
    return {layer: by_path[path] for layer, path in layers.items()}


def _vectors(
    found: Sequence[Features], backbone: Backbone, layers: Mapping[int, str], kept: np.ndarray
) -> dict[tuple[int, str], np.ndarray]:
    """float32 [n, d] by (layer, pooling), of the pictures at positions `kept`."""
    from visus.studies.common.shared import rows_of

    vectors: dict[tuple[int, str], np.ndarray] = {}
    for layer, name in _names(backbone, layers).items():
        average = rows_of(found[0], name, kept)
        if len(found) > 1:
            token = rows_of(found[1], name, kept)
            vectors[layer, "CLS"] = token
            vectors[layer, "CLS + mean"] = np.concatenate([token, average], axis=1)
        vectors[layer, "mean"] = average
    vectors[0, "pre-logits"] = rows_of(found[0], backbone.aliases["late"], kept)
    return vectors


def part(found: Sequence[tuple[Sequence[Pooled], np.ndarray, Repeated]], *, seed: int) -> Part:
    """A table of probes with their controls, paired differences at every depth, curves through depth, and which wins by how much."""
    from visus.measures import wilson

    rows, pairs, said, figures, warnings = [], [], [], [], []
    for k, (probes, y, _) in enumerate(found):
        model = probes[0].model
        last = max(p.layer for p in probes)
        series = []
        for pooling in ORDER:
            own = [p for p in probes if p.pooling == pooling]
            for p in own:
                hits = int((p.probe.predictions == y).sum())
                low, high = wilson(hits, len(y))
                where = _where(p)
                rows.append(
                    (
                        model, where, pooling, p.width, 100 * p.probe.top1, 100 * low, 100 * high, 100 * p.probe.balanced_accuracy,
                        p.probe.nll, 100 * p.probe.ece, 100 * p.probe.validation_accuracy,
                        *(None if c is None else 100 * c for c in (p.random, *_of_null(p))), len(y),
                    )
                )  # fmt: skip
            deep = [p for p in own if p.layer]
            if deep:
                bounds = [wilson(int((p.probe.predictions == y).sum()), len(y)) for p in deep]
                series.append(
                    {
                        "name": pooling,
                        "x": [float(p.layer) for p in deep],
                        "y": [100 * p.probe.top1 for p in deep],
                        "low": [100 * low for low, _ in bounds],
                        "high": [100 * high for _, high in bounds],
                    }
                )
        figures.append(
            Figure(
                f"pooling_{k}",
                "lines",
                f"CLS or mean, through the depth of {model}",
                "Test accuracy of a linear probe by layer and pooling. Bands: 95 % Wilson intervals.",
                {"x_label": "layer", "y_label": "accuracy, %", "x_log": False, "y_log": False, "series": series},
            )
        )
        ends = {p.pooling: p for p in probes if p.layer in (0, last)}
        own_pairs = _pairs(ends, y, model, seed)
        for layer in sorted({p.layer for p in probes} - {0, last}, reverse=True):
            own_pairs += _pairs({p.pooling: p for p in probes if p.layer == layer}, y, f"{model}, layer {layer}", seed)
        pairs += own_pairs
        said.append(_sentence(model, ends, own_pairs))
        warnings += _warned(probes, y)
    tables = {
        "pooling": Table(
            (
                "model",
                "where",
                "pooling",
                "width",
                "accuracy, %",
                "low",
                "high",
                "macro recall, %",
                "NLL",
                "ECE, %",
                "validation, %",
                "random init, %",
                "shuffled labels, %",
                "shuffled, 95 % point, %",
                "n",
            ),
            tuple(rows),
            title="Linear probes by pooling",
            digits=2,
            note="Protocol P3: lambda by validation, one test. Registers and other prefix tokens are never averaged "
            "in. pre-logits: what the model's own head reads. Controls: the same probe on the network with random weights, and on shuffled "
            f"labels: the mean of {PERMUTATIONS} permutations and their 95 % point. Bold: what validation prefers.",
            bold={"validation, %": "max"},
        )
    }
    twice = found[0][2]  # of the same pictures and split for every model
    if twice.repeats.count:
        without = [
            repeated.Answered((p.model, _where(p), p.pooling), p.probe.predictions == y)
            for probes, y, _ in found
            for p in probes
        ]
        tables["pooling without repeats"] = repeated.accuracy_without(
            twice.repeats, ("model", "where", "pooling"), without
        )
        tables["repeated images"] = repeated.listed(twice.repeats, twice.ids, twice.test, twice.y, twice.classes)
    warnings += repeated.warnings(twice.repeats, twice.ids, twice.test)
    if pairs:
        tables["pooling pairs"] = table_of_pairs(
            pairs, "Poolings compared, at the last layer and through depth", what="Linear probes"
        )
    return Part(tuple(said), tables, tuple(figures), {}, tuple(warnings))


def _where(p: Pooled) -> str:
    return f"layer {p.layer}" if p.layer else "behind the pooling"


def _of_null(p: Pooled) -> tuple[float | None, float | None]:
    return (None, None) if p.shuffled is None else (p.shuffled.mean, p.shuffled.point)


def _pairs(by_pooling: Mapping[str, Pooled], y: np.ndarray, where: str, seed: int) -> list[Pair]:
    """Every two poolings by which test pictures they get right."""
    return [
        compare_right(
            by_pooling[a].probe.predictions == y,
            by_pooling[b].probe.predictions == y,
            names=(f"{where} · {a}", f"{where} · {b}"),
            seed=seed,
        )
        for a, b in combinations([o for o in ORDER if o in by_pooling], 2)
    ]


def _warned(probes: Sequence[Pooled], y: np.ndarray) -> list[str]:
    """What a reader must know before trusting a probe: a lambda at the edge, shuffled labels that can be told, no random twin."""
    said = []
    most = float(np.bincount(y).max()) / len(y)
    if any(p.shuffled is not None and p.random is None for p in probes):
        said.append(
            f"{probes[0].model}: no random-init control; it has random weights itself, or cannot be built without its own."
        )
    for p in probes:
        if p.probe.at_edge:
            said.append(
                f"{_named(p)}: validation chose the λ at the edge of the path ({p.probe.lambda_:.1e}); a better one may lie beyond."
            )
    return said + null_warnings([(_named(p), p.shuffled, p.probe.top1) for p in probes], most)


def _named(p: Pooled) -> str:
    return f"{p.model}, {_where(p)}, {p.pooling}"


def _sentence(model: str, ends: dict[str, Pooled], pairs: Sequence[Pair]) -> str:
    """Which of CLS and mean wins at the last layer, by how much, and whether that is more than chance."""
    if "CLS" not in ends:
        return f"{model} has no CLS token: a probe on the mean of its patch tokens is right on {percent(ends['mean'].probe.top1)}."
    pair = next(p for p in pairs if p.a.endswith("· CLS") and p.b.endswith("· mean"))
    best = max(ends.values(), key=lambda p: p.probe.validation_accuracy)
    chosen = f"validation prefers {best.pooling}, with {percent(best.probe.top1)} on test"
    mean, n = "the mean of the patch tokens", len(ends["CLS"].probe.predictions)
    if pair.low <= 0 <= pair.high:
        span = f"{100 * pair.difference:+.1f} points, 95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f}, n = {n:,}"
        return f"At the last layer of {model} it is undecided whether CLS or {mean} holds more (CLS minus mean {span}); {chosen}."
    better, worse = ("CLS", mean) if pair.difference > 0 else (mean, "CLS")
    low, high = sorted((abs(pair.low), abs(pair.high)))
    return (
        f"At the last layer of {model} {better} beats {worse} by {100 * abs(pair.difference):.1f} points "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {n:,}); {chosen}."
    )
