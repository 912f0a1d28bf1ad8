"""The gap, retrieval and the sweep as metrics and tables."""

from __future__ import annotations

from collections.abc import Iterator

from visus.result import Column, Metric, Table, key_of
from visus.studies.clip.gap.measure import GapMeasures, SpaceGap
from visus.studies.clip.gap.retrieval import Retrieval


def space_key(m: GapMeasures, space: SpaceGap, what: str) -> str:
    """Of a number of the space, or of its control."""
    return key_of(m.space.name, *(() if space is m.space else ("random weights",)), "gap", what)


def recall_key(m: GapMeasures, way: str, k: int) -> str:
    """Of recall@k, 'image to text' or 'text to image'."""
    return key_of(m.space.name, "retrieval", way, f"recall@{k}")


def closed_key(m: GapMeasures, what: str) -> str:
    """Of what closing the gap comes to."""
    return key_of(m.space.name, "gap", "closed", what)


def metrics(m: GapMeasures) -> tuple[Metric, ...]:
    """Distance, cosines and separability of the space and of its control; recall; what closing the gap changes."""
    return (*_spaces(m), *_recalls(m), *_closing(m))


def _spaces(m: GapMeasures) -> Iterator[Metric]:
    for x in m.spaces:
        distance, paired, unpaired = (space_key(m, x, what) for what in ("centroid-distance", "paired", "unpaired"))
        of = f" of {x.name}"
        yield Metric(
            distance, x.centroid_distance, n=x.n, better="lower", split=m.split, label="centroid distance" + of
        )
        yield Metric(paired, x.paired, n=x.n, better="higher", split=m.split, label="cosine of pairs" + of)
        yield Metric(unpaired, x.unpaired, n=x.n, better="lower", split=m.split, label="cosine of others" + of)
        yield x.separable.metric(
            space_key(m, x, "separable"), label="modality told by a line" + of, better=None, split=m.split
        )


def _recalls(m: GapMeasures) -> Iterator[Metric]:
    for one in m.retrieval:
        for r in one.recalls:
            yield r.recall.metric(recall_key(m, one.way, r.k), label=f"recall@{r.k}, {one.way}", split=m.split)


def _closing(m: GapMeasures) -> Iterator[Metric]:
    closed = m.sweep.closed
    yield m.sweep.change.metric(closed_key(m, "change"), closed.score.n)
    yield Metric(
        closed_key(m, "loss"), closed.loss, n=m.sweep.loss_pairs, unit="nats", better="lower", split=m.split, label="loss, gap closed"
    )  # fmt: skip


def tables(m: GapMeasures) -> tuple[Table, ...]:
    """The gap, retrieval where texts are no class names, and the sweep."""
    return (_gap(m), *([_retrieval(m.retrieval)] if m.retrieval else []), _sweep(m))


def _gap(m: GapMeasures) -> Table:
    return Table(
        key="gap",
        title="The gap between images and texts",
        columns=(
            Column("space", "space"), Column("centroid_distance", "centroid distance"), Column("cosine_paired", "cosine of pairs"),
            Column("cosine_unpaired", "cosine of others"), Column("separable", "separable", "share"),
            Column("cosine_images", "cosine among images"), Column("cosine_texts", "cosine among texts"),
            Column("cone_images", "cone of images", "°"), Column("cone_texts", "cone of texts", "°"),
            Column("distance_raw", "distance without L2"), Column("norm_images", "norm of images"),
            Column("norm_texts", "norm of texts"), Column("n", "n"),
        ),
        rows=[
            (
                x.name, x.centroid_distance, x.paired, x.unpaired, x.separable.value, x.images.cosine, x.texts.cosine, x.images.angle,
                x.texts.angle, x.raw.centroid_distance, x.raw.image_norm, x.raw.text_norm, x.n,
            )
            for x in m.spaces
        ],
        note="On unit vectors (0: the centroids meet; at most 2), after Liang et al. 2022. Cosine of others: "
        "of images with texts that say something else. Separable: accuracy of a linear classifier of the modality on held-out pairs, with "
        "other texts and images where there are several (50 %: it cannot tell). Cone: mean angle to the modality's own centroid; it and the cosines "
        "among images and among texts take each image and each text once.",
    )  # fmt: skip


def _retrieval(found: tuple[Retrieval, ...]) -> Table:
    return Table(
        key="retrieval",
        title="Retrieval",
        columns=(
            Column("way", "way"), Column("k", "k"), Column("recall", "recall@k", "share"), Column("low", "low", "share"),
            Column("high", "high", "share"), Column("chance", "chance", "share"), Column("random_weights", "random weights", "share"),
            Column("candidates", "candidates"), Column("partners", "right ones", digits=1), Column("n", "n"),
        ),
        rows=[
            (
                one.way, r.k, r.recall.value, r.recall.low, r.recall.high, r.chance, r.control, one.candidates, one.partners, r.recall.n
            )
            for one in found
            for r in one.recalls
        ],
        note="A query is right when any of its partners is among the first k (right ones: how many it has, on average; each image and text once). "
        "low, high: 95 % Wilson intervals, by the design effect of queries that share an image or a text. Equal scores of others count against it.",
    )  # fmt: skip


def _sweep(m: GapMeasures) -> Table:
    sweep = m.sweep
    loss = "sigmoid" if sweep.sigmoid else "symmetric InfoNCE"
    return Table(
        key="gap-shift",
        title="Moved together and apart",
        columns=(
            Column("moved", "moved"), Column("centroid_distance", "centroid distance"), Column("loss", "contrastive loss", "nats"),
            Column("score", sweep.score, "share"), Column("low", "low", "share"), Column("high", "high", "share"),
        ),
        rows=[(s.shift, s.centroid_distance, s.loss, s.score.value, s.score.low, s.score.high) for s in sweep.steps],
        note="0: as trained; 1: the centroids meet; below 0: moved apart. Moved by shares of the difference of centroids, half on each side, then "
        f"scaled to unit length (Liang et al. 2022). low, high: 95 % Wilson intervals. Loss: {loss} at "
        f"scale {sweep.scale:.1f} over {sweep.loss_pairs:,} pairs, those of one text or one image not held against each other.",
    )  # fmt: skip
