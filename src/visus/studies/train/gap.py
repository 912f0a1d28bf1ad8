"""How far images and texts lie apart, before training and after (Liang et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from visus.figures import AnyFigure
from visus.formats import percent
from visus.measures.gap import Gap
from visus.result import Column, Finding, Metric, Table

KEY, QUESTION = "gap", "How far do images and texts lie apart?"


@dataclass(frozen=True)
class GapMeasures:
    """Of the same test images with their names, unit vectors."""

    untrained: Gap
    trained: Gap

    @property
    def rows(self) -> tuple[tuple[str, Gap], ...]:
        return (("untrained", self.untrained), ("trained", self.trained))


def measure(untrained: Gap, trained: Gap) -> GapMeasures:
    return GapMeasures(untrained, trained)


def metrics(m: GapMeasures) -> tuple[Metric, ...]:
    found = []
    for when, g in m.rows:
        found.append(
            Metric(
                f"gap/{when}/distance", g.centroid_distance, n=g.n, better="lower", label=f"centroid distance, {when}"
            )
        )
        found.append(Metric(f"gap/{when}/paired", g.paired, n=g.n, better="higher", label=f"cosine of pairs, {when}"))
    return tuple(found)


def tables(m: GapMeasures) -> tuple[Table, ...]:
    return (
        Table(
            key="gap",
            title="The gap between images and texts",
            columns=(
                Column("when", "when"),
                Column("distance", "centroid distance"),
                Column("paired", "cosine of pairs"),
                Column("unpaired", "cosine of others"),
                Column("separable", "separable", "share"),
            ),
            rows=[(when, g.centroid_distance, g.paired, g.unpaired, g.separable) for when, g in m.rows],
            note=f"{m.trained.n:,} test images with their names, unit vectors. Separable: accuracy of a linear classifier on held-out pairs.",
        ),
    )


def figures(m: GapMeasures) -> tuple[AnyFigure, ...]:
    return ()


def findings(m: GapMeasures) -> tuple[Finding, ...]:
    before, after = m.untrained.centroid_distance, m.trained.centroid_distance
    keys = ("gap/untrained/distance", "gap/trained/distance")
    text = f"The modality gap (distance of the centroids of images and texts) went from {before:.2f} at the start to {after:.2f}."
    line = f"After training a line tells images from texts with {percent(m.trained.separable)} accuracy."
    return (Finding(text, keys, ("gap",)), Finding(line, (), ("gap",)))
