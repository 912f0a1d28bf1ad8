"""What each dimension carries, and images along and between."""

from __future__ import annotations

from visus.figures import AnyFigure, Gallery, Lines, Series
from visus.studies.vae.gallery import gallery
from visus.studies.vae.latent.measure import REACH, LatentMeasures, Walk

LEAST = 1e-5  # nats at which a curve on a logarithmic axis ends


def figures(m: LatentMeasures) -> tuple[AnyFigure, ...]:
    walks = [figure for i, walk in enumerate(m.walks) for figure in _walk(i, walk)]
    return (_by_dimension(m), *walks)


def _by_dimension(m: LatentMeasures) -> Lines:
    series = [
        Series(
            name=r.name,
            x=range(1, len(r.dimensions) + 1),
            y=[max(d.kl, LEAST) for d in r.dimensions],
        )
        for r in m.rows
    ]
    longest = max(len(r.dimensions) for r in m.rows)
    return Lines(
        key="dimensions",
        title="What each latent dimension carries",
        caption="Mean KL of test images, in nats, the largest first; a dimension below the threshold is dead.",
        x_label="latent dimensions, by KL",
        y_label="KL",
        unit="nats",
        y_log=True,
        series=(*series, Series(name="threshold", x=[1, longest], y=[m.threshold] * 2)),
    )


def _walk(i: int, walk: Walk) -> tuple[Gallery, ...]:
    along = gallery(
        f"traversals-{i}",
        f"{walk.name}: along each active dimension",
        f"One latent dimension from {-REACH:g} to {REACH:g}, the others at the posterior mean of the first test image; by KL, the largest first.",
        [(row, [f"{v:+.1f}" for v in row.values]) for row in walk.dimensions],
    )
    between = gallery(
        f"interpolations-{i}",
        f"{walk.name}: between two test images",
        "Decoded from points on the straight line between two posterior means.",
        [(row, [f"{v:.0%}" for v in row.values]) for row in walk.between],
    )
    return along, between
