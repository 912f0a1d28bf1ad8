"""Which pooling holds most at the last layer, and what to know before trusting a probe."""

from __future__ import annotations

from collections.abc import Iterator

from visus.formats import percent
from visus.result import Finding
from visus.studies.common import repeated_images
from visus.studies.vit.pooling.measure import ModelPoolings, PoolingMeasures
from visus.studies.vit.pooling.tables import pair_key


def findings(m: PoolingMeasures) -> tuple[Finding, ...]:
    said = [finding for k, model in enumerate(m.models) for finding in _poolings_said(model, f"pooling_{k}")]
    cautions = [text for model in m.models for text in _cautions(model)]
    cautions += repeated_images.cautions(m.repeated)
    return (*said, *(Finding(text, kind="caution") for text in cautions))


def _poolings_said(m: ModelPoolings, figure: str) -> Iterator[Finding]:
    shows, mean = ("pooling", figure), "the mean of the patch tokens"
    pair = m.main
    if pair is None:
        only = next(p for p in m.last if p.pooling == "mean")
        text = f"{m.model} has no CLS token: a probe on the mean of its patch tokens is right on {percent(only.accuracy.value)}."
        yield Finding(text, metrics=(m.key(only, "accuracy"),), shows=shows)
        return
    if pair.undecided:
        text = f"At the last layer of {m.model} it is undecided whether CLS or {mean} holds more (CLS minus mean {pair.text()})."
    else:
        ahead = pair.ahead
        better, worse = ("CLS", mean) if pair.difference > 0 else (mean, "CLS")
        text = f"At the last layer of {m.model} {better} beats {worse} by {ahead.text()}."
    yield Finding(text, metrics=(pair_key(pair),), shows=("pooling-pairs", figure), kind=pair.kind)
    best = m.preferred
    text = f"At the last layer of {m.model} validation prefers {best.pooling}, with {percent(best.accuracy.value)} on test."
    yield Finding(text, metrics=(m.key(best, "accuracy"),), shows=shows)


def _cautions(m: ModelPoolings) -> Iterator[str]:
    if any(p.shuffled is not None and p.random is None for p in m.probes):
        yield f"{m.model}: no random-init control; it has random weights itself, or cannot be built without its own."
    for p in m.probes:
        if p.at_edge:
            yield (
                f"{m.model}, {p.where}, {p.pooling}: validation chose the λ at the edge of the path ({p.penalty:.1e}); a better one may lie "
                "beyond."
            )
    yield from m.cautions
