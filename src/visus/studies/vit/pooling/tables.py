"""Every probe with its controls, poolings in pairs, and accuracy without repeated images: tables and metrics."""

from __future__ import annotations

from visus.measures.probe_null import PERMUTATIONS
from visus.result import Column, Metric, Table, key_of
from visus.studies.common import repeated_images
from visus.studies.common.comparisons import Comparison, comparisons_table
from visus.studies.vit.pooling.measure import ModelPoolings, PoolingMeasures

AT_PROBE = (Column("model", "model"), Column("where", "where"), Column("pooling", "pooling"))


def pair_key(c: Comparison) -> str:
    """Of the difference of two poolings."""
    return key_of("pooling", c.a, "minus", c.b)


def metrics(m: PoolingMeasures) -> tuple[Metric, ...]:
    # CLS against the mean at the last layer goes ahead, as it stands in the result's headline.
    main = [p.main for p in m.models if p.main is not None]
    others = [c for p in m.models for c in p.pairs if c not in main]
    probes = (metric for p in m.models for metric in _probe_metrics(p, m.n))
    return (*(c.metric(pair_key(c), m.n) for c in main), *probes, *(c.metric(pair_key(c), m.n) for c in others))


def _probe_metrics(m: ModelPoolings, n: int) -> list[Metric]:
    found = []
    for p in m.probes:
        label = f"linear probe, {m.model}, {p.where}, {p.pooling}"
        found += [
            p.accuracy.metric(m.key(p, "accuracy"), label=label),
            Metric(m.key(p, "balanced-accuracy"), p.balanced_accuracy, n=n, unit="share", better="higher"),
            Metric(m.key(p, "nll"), p.nll, n=n, unit="nats", better="lower"),
            Metric(m.key(p, "ece"), p.ece, n=n, unit="share", better="lower"),
            Metric(m.key(p, "validation-accuracy"), p.validation, unit="share", better="higher", split="validation"),
        ]
    return found


def tables(m: PoolingMeasures) -> tuple[Table, ...]:
    found = [_probes(m)]
    if m.repeated.count:
        found.append(repeated_images.without_table(m.repeated, "pooling-without-repeats", AT_PROBE))
        found.append(repeated_images.pairs_table(m.repeated))
    pairs = [c for p in m.models for c in p.pairs]
    if pairs:
        found.append(
            comparisons_table("pooling-pairs", "Poolings compared, at the last layer and through depth", pairs)
        )
    return tuple(found)


def _probes(m: PoolingMeasures) -> Table:
    rows = [
        (
            model.model, p.where, p.pooling, p.width, p.accuracy.value, p.accuracy.low, p.accuracy.high, p.balanced_accuracy, p.nll, p.ece,
            p.validation, p.random, p.shuffled, p.shuffled_point, p.accuracy.n,
        )
        for model in m.models
        for p in model.probes
    ]  # fmt: skip
    return Table(
        key="pooling",
        title="Linear probes by pooling",
        columns=(
            *AT_PROBE,
            Column("width", "width"),
            Column("accuracy", "accuracy", "share", digits=2),
            Column("low", "low", "share", digits=2),
            Column("high", "high", "share", digits=2),
            Column("balanced_accuracy", "balanced accuracy", "share", digits=2),
            Column("nll", "NLL", "nats", digits=2),
            Column("ece", "ECE", "share", digits=2),
            Column("validation", "validation", "share", digits=2, better="higher"),
            Column("random", "random init", "share", digits=2),
            Column("shuffled", "shuffled labels", "share", digits=2),
            Column("shuffled_point", "shuffled, 95 % point", "share", digits=2),
            Column("n", "n"),
        ),
        rows=rows,
        note="Protocol P3: lambda by validation, one test. Registers and other prefix tokens are never averaged "
        "in. pre-logits: what the model's own head reads. Controls: the same probe on the network with random weights, and on shuffled "
        f"labels: the mean of {PERMUTATIONS} permutations and their 95 % point. Bold: what validation prefers.",
    )
