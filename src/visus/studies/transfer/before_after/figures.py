"""The figures of features before and after training: maps in a grid, separability, probes and CKA through depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from visus.studies.common.schema1 import Figure

if TYPE_CHECKING:
    from visus.models.tap import Tap
    from visus.studies.transfer.before_after.subject import Course

MAP_POINTS = 1000
MAP_COLUMNS = 4
_DEPTH = "depth in the network, from the first to the last point"
_MARKED = 6  # layers that are few enough to be marked one by one
Drawn = tuple[tuple[Figure, ...], dict[str, np.ndarray]]


def draw(c: Course, *, maps: bool, seed: int) -> Drawn:
    """Every figure, in reading order, and the arrays that they refer to."""
    figures, arrays = _maps(c, seed=seed) if maps else ((), {})
    through = (_silhouette(c), _cka(c)) if len(c.taps) > 1 else ()
    return (*figures, _probe(c), *through), arrays


def map_taps(c: Course) -> tuple[Tap, ...]:
    """The layers that are drawn: all while they fit side by side, else the first, the middle one and the last."""
    if len(c.taps) <= MAP_COLUMNS:
        return c.taps
    return tuple(c.taps[i] for i in (0, (len(c.taps) - 1) // 2, len(c.taps) - 1))


def _maps(c: Course, *, seed: int) -> Drawn:
    from visus.measures.maps import layer_maps
    from visus.measures.procrustes import align, unit_radius
    from visus.progress import task

    n = len(c.test_y)
    rng = np.random.default_rng(seed)
    shown = np.arange(n) if n <= MAP_POINTS else np.sort(rng.choice(n, MAP_POINTS, replace=False))
    taps = map_taps(c)
    arrays: dict[str, np.ndarray] = {"before-after labels": c.test_y[shown]}
    panels: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    dims: set[int | float | str] = set()
    reference: dict[str, np.ndarray] = {}
    with task("drawing maps before and after", len(c.states) * len(taps)) as progress:
        for i, state in enumerate(c.states):
            for j, tap in enumerate(taps):
                # One thread: a thousand points gain nothing from more, and the map is then the same on every machine.
                vectors = c.vectors[state, tap.name][shown]
                drawn = layer_maps(vectors, methods=["tsne"], seed=seed, threads=1)["tsne"]
                # The first network's map is the frame into which all maps of its layer are turned.
                frame = reference.setdefault(tap.name, unit_radius(drawn.z))
                name = f"before-after map {i} {j}"
                arrays[name] = align(drawn.z, frame).astype(np.float32)
                trust = {}
                if drawn.trust is not None:
                    trust["trustworthiness"] = drawn.trust.trustworthiness
                    trust["neighbours_kept"] = drawn.trust.neighbours_kept
                panels.append({"row": state, "column": c.labels[tap.name], "points": name, "trust": trust})
                notes |= dict.fromkeys(drawn.notes)
                dims.add(drawn.settings["pca"])
                progress.advance()
    data = {"panels": panels, "labels": "before-after labels", "classes": list(c.images.classes)}
    caption = (
        f"t-SNE of the same {len(shown):,} test images, after PCA to {' or '.join(map(str, sorted(dims, key=str)))} dimensions, seed {seed}. "
        f"Every map is centred, scaled to one radius and turned or mirrored onto that of {c.before} above it, which changes no distance within "
        "a map but for scale; all axes are equal. Under each: its trustworthiness, and the share of the 10 nearest neighbours that it keeps."
    )
    caption = " ".join([caption, *(f"{note[0].upper()}{note[1:]}." for note in notes)])
    return (Figure("before-after-maps", "maps", "The same images before and after training", caption, data),), arrays


def _probe(c: Course) -> Figure:
    from visus.measures.intervals import wilson

    n = len(c.test_y)
    groups = []
    for state in c.states:
        values = [float(c.scores[state, tap.name].probe.top1) for tap in c.taps]
        spans = [wilson(round(v * n), n) for v in values]
        groups.append(
            {
                "name": state,
                "labels": [c.labels[tap.name] for tap in c.taps],
                "values": [100 * v for v in values],
                "low": [100 * low for low, _ in spans],
                "high": [100 * high for _, high in spans],
            }
        )
    data = {"x_label": "layer, from the input to the output", "y_label": "test accuracy, %", "groups": groups}
    caption = f"Accuracy of a linear probe on {n:,} test images by layer, with 95 % intervals."
    return Figure(
        "before-after-probe", "intervals", "What can be read from the layers, before and after?", caption, data
    )


def _silhouette(c: Course) -> Figure:
    series = {state: [c.scores[state, tap.name].silhouette for tap in c.taps] for state in c.states}
    caption = (
        f"Silhouette (cosine) of the classes over the {len(c.test_y):,} test images: 1 is classes far apart, 0 is none."
    )
    return _through_depth(
        c, "before-after-separability", "Separability through depth and training", caption, "silhouette", series
    )


def _cka(c: Course) -> Figure:
    # The first is drawn too, so that every network has one colour in all figures.
    series = {c.before: [1.0] * len(c.taps)} | {state: [m.cka for m in c.of(state)] for state in c.states[1:]}
    caption = (
        f"Linear CKA (unbiased) of every layer with the same layer of {c.before}, over the test images: 1 is the same up to "
        "rotation and scale, 0 is unrelated."
    )
    return _through_depth(
        c, "before-after-cka", "How far did every layer move?", caption, f"CKA with {c.before}", series
    )


def _through_depth(
    c: Course, name: str, title: str, caption: str, y_label: str, series: dict[str, list[float]]
) -> Figure:
    """A curve a network over the depth of its layers; the layers are marked while they are few."""
    depths = [tap.depth for tap in c.taps]
    marks = []
    if len(c.taps) <= _MARKED:
        # Named in the caption: inside the axes the names would lie on the curves.
        marks = [{"label": "", "x": depth} for depth in depths]
        caption += f" Dotted: {', '.join(c.labels[tap.name] for tap in c.taps)}."
    data = {
        "x_label": _DEPTH,
        "y_label": y_label,
        "x_log": False,
        "y_log": False,
        "series": [{"name": state, "x": depths, "y": y, "low": None, "high": None} for state, y in series.items()],
        "marks": marks,
    }
    return Figure(name, "lines", title, caption, data)
