"""What every layer's heads do, as a table and as metrics."""

from __future__ import annotations

from visus.result import Column, Metric, Table, key_of
from visus.studies.vit.attention.measure import AttentionMeasures


def explained_key(model: str) -> str:
    """Of the share of the variation of distance that the head explains, over all layers."""
    return key_of(model, "heads", "distance-explained")


def metrics(m: AttentionMeasures) -> tuple[Metric, ...]:
    found = []
    for h in m.heads:
        label = f"variation of attention distance that the head explains, {h.model}"
        found.append(Metric(explained_key(h.model), h.explained, n=h.n, unit="share", label=label))
        for layer in h.layers:
            where = key_of(h.model, f"layer-{layer.layer}")
            found += [
                Metric(key_of(where, "entropy"), layer.entropy, n=h.n, unit="nats"),
                Metric(key_of(where, "distance"), layer.distance, n=h.n, unit="px"),
                Metric(key_of(where, "distance-explained"), layer.distance_explained, n=h.n, unit="share"),
                Metric(key_of(where, "entropy-explained"), layer.entropy_explained, n=h.n, unit="share"),
            ]
    return tuple(found)


def tables(m: AttentionMeasures) -> tuple[Table, ...]:
    rows = [
        (
            h.model, layer.layer, layer.entropy, layer.distance, layer.nearest, layer.farthest, layer.distance_explained, layer.p,
            layer.p_holm, layer.entropy_explained, layer.entropy_p_holm,
        )
        for h in m.heads
        for layer in h.layers
    ]  # fmt: skip
    return (
        Table(
            key="heads",
            title="What the heads do",
            columns=(
                Column("model", "model"),
                Column("layer", "layer"),
                Column("entropy", "entropy", "nats", digits=2),
                Column("distance", "distance", "px", digits=2),
                Column("nearest", "nearest head", "px", digits=2),
                Column("farthest", "farthest head", "px", digits=2),
                Column("distance_explained", "distance explained by head", "share", digits=2),
                Column("p", "p", digits=2),
                Column("p_holm", "Holm p", digits=2),
                Column("entropy_explained", "entropy explained by head", "share", digits=2),
                Column("entropy_p_holm", "Holm p of entropy", digits=2),
            ),
            rows=rows,
            note="distance: mean over patches of the distance of what they attend to (Dosovitskiy et al. 2021). explained "
            "by head: share of the variation of distance, or entropy, "
            "within a picture that the head explains (eta squared); p: head labels permuted within pictures, Holm's over layers.",
        ),
    )
