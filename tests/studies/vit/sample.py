"""Measures made by hand: no model, no image set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from visus.measures.compare import PairedDifference
from visus.measures.reliability import reliability
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.proportion import proportion
from visus.studies.common.repeated_images import AccuracyWithout, RepeatedImages
from visus.studies.vit.attention.measure import AttentionMeasures, HeadsMeasures, ImageMaps, LayerHeads
from visus.studies.vit.masking.measure import (
    Area,
    AttendedPatches,
    Band,
    ComparedModels,
    CurveMeasures,
    MapChoice,
    MapFaithfulness,
    MaskingMeasures,
    ModelFaithfulness,
    Strip,
)
from visus.studies.vit.pooling.measure import ModelPoolings, PoolingMeasures, ProbeRow
from visus.studies.vit.predictions import Accuracy, ComparedAnswers, PredictionsMeasures, TopAnswers, Unjudged


def difference(value: float, low: float, high: float) -> PairedDifference:
    return PairedDifference(value, low, high, level=0.95, n=20, resamples=10_000, seed=0)


def accuracy(
    model: str, right: list[bool], *, asked: list[bool] | None = None, unmeant: tuple[str, ...] = ()
) -> Accuracy:
    hits = np.array(right)
    confidence = np.linspace(0.5, 0.9, len(hits))
    return Accuracy(
        model=model,
        top1=proportion(hits),
        top5=proportion(np.ones(len(hits), bool)),
        reliability=reliability(confidence, hits),
        asked=np.ones(len(hits), bool) if asked is None else np.array(asked),
        right=hits,
        answers=tuple("cat" if r else "dog" for r in hits),
        confidence=confidence,
        unmeant=unmeant,
    )


def predictions() -> PredictionsMeasures:
    """Two models that can be right, of one of which five images are asked, one of classes of its own, and one with a multi-label head."""
    a = accuracy("a", [True, True, True, False, True])
    b = accuracy("b", [False, True, False, False], asked=[True, True, True, True, False], unmeant=("owl",))
    (pair,) = family([compare(a.right[:4], b.right, names=("a", "b"), seed=0)])
    names = ("cat", "dog", "owl")
    return PredictionsMeasures(
        images="pets",
        shown=("one.png", "two.png"),
        thumbnails=np.zeros((2, 8, 8, 3), np.uint8),
        top=(
            TopAnswers("a", (names, names[::-1]), ((0.7, 0.2, 0.1), (0.5, 0.3, 0.2)), False),
            TopAnswers("tags", (names, names), ((0.9, 0.8, 0.7),) * 2, True),
        ),
        accuracies=(a, b),
        unjudged=(Unjudged("own", False), Unjudged("tags", True)),
        pairs=(ComparedAnswers(pair, 4),),
    )


def layer(k: int, p_holm: float | None, explained: float | None = 0.4) -> LayerHeads:
    return LayerHeads(k, 2.5, 10.0, 8.0, 12.0, explained, p_holm, p_holm, explained, 0.5)


def heads(model: str) -> HeadsMeasures:
    return HeadsMeasures(
        model=model,
        n=30,
        entropy=((2.5, 2.6), (2.4, None)),
        distance=((10.0, 11.0), (9.0, 12.0)),
        flat_entropy=float(np.log(4)),
        layers=(layer(1, 0.01), layer(2, 0.2)),
        explained=0.4,
        saturated=0,
        saturated_layers=(),
        outliers=0.0,
    )


def look(model: str, *, network: bool = False) -> ImageMaps:
    raw = np.full((2, 16, 16, 3), 120, np.uint8)
    flat = np.ones((2, 2, 2))
    if network:
        return ImageMaps(model, raw, {"Grad-CAM": flat}, None, False, ())
    maps = {"last layer": flat, "rollout": flat, "gradients": flat}
    return ImageMaps(model, raw, maps, np.ones((2, 2, 2, 2), np.float32), False, ("cls",))


def attention() -> AttentionMeasures:
    """A network, then two transformers, and one that has no map."""
    looks = (look("cnn", network=True), look("a"), look("b"))
    return AttentionMeasures(("one.png", "two.png"), looks, (("mixer", "nothing attends"),), (heads("a"), heads("b")))


def band(*values: float) -> Band:
    return Band(values, tuple(v - 0.1 for v in values), tuple(v + 0.1 for v in values))


def curve(
    model: str, how: str, pattern: str, *, counted: str = "accuracy", halved: float | None = None
) -> CurveMeasures:
    return CurveMeasures(
        model=model,
        how=how,  # type: ignore[arg-type]
        pattern=pattern,
        counted=counted,
        ratios=(1.0, 0.5, 0.1),
        hits=band(0.8, 0.6, 0.5),
        agreement=band(1.0, 0.7, 0.6),
        area=Area(0.65, 0.5, 0.75),
        halved=halved,
        n=20,
    )


def faithfulness(model: str, choice: MapChoice | None) -> ModelFaithfulness:
    down, up = Area(0.4, 0.3, 0.5), Area(0.6, 0.5, 0.7)
    above = difference(0.2, 0.1, 0.3)
    maps = [MapFaithfulness(name, down, up, above) for name in ("attention", "rollout", "gradient-weighted")]
    return ModelFaithfulness(model, (*maps, MapFaithfulness("random", down, down, None)), choice)


def masking() -> MaskingMeasures:
    """A transformer, tokens dropped and pixels blanked, and a network beside it."""
    return MaskingMeasures(
        n=20,
        leader="a",
        fill="mean",
        patterns=("block", "random"),
        curves=(
            curve("a", "drop", "block"),
            curve("a", "drop", "random"),
            curve("a", "blank", "random"),
            curve("cnn", "blank", "random", counted="agreement", halved=0.64),
        ),
        pairs=(ComparedModels("a", "cnn", "random", "agreement", difference(-0.1, -0.2, -0.05), 0.5, 0.01, 0.02),),
        attended=(AttendedPatches("a", 0.5, 0.7, difference(0.2, 0.1, 0.3)),),
        faithful=(
            faithfulness(
                "a", MapChoice("rollout", "attention", difference(0.2, 0.1, 0.3), difference(0.05, -0.1, 0.2))
            ),
        ),
        strip=Strip("one.png", {("random", r): np.full((8, 4, 3), 9, np.uint8) for r in (1.0, 0.7, 0.4)}),
        flat=(("a", "attention", 2),),
        refused=("No tokens are dropped: it mixes them.",),
    )


def probe(layer_: int, pooling: str, right: int, *, validation: float = 0.5) -> ProbeRow:
    return ProbeRow(
        layer=layer_,
        pooling=pooling,
        width=16,
        accuracy=proportion(np.arange(20) < right),
        balanced_accuracy=0.5,
        nll=1.0,
        ece=0.1,
        validation=validation,
        penalty=1e-3,
        at_edge=False,
        random=0.4,
        shuffled=0.3,
        shuffled_point=0.45,
    )


def comparison(model: str, a: str, b: str, value: float, low: float, high: float) -> Comparison:
    return Comparison(f"{model} · {a}", f"{model} · {b}", value, low, high, 6, 2, 0.2, 0.4)


def poolings(model: str, *, low: float = -0.1, high: float = 0.3) -> ModelPoolings:
    probes = (
        probe(1, "CLS", 10),
        probe(2, "CLS", 14, validation=0.6),
        probe(1, "mean", 11),
        probe(2, "mean", 12),
        probe(0, "pre-logits", 13, validation=0.7),
    )
    pairs = (
        comparison(model, "CLS", "mean", 0.1, low, high),
        comparison(model, "CLS", "pre-logits", 0.05, -0.1, 0.2),
        comparison(f"{model}, layer 1", "CLS", "mean", -0.05, -0.2, 0.1),
    )
    return ModelPoolings(model, probes, probes[-1], pairs)


def repeated(count: int = 0) -> RepeatedImages:
    p = proportion(np.arange(20) < 14)
    accuracies = (AccuracyWithout(("a", "layer 2", "CLS"), p, replace(p, value=0.6)),) if count else ()
    pairs = (("t.png", "cat", "u.png", "cat"),) * count
    return RepeatedImages(count, 20, 0, 0, 0, 0, pairs, ("t.png = u.png",)[:count], accuracies)


def pooling(count: int = 0) -> PoolingMeasures:
    return PoolingMeasures((poolings("a"),), 20, repeated(count))
