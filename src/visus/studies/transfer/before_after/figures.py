"""The figures of features before and after training: maps in a grid, separability, probes and CKA through depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visus.figures import AnyFigure, Group, Intervals, Lines, MapPanel, Maps, Mark, Series
from visus.studies.transfer.before_after.measure import BeforeAfterMeasures, FeatureChange, StateMaps
from visus.studies.transfer.before_after.tables import named

DEPTH = "depth in the network, from the first to the last point"
MARKED = 6  # layers that are few enough to be marked one by one


def figures(m: BeforeAfterMeasures) -> tuple[AnyFigure, ...]:
    """Every figure, in reading order."""
    found: list[AnyFigure] = []
    for c in m.changes:
        several = len(m.changes) > 1
        if c.maps is not None:
            found.append(_maps(c, c.maps, several))
        found.append(_probe(c, several))
        if len(c.taps) > 1:
            found += [_silhouette(c, several), _cka(c, several)]
    return tuple(found)


def _maps(c: FeatureChange, maps: StateMaps, several: bool) -> Maps:
    caption = (
        f"t-SNE of the same {len(maps.labels):,} test images, after PCA to {' or '.join(maps.dims)} dimensions, seed {maps.seed}. "
        f"Every map is centred, scaled to one radius and turned or mirrored onto that of {c.before} above it, which changes no distance within "
        "a map but for scale; all axes are equal. Under each: its trustworthiness, and the share of the 10 nearest neighbours that it keeps."
    )
    return Maps(
        **named("before-after-maps", "The same images before and after training", c, several),
        caption=" ".join([caption, *(f"{note[0].upper()}{note[1:]}." for note in maps.notes)]),
        panels=tuple(
            MapPanel(row=one.state, column=one.label, points=one.points, trust=one.trust) for one in maps.maps
        ),
        labels=maps.labels,
        classes=c.classes,
    )


def _probe(c: FeatureChange, several: bool) -> Intervals:
    groups = []
    for state in c.states:
        layers = [c.layers[state, tap].probe for tap, _, _ in c.taps]
        groups.append(
            Group(
                name=state,
                labels=[label for _, label, _ in c.taps],
                values=[p.value for p in layers],
                low=[p.low for p in layers],
                high=[p.high for p in layers],
            )
        )
    return Intervals(
        **named("before-after-probe", "What can be read from the layers, before and after?", c, several),
        caption=f"Accuracy of a linear probe on {c.n:,} test images by layer, with 95 % intervals.",
        x_label="layer, from the input to the output",
        y_label="test accuracy",
        unit="share",
        groups=tuple(groups),
    )


def _silhouette(c: FeatureChange, several: bool) -> Lines:
    series = {state: [c.layers[state, tap].silhouette for tap, _, _ in c.taps] for state in c.states}
    head = named("before-after-separability", "Separability through depth and training", c, several)
    caption = f"Silhouette (cosine) of the classes over the {c.n:,} test images: 1 is classes far apart, 0 is none."
    return _through_depth(c, head, caption, "silhouette", series)


def _cka(c: FeatureChange, several: bool) -> Lines:
    # The first is drawn too, so that every network has one colour in all figures.
    series = {c.before: [1.0] * len(c.taps)} | {state: [m.cka for m in c.of(state)] for state in c.states[1:]}
    head = named("before-after-cka", "How far did every layer move?", c, several)
    caption = (
        f"Linear CKA (unbiased) of every layer with the same layer of {c.before}, over the test images: 1 is the same up to "
        "rotation and scale, 0 is unrelated."
    )
    return _through_depth(c, head, caption, f"CKA with {c.before}", series)


def _through_depth(
    c: FeatureChange, head: Mapping[str, str], caption: str, y_label: str, series: Mapping[str, Sequence[float]]
) -> Lines:
    """A curve a network over the depth of its layers; the layers are marked while they are few."""
    depths = [depth for _, _, depth in c.taps]
    marks: tuple[Mark, ...] = ()
    if len(c.taps) <= MARKED:
        # Named in the caption: inside the axes the names would lie on the curves.
        marks = tuple(Mark("", depth) for depth in depths)
        caption += f" Dotted: {', '.join(label for _, label, _ in c.taps)}."
    return Lines(
        key=head["key"],
        title=head["title"],
        caption=caption,
        x_label=DEPTH,
        y_label=y_label,
        series=tuple(Series(name=state, x=depths, y=y) for state, y in series.items()),
        marks=marks,
    )
