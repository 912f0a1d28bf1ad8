"""CLS or mean? Linear probes on the ways to make one vector of a ViT's tokens, at the last layer and through depth (P3, P9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from visus.result import Figure, Table
from visus.studies.common import percent
from visus.studies.pairs import Pair, compare_right, table_of_pairs
from visus.studies.parts import Part

if TYPE_CHECKING:
    from visus.images import ImageSet
    from visus.measures.probe import ProbeResult
    from visus.studies.vit_subject import Viewer

DEPTHS = 4
ORDER = ("CLS", "mean", "CLS + mean", "pre-logits")


@dataclass(frozen=True)
class Pooled:
    """One probe: of which model, at which layer (1-based; 0: behind the pooling head), by which pooling."""

    model: str
    layer: int
    pooling: str
    width: int
    probe: ProbeResult


def pool(viewer: Viewer, imageset: ImageSet, *, device: str, seed: int) -> tuple[list[Pooled], np.ndarray]:
    """Probes of one vision transformer, and the labels of the test pictures.

    Without a CLS token only mean and pre-logits are there. Prefix tokens are never averaged in.
    """
    from visus.features.extract import extract
    from visus.measures.probe import linear_probe
    from visus.progress import task
    from visus.studies.common import labels_of, rows_of
    from visus.studies.transfer import common_ground

    assert viewer.anatomy is not None
    y, backbone = labels_of(imageset), viewer.backbone
    count = len(viewer.anatomy.blocks)
    chosen = sorted({max(round(count * k / DEPTHS), 1) for k in range(1, DEPTHS + 1)})
    by_path = {tap.module: tap.name for tap in backbone.taps}
    names = [by_path[viewer.anatomy.blocks[k - 1]] for k in chosen]
    late = backbone.aliases["late"]
    mean = extract(imageset, backbone, [*names, late], pool="mean", device=device)
    cls = None if viewer.flat else extract(imageset, backbone, names, pool="cls", device=device)
    kept, splits = common_ground(imageset.split(seed=seed), [f for f in (mean, cls) if f is not None], len(imageset))
    y = y[kept]
    vectors: list[tuple[int, str, np.ndarray]] = []
    for layer, name in zip(chosen, names, strict=True):
        average = rows_of(mean, name, kept)
        if cls is not None:
            token = rows_of(cls, name, kept)
            vectors += [(layer, "CLS", token), (layer, "CLS + mean", np.concatenate([token, average], axis=1))]
        vectors.append((layer, "mean", average))
    vectors.append((0, "pre-logits", rows_of(mean, late, kept)))
    found = []
    with task(f"probing poolings of {viewer.spec}", len(vectors)) as progress:
        for layer, pooling, x in vectors:
            probe = linear_probe(
                x,
                y,
                folds=splits.folds,
                train=splits.train,
                test=splits.test,
                n_classes=len(imageset.classes),
                device=device,
                seed=seed,
            )
            found.append(Pooled(viewer.spec, layer, pooling, x.shape[1], probe))
            progress.advance()
    return found, y[splits.test]


def part(found: Sequence[tuple[Sequence[Pooled], np.ndarray]], *, seed: int) -> Part:
    """A table of probes, paired differences at the last layer, curves through depth, and which wins by how much."""
    from visus.measures import wilson

    rows, pairs, said, figures = [], [], [], []
    for k, (probes, y) in enumerate(found):
        model = probes[0].model
        last = max(p.layer for p in probes)
        series = []
        for pooling in ORDER:
            own = [p for p in probes if p.pooling == pooling]
            for p in own:
                hits = int((p.probe.predictions == y).sum())
                low, high = wilson(hits, len(y))
                where = f"layer {p.layer}" if p.layer else "behind the pooling"
                rows.append(
                    (
                        model, where, pooling, p.width, 100 * p.probe.top1, 100 * low, 100 * high, 100 * p.probe.macro_recall,
                        p.probe.nll, 100 * p.probe.ece, 100 * p.probe.validation_accuracy, len(y),
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
        own_pairs = [
            compare_right(
                ends[a].probe.predictions == y,
                ends[b].probe.predictions == y,
                names=(f"{model} · {a}", f"{model} · {b}"),
                seed=seed,
            )
            for a, b in combinations([o for o in ORDER if o in ends], 2)
        ]
        pairs += own_pairs
        said.append(_sentence(model, ends, own_pairs))
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
                "n",
            ),
            tuple(rows),
            title="Linear probes by pooling",
            digits=2,
            note="Protocol P3: lambda by validation, one test. Registers and other prefix tokens are never averaged "
            "in. pre-logits: what the model's own head reads.",
            bold={"accuracy, %": "max"},
        )
    }
    if pairs:
        tables["pooling pairs"] = table_of_pairs(pairs, "Poolings compared at the last layer", what="Linear probes")
    return Part(tuple(said), tables, tuple(figures), {}, ())


def _sentence(model: str, ends: dict[str, Pooled], pairs: Sequence[Pair]) -> str:
    """Which of CLS and mean wins at the last layer, by how much, and whether that is more than chance."""
    if "CLS" not in ends:
        return f"{model} has no CLS token: a probe on the mean of its patch tokens is right on {percent(ends['mean'].probe.top1)}."
    pair = next(p for p in pairs if p.a.endswith("· CLS") and p.b.endswith("· mean"))
    better, worse = (
        ("CLS", "the mean of the patch tokens") if pair.difference >= 0 else ("the mean of the patch tokens", "CLS")
    )
    low, high = sorted(abs(v) if pair.low * pair.high > 0 else v for v in (pair.low, pair.high))
    sure = "" if pair.low > 0 or pair.high < 0 else ", which may be chance"
    best = max(ends.values(), key=lambda p: p.probe.validation_accuracy)
    return (
        f"At the last layer of {model} {better} beats {worse} by {100 * abs(pair.difference):.1f} points "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {len(ends['CLS'].probe.predictions):,}){sure}; validation prefers {best.pooling}, "
        f"with {percent(best.probe.top1)} on test."
    )
