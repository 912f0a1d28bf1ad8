"""A made-up transfer study, rich enough to look at: every kind of figure, thumbnails, awkward names."""

from __future__ import annotations

import numpy as np

from visus.studies.common.schema1 import Figure, Result, Table

CLASSES = (
    "airplane",
    "bird",
    "cat & dog",
    "flower",
    "food",
    "hand",
    "نص عربي",
    "building",
    "tool",
    "vehicle",
    "face",
    "clothing",
)


def thumbnails(n: int, side: int = 48) -> np.ndarray:
    """uint8 [n, side, side, 3]: crops of the photographs that ship with scikit-image."""
    from skimage import data

    rng = np.random.default_rng(0)
    photos = [data.astronaut(), data.cat(), data.coffee()]
    crops = []
    for i in range(n):
        photo = photos[i % 3]
        y, x = rng.integers(0, photo.shape[0] - 2 * side), rng.integers(0, photo.shape[1] - 2 * side)
        crops.append(photo[y : y + 2 * side : 2, x : x + 2 * side : 2])
    return np.stack(crops).astype(np.uint8)


def sample(n: int = 800, maps: int = 6, classes: tuple[str, ...] = CLASSES) -> Result:
    """A Result with `maps` maps of n points and one of each other figure."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, len(classes), n)
    centres = rng.normal(size=(len(classes), 2)) * 4
    arrays = {"thumbs": thumbnails(n), "labels": labels, "pairs": thumbnails(12, 48)}
    figures = []
    taps = ["early (blocks.1)", "middle (blocks.3)", "late (blocks.6)"]
    models = ["effnet-lite0", "vit_small_patch16_224.augreg_in1k"]
    groups = []
    for m, model in enumerate(models):
        v = np.array([0.41, 0.63, 0.79]) + 0.05 * m
        groups.append(
            {"name": model, "labels": taps, "values": list(v), "low": list(v - 0.03), "high": list(v + 0.028)}
        )
    figures.append(
        Figure(
            "accuracy",
            "intervals",
            "Accuracy rises with depth",
            "Top-1 accuracy of a linear probe on 1,200 test images; whiskers are 95 % Wilson intervals.",
            {
                "x_label": "layer",
                "y_label": "top-1 accuracy",
                "groups": groups,
                "reference": [
                    {"label": "chance", "value": 0.083},
                    {"label": "probe on shuffled labels", "value": 0.21},
                ],
            },
        )
    )
    for i in range(maps):
        name = f"points{i}"
        arrays[name] = (centres[labels] + rng.normal(size=(n, 2)) * (4.5 - 0.7 * i)).astype(np.float32)
        figures.append(
            Figure(
                f"map-{i}",
                "map",
                f"{models[i % 2]}, {taps[i // 2 % 3]}",
                "t-SNE of 50 principal components, perplexity 30.",
                {
                    "points": name,
                    "labels": "labels",
                    "classes": list(classes),
                    "ids": [f"emoji/{k:04d}.png" for k in range(n)],
                    "sprite": "thumbs",
                    "trust": {"trustworthiness": 0.81 + 0.03 * i, "neighbours_kept": 0.2 + 0.06 * i},
                },
            )
        )
    cka = np.exp(-np.abs(np.subtract.outer(np.arange(6), np.arange(6))) / 2.5)
    names = [f"{m[:8]} {t.split()[0]}" for m in models for t in taps]
    figures.append(
        Figure(
            "cka",
            "heatmap",
            "Similarity of layers",
            "Linear CKA with the unbiased estimator; independent features score 0.",
            {"values": cka.tolist(), "rows": names, "columns": names, "label": "CKA", "low": 0.0, "high": 1.0},
        )
    )
    steps = np.logspace(-6, 2, 45)
    figures.append(
        Figure(
            "path",
            "lines",
            "The probe's path",
            "Validation accuracy over 45 penalties; the band is a 95 % interval.",
            {
                "x_label": "penalty λ",
                "y_label": "validation accuracy",
                "x_log": True,
                "y_log": False,
                "series": [
                    {
                        "name": model,
                        "x": steps.tolist(),
                        "y": (y := 0.8 - 0.02 * (np.log10(steps) + 2 + m) ** 2).tolist(),
                        "low": (y - 0.02).tolist(),
                        "high": (y + 0.02).tolist(),
                    }
                    for m, model in enumerate(models)
                ],
                "marks": [{"label": "chosen", "x": 1e-2}],
            },
        )
    )
    figures.append(
        Figure(
            "confused",
            "gallery",
            "Most confused pairs",
            "Test images that the late probe of effnet-lite0 takes for another class, most certain first.",
            {
                "images": "pairs",
                "captions": [f"emoji/{i:04d}.png\np = {0.98 - i / 50:.2f}" for i in range(12)],
                "groups": ["cat & dog taken for bird"] * 6 + ["hand taken for tool"] * 6,
            },
        )
    )
    rows = tuple(
        (m, t, k, float(a), float(a - 0.02), float(a + 0.02), 1200)
        for m in models
        for t in taps
        for k, a in (("probe", rng.uniform(0.4, 0.9)), ("kNN", rng.uniform(0.3, 0.8)))
    )
    recall = tuple(
        (f"{c} {i}" if i >= len(classes) else c, int(rng.integers(40, 90)), float(rng.uniform()), float(rng.uniform()))
        for i, c in enumerate(classes * 4)
    )
    tables = {
        "accuracy": Table(
            ("model", "layer", "readout", "accuracy", "low", "high", "n"),
            rows,
            title="Accuracy of frozen features",
            note="Top-1 on the test split; low and high bound the 95 % Wilson interval.",
            bold={"accuracy": "max"},
        ),
        "recall": Table(("class", "n", *models), recall, title="Recall by class", bold={m: "max" for m in models}),
    }
    return Result(
        "transfer",
        "Frozen features of two models on 4,800 emoji",
        (
            "vit_small_patch16_224.augreg_in1k is the better backbone: 84.0 % of test images read correctly from its "
            "late layer, against 79.0 % for effnet-lite0 (difference 5.0 points, 95 % interval 2.1 to 7.9, McNemar p = 0.0007).",
            "Accuracy rises with depth in both: early layers give 41.0 % and 46.0 %, where chance is 8.3 %.",
            "A probe on shuffled labels reaches 21.0 %, so the features alone do not explain the score.",
        ),
        tables,
        tuple(figures),
        arrays,
        (
            "The penalty chosen for effnet-lite0 lies at the edge of the path; a wider path may change its accuracy.",
            "3 pictures were set aside; see the table of pictures that could not be used.",
        ),
        {
            "command": "visus transfer --model visus:effnet-lite0 --model timm:vit_small_patch16_224.augreg_in1k --images visus:emoji --seed 0",
            "models": {m: f"xxh128:{i}f3a9c27e5b1d4480" for i, m in enumerate(models)},
            "images": "visus:emoji",
            "seed": 0,
            "device": "cpu",
            "taps": taps,
            "versions": {"visus": "0.1.0", "torch": "2.15.0", "numpy": "2.4.1"},
            "wall_seconds": 151.3,
        },
    )
