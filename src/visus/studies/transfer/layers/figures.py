"""What the transfer study shows: intervals, validation paths, CKA, maps with thumbnails, confused pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from visus import threads
from visus.measures.cka import FEWEST as FEWEST_CKA
from visus.measures.maps import FEWEST
from visus.studies.common.schema1 import Figure

if TYPE_CHECKING:
    from visus.measures.maps import Map
    from visus.studies.transfer.layers.subject import Subject

THUMBNAIL = 48
EXAMPLE = 96
MAP_POINTS = 2000
MAP_NAMES = {"tsne": "t-SNE", "umap": "UMAP"}
Drawn = tuple[tuple[Figure, ...], dict[str, np.ndarray]]


def draw(s: Subject, features: Mapping[tuple[str, str], np.ndarray], *, maps: bool, seed: int) -> Drawn:
    """Every figure of the study, in reading order, and the arrays that they refer to.

    features: (model, tap) -> float32 [n, d] for the kept pictures.
    """
    figures: list[Figure] = [_accuracy(s)]
    arrays: dict[str, np.ndarray] = {}
    if maps and len(s.test_y) >= FEWEST:
        drawn, found = _maps(s, features, seed=seed)
        figures += drawn
        arrays |= found
    figures.append(_classes(s))
    drawn, found = _confused(s)
    figures += drawn
    arrays |= found
    if len(features) > 1 and len(s.test_y) >= FEWEST_CKA:
        figures.append(_cka(s, features))
    figures.append(_path(s))
    return tuple(figures), arrays


def _accuracy(s: Subject) -> Figure:
    from visus.measures.intervals import wilson

    n = len(s.test_y)
    groups = []
    for b in s.backbones:
        layers = s.of(b.spec)
        rows = {"probe": [c.probe.top1 for c in layers], "kNN": [c.knn_top1 for c in layers]}
        if all(c.random is not None for c in layers):
            rows["probe, random weights"] = [float(c.random or 0.0) for c in layers]
        for method, values in rows.items():
            spans = [wilson(round(v * n), n) for v in values]
            name = method if len(s.backbones) == 1 else f"{b.spec} · {method}"
            groups.append(
                {
                    "name": name,
                    "labels": [c.label for c in layers],
                    "values": [100 * v for v in values],
                    "low": [100 * low for low, _ in spans],
                    "high": [100 * high for _, high in spans],
                }
            )
    data = {
        "x_label": "layer, from the input to the output",
        "y_label": "test accuracy, %",
        "groups": groups,
        "reference": [{"label": "most frequent class", "value": 100 * s.majority}],
    }
    caption = f"Accuracy on {n:,} test images by layer, with 95 % intervals."
    return Figure("accuracy", "intervals", "How good are the frozen features, and where?", caption, data)


def _classes(s: Subject) -> Figure:
    from visus.measures.intervals import wilson

    best, y = s.best, s.test_y
    rows = []
    for i, name in enumerate(s.images.classes):
        n = int(np.sum(y == i))
        if n:
            hits = int(np.sum(best.probe.predictions[y == i] == i))
            rows.append((hits / n, *wilson(hits, n), name))
    rows.sort()
    group = {
        "name": "recall",
        "labels": [r[3] for r in rows],
        "values": [100 * r[0] for r in rows],
        "low": [100 * r[1] for r in rows],
        "high": [100 * r[2] for r in rows],
    }
    data = {"x_label": "class, hardest first", "y_label": "recall, %", "groups": [group]}
    return Figure(
        "classes",
        "intervals",
        "Which classes are hard?",
        f"Recall by class of the probe on {best.model}, {best.label}, with 95 % intervals.",
        data,
    )


def _path(s: Subject) -> Figure:
    series = [
        {
            "name": c.label if len(s.backbones) == 1 else f"{c.model} · {c.label}",
            "x": [float(v) for v in c.probe.lambdas],
            "y": [100 * float(v) for v in c.probe.path_accuracy],
            "low": None,
            "high": None,
        }
        for c in s.scores
    ]
    data = {
        "x_label": "penalty λ",
        "y_label": "validation accuracy, %",
        "x_log": True,
        "y_log": False,
        "series": series,
        "marks": [],
    }
    caption = "Validation accuracy of the probe along the whole path of penalties; the top of each curve was refitted and tested."
    return Figure("path", "lines", "How the penalty was chosen", caption, data)


def _cka(s: Subject, features: Mapping[tuple[str, str], np.ndarray]) -> Figure:
    from visus.measures.cka import cka_matrix

    labels = [c.label if len(s.backbones) == 1 else f"{c.model} · {c.label}" for c in s.scores]
    matrix = cka_matrix([features[c.model, c.tap][s.splits.test] for c in s.scores])
    data = {
        "values": matrix.tolist(),
        "rows": labels,
        "columns": labels,
        "label": "linear CKA",
        "low": 0.0,
        "high": 1.0,
    }
    caption = "Linear CKA (unbiased) between layers over the test images: 1 is the same up to rotation and scale, 0 is unrelated."
    return Figure("cka", "heatmap", "How alike are the layers?", caption, data)


def _maps(
    s: Subject, features: Mapping[tuple[str, str], np.ndarray], *, seed: int
) -> tuple[list[Figure], dict[str, Any]]:
    from visus.images.thumbnails import thumbnails
    from visus.measures.maps import layer_maps
    from visus.progress import task

    rng = np.random.default_rng(seed)
    test = s.splits.test
    shown = test if len(test) <= MAP_POINTS else np.sort(rng.choice(test, MAP_POINTS, replace=False))
    positions = s.kept[shown]
    arrays: dict[str, Any] = {"thumbnails": thumbnails(s.images, positions, THUMBNAIL), "map labels": s.y[shown]}
    figures: dict[str, list[Figure]] = {}
    with task("drawing maps", len(s.scores)) as progress:
        for c in s.scores:
            for method, drawn in layer_maps(
                features[c.model, c.tap][shown], seed=seed, threads=threads.count()
            ).items():
                name = slug(f"{method} {c.model} {c.tap}")
                arrays[name] = drawn.z
                data = {
                    "points": name,
                    "labels": "map labels",
                    "classes": list(s.images.classes),
                    "ids": [s.images.ids[i] for i in positions],
                    "sprite": "thumbnails",
                    "trust": _trust(drawn),
                }
                where = c.label if len(s.backbones) == 1 else f"{c.model} · {c.label}"
                caption = f"{MAP_NAMES[method]} of {len(shown):,} test images, after PCA to {drawn.settings['pca']} dimensions, seed {seed}."
                caption = " ".join([caption, *(f"{note[0].upper()}{note[1:]}." for note in drawn.notes)])
                figures.setdefault(method, []).append(
                    Figure(name, "map", f"{MAP_NAMES[method]}: {where}", caption, data)
                )
            progress.advance()
    # One method after the other, so that the layers stand side by side.
    return [figure for drawn in figures.values() for figure in drawn], arrays


def _trust(drawn: Map) -> dict[str, float]:
    if drawn.trust is None:
        return {}
    return {"trustworthiness": drawn.trust.trustworthiness, "neighbours_kept": drawn.trust.neighbours_kept}


def _confused(s: Subject) -> tuple[list[Figure], dict[str, Any]]:
    from visus.images.thumbnails import thumbnails
    from visus.studies.transfer.layers.subject import confused

    pairs = confused(s)
    if not pairs:
        return [], {}
    names = s.images.classes
    at = [(f"{names[c.true]} taken for {names[c.predicted]} ({c.count})", int(i)) for c in pairs for i in c.examples]
    positions = s.kept[s.splits.test[[i for _, i in at]]]
    data = {
        "images": "confused images",
        "captions": [s.images.ids[i] for i in positions],
        "groups": [group for group, _ in at],
    }
    caption = f"The most confused pairs of classes of the probe on {s.best.model}, {s.best.label}: the mistakes it was surest of."
    return [Figure("confused", "gallery", "What is taken for what?", caption, data)], {
        "confused images": thumbnails(s.images, positions, EXAMPLE)
    }


def slug(text: str) -> str:
    """A file name made of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
