"""A made-up transfer study, rich enough to look at: every kind of figure, thumbnails, awkward names."""

from __future__ import annotations

import numpy as np
from skimage import data

from visus.figures import (
    CurvePanel,
    Curves,
    Front,
    FrontPanel,
    FrontPoint,
    Gallery,
    Group,
    Heatmap,
    Intervals,
    Lines,
    Map,
    MapPanel,
    Maps,
    Mark,
    Reference,
    Series,
)
from visus.result import Column, Finding, Metric, Result, Section, Table, key_of

CLASSES = (
    "airplane", "bird", "cat & dog", "flower", "food", "hand", "نص عربي", "building", "tool", "vehicle", "face", "clothing",
)  # fmt: skip
TAPS = ("early (blocks.1)", "middle (blocks.3)", "late (blocks.6)")
MODELS = ("effnet-lite0", "vit_small_patch16_224.augreg_in1k")


def thumbnails(n: int, side: int = 48) -> np.ndarray:
    """uint8 [n, side, side, 3]: crops of the photographs that ship with scikit-image."""
    rng = np.random.default_rng(0)
    photos = [data.astronaut(), data.cat(), data.coffee()]
    crops = []
    for i in range(n):
        photo = photos[i % 3]
        y, x = rng.integers(0, photo.shape[0] - 2 * side), rng.integers(0, photo.shape[1] - 2 * side)
        crops.append(photo[y : y + 2 * side : 2, x : x + 2 * side : 2])
    return np.stack(crops).astype(np.uint8)


def layers() -> Section:
    """Intervals, lines, a heatmap, and the metrics of the headline."""
    groups, metrics = [], []
    for m, model in enumerate(MODELS):
        v = np.array([0.41, 0.63, 0.79]) + 0.05 * m
        groups.append(Group(name=model, labels=TAPS, values=v, low=v - 0.03, high=v + 0.028))
        metrics += [
            Metric(
                key_of(model, tap.split()[0], "probe", "accuracy"), value, value - 0.03, value + 0.028, n=1200, unit="share",
                better="higher", label=f"linear probe, {tap.split()[0]} layer of {model}",
            )
            for tap, value in zip(TAPS, v, strict=True)
        ]  # fmt: skip
    metrics.append(
        Metric(
            "difference", 0.007, -0.019, 0.032, n=1200, unit="points", label="full training, 6 minutes, over the head"
        )
    )
    metrics.append(Metric("seconds", 12.0, unit="s", better="lower", label="wall time of the probes"))
    cka = np.exp(-np.abs(np.subtract.outer(np.arange(6), np.arange(6))) / 2.5)
    names = [f"{m[:8]} {t.split()[0]}" for m in MODELS for t in TAPS]
    steps = np.logspace(-6, 2, 45)
    paths = [0.8 - 0.02 * (np.log10(steps) + 2 + m) ** 2 for m in range(2)]
    rng = np.random.default_rng(2)
    rows = [
        (m, t, k, a, a - 0.02, a + 0.02, 1200)
        for m in MODELS
        for t in TAPS
        for k, a in (("probe", rng.uniform(0.4, 0.9)), ("kNN", rng.uniform(0.3, 0.8)))
    ]
    return Section(
        key="layers",
        title="Which layer holds most?",
        source="visus.studies.transfer.layers",
        findings=(
            Finding(
                "The late layer of vit_small_patch16_224.augreg_in1k leads that of effnet-lite0 by 5.0 points (2.1 to 7.9).",
                shows=("accuracy",),
            ),
            Finding("Accuracy rises with depth in both: early layers give 41.0 and 46.0 %.", shows=("accuracy", "cka")),
            Finding("Full training against the head: undecided (+0.7, -1.9 to 3.2).", ("difference",), kind="undecided"),
            Finding(
                "A probe on shuffled labels reaches 21.0 %: the features alone do not explain the score.", kind="caution"
            ),
        ),
        metrics=tuple(metrics),
        tables=(
            Table(
                key="accuracy",
                title="Accuracy of frozen features",
                columns=(
                    Column("model", "model"),
                    Column("layer", "layer"),
                    Column("readout", "readout"),
                    Column("accuracy", "accuracy", "share", better="higher"),
                    Column("low", "low", "share"),
                    Column("high", "high", "share"),
                    Column("n", "n"),
                ),
                rows=rows,
                note="Top-1 on the test split; low and high bound the 95 % Wilson interval.",
            ),
        ),
        figures=(
            Intervals(
                key="accuracy", title="Accuracy rises with depth",
                caption="Top-1 accuracy of a linear probe on 1,200 test images; whiskers are 95 % Wilson intervals.",
                x_label="layer", y_label="top-1 accuracy", unit="share", groups=groups,
                reference=(Reference("chance", 0.083), Reference("probe on shuffled labels", 0.21)),
            ),
            Heatmap(
                key="cka", title="Similarity of layers", caption="Linear CKA with the unbiased estimator; independent features score 0.",
                values=cka, rows=names, columns=names, label="CKA", low=0.0, high=1.0,
            ),
            Lines(
                key="path", title="The probe's path", caption="Validation accuracy over 45 penalties; the band is a 95 % interval.",
                x_label="penalty λ", y_label="validation accuracy", unit="share", x_log=True,
                series=[
                    Series(name=model, x=steps, y=y, low=y - 0.02, high=y + 0.02)
                    for model, y in zip(MODELS, paths, strict=True)
                ],
                marks=(Mark("chosen", 1e-2),),
            ),
        ),
    )  # fmt: skip


def maps(n: int, count: int, classes: tuple[str, ...]) -> Section:
    """`count` maps of n points that share thumbnails, and a grid of two."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, len(classes), n)
    centres = rng.normal(size=(len(classes), 2)) * 4
    thumbs = thumbnails(n)
    points = [
        (centres[labels] + rng.normal(size=(n, 2)) * (4.5 - 0.7 * i)).astype(np.float32) for i in range(max(count, 1))
    ]
    figures = [
        Map(
            key=f"map-{i}", title=f"{MODELS[i % 2]}, {TAPS[i // 2 % 3]}", caption="t-SNE of 50 principal components, perplexity 30.",
            points=points[i], labels=labels, classes=classes, ids=[f"emoji/{k:04d}.png" for k in range(n)], sprite=thumbs,
            trust={"trustworthiness": 0.81 + 0.03 * i, "neighbours_kept": 0.2 + 0.06 * i},
        )
        for i in range(count)
    ]  # fmt: skip
    panels = [
        MapPanel(row="trained", column=column, points=points[0], trust={"trustworthiness": 0.9})
        for column in ("before", "after")
    ]
    grid = Maps(key="maps", title="Before and after", panels=panels, labels=labels, classes=classes)
    return Section(
        key="maps",
        title="What lies together?",
        source="visus.studies.transfer.maps",
        findings=(Finding("Images of one class lie together in the late layer.", shows=("map-0", "maps")),),
        figures=(*figures, grid),
    )


def mistakes(classes: tuple[str, ...]) -> Section:
    """A gallery, and a table longer than the page shows at once."""
    rng = np.random.default_rng(3)
    recall = [
        (f"{c} {i}" if i >= len(classes) else c, int(rng.integers(40, 90)), rng.uniform(), rng.uniform())
        for i, c in enumerate(classes * 4)
    ]
    by_model = [Column(f"recall-{m}", model, "share", better="higher") for m, model in enumerate(MODELS)]
    return Section(
        key="mistakes",
        title="What is confused?",
        source="visus.studies.transfer.predictions",
        findings=(Finding("cat & dog is taken for bird more often than the other way round.", shows=("confused", "recall")),),
        tables=(
            Table(key="recall", title="Recall by class", columns=(Column("class", "class"), Column("n", "n"), *by_model), rows=recall),
        ),
        figures=(
            Gallery(
                key="confused", title="Most confused pairs",
                caption="Test images that the late probe of effnet-lite0 takes for another class, most certain first.",
                images=thumbnails(12, 48), captions=[f"emoji/{i:04d}.png\np = {0.98 - i / 50:.2f}" for i in range(12)],
                groups=["cat & dog taken for bird"] * 6 + ["hand taken for tool"] * 6,
            ),
        ),
    )  # fmt: skip


def training() -> Section:
    """Curves and a front."""
    epochs = np.arange(1, 9)
    panels = [
        CurvePanel(
            title=model,
            series=(Series(name="validation", x=epochs, y=(y := 0.5 + 0.04 * m + 0.3 * (1 - 0.7**epochs))),),
            marks=(Mark("best epoch", 8, float(y[-1])),),
        )
        for m, model in enumerate(MODELS)
    ]
    regimes = {"probe": (3.1e12, 0.84), "head": (3.3e12, 0.834), "last block": (4.1e13, 0.881), "full": (9.2e14, 0.915)}
    points = [FrontPoint(label=r, group=MODELS[0], y=y, low=y - 0.02, high=y + 0.02) for r, (_, y) in regimes.items()]
    panel = FrontPanel(
        x_label="training FLOPs", x=[x for x, _ in regimes.values()], front=(True, False, True, True), si=True
    )
    return Section(
        key="training",
        title="What does training buy?",
        source="visus.studies.transfer.regimes",
        figures=(
            Curves(
                key="learning",
                title="Learning",
                x_label="epoch",
                y_label="validation accuracy",
                unit="share",
                panels=panels,
            ),
            Front(
                key="front",
                title="Cost and worth",
                y_label="test accuracy",
                unit="share",
                points=points,
                panels=(panel,),
            ),
        ),
    )


def sample(n: int = 800, count: int = 6, classes: tuple[str, ...] = CLASSES) -> Result:
    """A Result with `count` maps of n points and every other kind of figure."""
    late = [key_of(m, "late", "probe", "accuracy") for m in MODELS]
    rng = np.random.default_rng(4)
    return Result(
        study="transfer",
        title="How good are the features of two models on 4,800 emoji by an unseen hand?",
        answer="The late features name 84 of 100 images; training them further shows no clear gain.",
        headline=(*late, "difference", "seconds"),
        sections=(layers(), training(), mistakes(classes), maps(n, count, classes)),
        warnings=(
            "The penalty chosen for effnet-lite0 lies at the edge of the path; a wider path may change its accuracy.",
            "3 images were set aside; see the table of images that could not be used.",
        ),
        notes=("labels: column `label`, 4,800 of 4,803 rows matched",),
        predictions={
            "id": np.array([f"emoji/{k:04d}.png" for k in range(20)]),
            "label": rng.integers(0, 12, 20),
            "confidence": rng.uniform(size=20),
        },
        provenance={
            "command": "visus transfer --model visus:effnet-lite0 --model timm:vit_small_patch16_224.augreg_in1k --images visus:emoji --seed 0",
            "models": {m: f"xxh128:{i}f3a9c27e5b1d4480" for i, m in enumerate(MODELS)},
            "images": "visus:emoji",
            "seed": 0,
            "device": "cpu",
            "taps": TAPS,
            "versions": {"visus": "0.1.0", "torch": "2.15.0", "numpy": "2.4.1"},
            "wall_seconds": 151.3,
        },
    )
