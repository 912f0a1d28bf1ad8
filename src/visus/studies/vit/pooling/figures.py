"""Test accuracy through the depth of each model, a curve a pooling."""

from __future__ import annotations

from collections.abc import Sequence

from visus.figures import AnyFigure, Lines, Series
from visus.studies.vit.pooling.measure import ModelPoolings, PoolingMeasures, ProbeRow


def figures(m: PoolingMeasures) -> tuple[AnyFigure, ...]:
    return tuple(_through_depth(model, k) for k, model in enumerate(m.models))


def _through_depth(m: ModelPoolings, k: int) -> Lines:
    by_pooling: dict[str, list[ProbeRow]] = {}
    for p in m.probes:
        if p.layer:
            by_pooling.setdefault(p.pooling, []).append(p)
    return Lines(
        key=f"pooling_{k}",
        title=f"CLS or mean, through the depth of {m.model}",
        caption="Test accuracy of a linear probe by layer and pooling. Bands: 95 % Wilson intervals.",
        x_label="layer",
        y_label="accuracy",
        unit="share",
        series=tuple(_series(name, rows) for name, rows in by_pooling.items()),
    )


def _series(name: str, rows: Sequence[ProbeRow]) -> Series:
    return Series(
        name=name,
        x=[float(p.layer) for p in rows],
        y=[p.accuracy.value for p in rows],
        low=[p.accuracy.low for p in rows],
        high=[p.accuracy.high for p in rows],
    )
