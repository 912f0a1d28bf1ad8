"""How far apart do images and texts lie, and does the distance matter? (P12, P5)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visus import threads
from visus.studies.common.schema1 import Figure, Table, format_cell
from visus.studies.common.sections import Part
from visus.studies.common.shared import interval_text, percent

if TYPE_CHECKING:
    from visus.measures.gap import Gap
    from visus.measures.gap_shape import Cone, RawGap
    from visus.studies.clip.pairs import Subject

MAPPED = 750  # pairs on the maps, two points each
SIDE = 24
AT = (1, 5, 10)
LOSS_PAIRS = 2000  # of which the sweep takes the loss, at most
NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Looked:
    """The gap of one space. gap on unit vectors; raw: without L2; cones: mean cosine and mean angle in degrees, of images and of texts."""

    name: str
    gap: Gap
    raw: RawGap
    cones: tuple[Cone, Cone]


def look(s: Subject, name: str, *, seed: int) -> Looked:
    """Measure one space."""
    from visus.measures.gap import modality_gap
    from visus.measures.gap_shape import cone_width, raw_gap

    assert s.texts is not None
    return Looked(
        name,
        modality_gap(s.images, s.texts, keys=s.text_keys, image_keys=s.image_keys, seed=seed),
        raw_gap(s.images, s.texts),
        (cone_width(_each_once(s.images, s.image_keys)), cone_width(_each_once(s.texts, s.text_keys))),
    )


def _each_once(x: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The first row of every key; all rows where there is one key alone."""
    first = np.unique(keys, return_index=True)[1]
    return x[np.sort(first)] if len(first) > 1 else x


def part(s: Subject, *, seed: int, untrained: Subject | None = None) -> Part:
    """Figures of the gap (beside random weights), both modalities in one map, and the sweep that moves them together and apart."""
    spaces = [look(s, s.name, seed=seed)]
    if untrained is not None:
        spaces.append(look(untrained, "random weights", seed=seed))
    maps, arrays = _maps(s, seed)
    sweep, table, told = _sweep(s, seed)
    said, tables = [_sentence(spaces), told], {"gap": _table(spaces)}
    if not s.named or not s.weights:
        found = retrieved(s)
        beside = retrieved(untrained) if untrained is not None else None
        tables["retrieval"] = _retrieval_table(found, beside)
        said.append(_retrieval_sentence(s, found))
    return Part(tuple(said), {**tables, "gap shift": table}, (*maps, *sweep), arrays)


@dataclass(frozen=True)
class Retrieved:
    """One way: ranks int64 [n] of the best partner of each query among so many candidates. partners: int64 [n], how many are right for each.
    groups: int64 [n], queries that share a partner, or a partner's partner."""

    way: str
    ranks: np.ndarray
    among: int
    partners: np.ndarray
    groups: np.ndarray


def retrieved(s: Subject) -> tuple[Retrieved, Retrieved]:
    """Ranks both ways over the whole set, each image and each text once; of several that belong to a query the first found counts."""
    from visus.measures.partners import connected_groups
    from visus.measures.retrieval import partner_ranks
    from visus.measures.rows import unit_rows

    assert s.texts is not None
    at, first = (np.unique(k, return_index=True)[1] for k in (s.image_keys, s.text_keys))
    images, texts = unit_rows(s.images[at]), unit_rows(s.texts[first])
    groups = connected_groups(s.image_keys, s.text_keys)
    there, back = s.partners, s.partners.T.tocsr()
    return (
        Retrieved("image to text", partner_ranks(images, texts, there), len(texts), _count(there), _tied(groups[at])),
        Retrieved("text to image", partner_ranks(texts, images, back), len(images), _count(back), _tied(groups[first])),
    )


def _count(partners: Any) -> np.ndarray:
    found: np.ndarray = np.asarray(partners.sum(axis=1)).reshape(-1).astype(np.int64)
    return found


def _tied(groups: np.ndarray) -> np.ndarray:
    """The groups, or each query by itself where one group holds more than half: it says nothing about which queries go together."""
    return groups if 2 * int(np.bincount(groups).max()) <= len(groups) else np.arange(len(groups))


def _retrieval_table(found: Sequence[Retrieved], beside: Sequence[Retrieved] | None) -> Table:
    from visus.measures.intervals import grouped_wilson
    from visus.measures.retrieval import chance_at

    rows = []
    for i, one in enumerate(found):
        for k in AT:
            if k > 1 and k >= one.among:
                continue
            right = one.ranks < k
            low, high = grouped_wilson(right, one.groups)
            random = None if beside is None else 100 * float((beside[i].ranks < k).mean())
            rows.append(
                (
                    one.way, k, 100 * float(right.mean()), 100 * low, 100 * high, 100 * chance_at(one.partners, one.among, k), random,
                    one.among, float(one.partners.mean()), len(one.ranks),
                )
            )  # fmt: skip
    return Table(
        ("way", "k", "recall@k, %", "low", "high", "chance, %", "random weights, %", "candidates", "right ones", "n"),
        tuple(rows),
        title="Retrieval",
        digits=1,
        note="A query is right when any of its partners is among the first k (right ones: how many it has, on average; each image and text once). "
        "low, high: 95 % Wilson intervals, by the design effect of queries that share an image or a text. Equal scores of others count against it.",
    )


def _retrieval_sentence(s: Subject, found: Sequence[Retrieved]) -> str:
    there, back = found
    own, of = ("an image's own text", "the image of a text")
    if there.partners.max() > 1:
        own = "one of an image's own texts"
    if back.partners.max() > 1:
        of = "an image of a text"
    return f"{s.name} finds {own} {_found(there)}; {of} {_found(back, short=True)}."


def _found(one: Retrieved, *, short: bool = False) -> str:
    """'among 500 at once for 40.0 % and in the first ten for 80.0 %'; the ten only where there are more."""
    first = f"among {one.among:,} {'' if short else 'at once '}for {percent(float((one.ranks < 1).mean()))}"
    if one.among <= 10:
        return first
    return f"{first} and {'' if short else 'in the first ten for '}{percent(float((one.ranks < 10).mean()))}"


def _table(spaces: Sequence[Looked]) -> Table:
    rows = []
    for x in spaces:
        images, texts = x.cones
        rows.append(
            (
                x.name, x.gap.centroid_distance, x.gap.paired, x.gap.unpaired, 100 * x.gap.separable, images.cosine, texts.cosine, images.angle,
                texts.angle, x.raw.centroid_distance, x.raw.image_norm, x.raw.text_norm, x.gap.n,
            )
        )  # fmt: skip
    return Table(
        (
            "space", "centroid distance", "cosine of pairs", "cosine of others", "separable, %", "cosine among images", "cosine among texts",
            "cone of images, °", "cone of texts, °", "distance without L2", "norm of images", "norm of texts", "n",
        ),
        tuple(rows),
        title="The gap between images and texts",
        note="On unit vectors (0: the centroids meet; at most 2), after Liang et al. 2022. Cosine of others: "
        "of images with texts that say something else. Separable: accuracy of a linear classifier of the modality on held-out pairs, with "
        "other texts and images where there are several (50 %: it cannot tell). Cone: mean angle to the modality's own centroid; it and the cosines "
        "among images and among texts take each image and each text once.",
    )  # fmt: skip


def _maps(s: Subject, seed: int) -> tuple[list[Figure], dict[str, np.ndarray]]:
    """t-SNE and UMAP of images and texts together, each text once."""
    from visus.measures.maps import layer_maps
    from visus.measures.rows import unit_rows

    assert s.texts is not None
    rng = np.random.default_rng(seed)
    once = np.sort(np.unique(s.image_keys, return_index=True)[1])
    chosen = np.sort(once[rng.permutation(len(once))[:MAPPED]])
    _, first = np.unique(s.keys[chosen], return_index=True)
    texts = chosen[np.sort(first)]
    x = np.concatenate([unit_rows(s.images[chosen]), unit_rows(s.texts[texts])])
    labels = np.repeat([0, 1], [len(chosen), len(texts)])
    said = [s.said[int(i)] if s.said else f"text {int(i)}" for i in texts]
    ids = [s.ids[int(i)] for i in chosen] + [f"text: {t}" for t in said]
    arrays: dict[str, np.ndarray] = {"modality": labels}
    data: dict[str, object] = {"labels": "modality", "classes": ["images", "texts"], "ids": ids, "sprite": None}
    if s.pictures is not None and s.rows is not None:
        data["sprite"] = "modality_pictures"
        arrays["modality_pictures"] = _thumbnails(s, chosen, len(texts))
    figures = []
    for method, drawn in layer_maps(x, seed=seed, threads=threads.count()).items():
        arrays[f"modality_{method}"] = drawn.z
        trust = (
            {"trustworthiness": drawn.trust.trustworthiness, "neighbours_kept": drawn.trust.neighbours_kept}
            if drawn.trust
            else None
        )
        figures.append(
            Figure(
                f"modality_{method}",
                "map",
                f"Images and texts in one map, {NAMES[method]}",
                f"{len(chosen):,} images and their {len(texts):,} texts, unit vectors, seed {seed}. A map of two modalities shows "
                "that they are apart, not how far: read the distance in the table.",
                {**data, "points": f"modality_{method}", "trust": trust},
            )
        )
    return figures, arrays


def _thumbnails(s: Subject, chosen: np.ndarray, texts: int) -> np.ndarray:
    from visus.images.thumbnails import thumbnails

    assert s.pictures is not None
    assert s.rows is not None
    images = thumbnails(s.pictures, s.rows[chosen], SIDE)
    blank = np.full((texts, *images.shape[1:]), 255, np.uint8)
    blank[:, SIDE // 2 - 3 : SIDE // 2 + 3, 4:-4] = 60  # a dash stands for a text
    return np.concatenate([images, blank])


def _sweep(s: Subject, seed: int) -> tuple[list[Figure], Table, str]:
    """Both centroids moved together and apart: what becomes of accuracy and loss (Liang et al. 2022, figure 4)."""
    from visus.measures import wilson
    from visus.measures.gap_shape import PairLoss, gap_shift
    from visus.measures.retrieval import partner_ranks
    from visus.studies.common.pairs import compare_right

    assert s.texts is not None
    weights = next(iter(s.weights.values()), None)
    at, first = (np.unique(k, return_index=True)[1] for k in (s.image_keys, s.text_keys))
    right: list[np.ndarray] = []

    def score(images: np.ndarray, texts: np.ndarray, along: Callable[[np.ndarray], np.ndarray]) -> float:
        if weights is not None and s.single:
            assert s.labels is not None
            right.append((images[at] @ along(weights).T).argmax(1) == s.labels[at])
        else:
            right.append(partner_ranks(images[at], texts[first], s.partners) < 1)
        return float(right[-1].mean())

    what = "zero-shot accuracy" if weights is not None and s.single else "recall@1, image to text"
    steps = gap_shift(
        s.images,
        s.texts,
        loss=PairLoss(s.scale, s.text_keys, s.image_keys, s.bias if s.sigmoid else None),
        score=score,
        most=LOSS_PAIRS,
        seed=seed,
    )
    bounds = [wilson(int(r.sum()), len(r)) for r in right]
    rows = [
        (p.shift, p.centroid_distance, p.loss, 100 * p.score, 100 * low, 100 * high)
        for p, (low, high) in zip(steps, bounds, strict=True)
    ]
    start, end = (min(range(len(steps)), key=lambda i: abs(steps[i].shift - share)) for share in (0, 1))
    at0, at1 = steps[start], steps[end]
    change = compare_right(right[end], right[start], names=("closed", "as trained"), seed=seed)
    table = Table(
        ("moved", "centroid distance", "contrastive loss, nats", f"{what}, %", "low", "high"),
        tuple(rows),
        title="Moved together and apart",
        note="0: as trained; 1: the centroids meet; below 0: moved apart. Moved by shares of the difference of centroids, half on each side, then "
        f"scaled to unit length (Liang et al. 2022). low, high: 95 % Wilson intervals. Loss: {'sigmoid' if s.sigmoid else 'symmetric InfoNCE'} at "
        f"scale {s.scale:.1f} over {min(len(s.images), LOSS_PAIRS):,} pairs, those of one text or one image not held against each other.",
        digits=3,
    )
    moved = "by how far images and texts are moved together (1: the centroids meet) or apart (below 0)"
    x = [p.shift for p in steps]
    band = [[100 * b[side] for b in bounds] for side in (0, 1)]
    figures = [
        _line("gap_shift", "Does the gap matter?", f"{what[0].upper()}{what[1:]} with 95 % Wilson intervals, {moved}.", f"{what}, %",
              {"name": s.name, "x": x, "y": [100 * p.score for p in steps], "low": band[0], "high": band[1]}),
        _line("gap_loss", "And the loss?", f"Contrastive loss of the pairs, {moved}.", "contrastive loss, nats",
              {"name": s.name, "x": x, "y": [p.loss for p in steps], "low": None, "high": None}),
    ]  # fmt: skip
    verdict = "closing the gap helps here" if change.low > 0 else "closing the gap costs accuracy here"
    if change.low <= 0 <= change.high:
        verdict = "no sign that the gap itself costs accuracy"
    told = (
        f"With the centroids moved onto each other (distance {at0.centroid_distance:.2f} to {at1.centroid_distance:.2f}) {what} goes from "
        f"{percent(at0.score)} to {percent(at1.score)} ({100 * change.difference:+.1f} points, 95 % interval {100 * change.low:+.1f} to "
        f"{100 * change.high:+.1f}) and the loss from {at0.loss:.2f} to {at1.loss:.2f} nats: {verdict}."
    )
    return figures, table, told


def _line(name: str, title: str, caption: str, label: str, series: Mapping[str, object]) -> Figure:
    marks = [{"label": "as trained", "x": 0.0}, {"label": "closed", "x": 1.0}]
    data = {"x_label": "share of the gap closed", "y_label": label, "x_log": False, "y_log": False, "series": [series], "marks": marks}  # fmt: skip
    return Figure(name, "lines", title, caption, data)


def _sentence(spaces: Sequence[Looked]) -> str:
    from visus.measures import wilson

    x = spaces[0]
    images, texts = x.cones
    low, high = wilson(round(x.gap.separable * 2 * x.gap.held), 2 * x.gap.held)
    before = f" (with random weights {spaces[1].gap.centroid_distance:.2f})" if len(spaces) > 1 else ""
    return (
        f"Images and texts of {x.name} lie {x.gap.centroid_distance:.2f} apart{before}: a pair's cosine is {x.gap.paired:.2f}, others' "
        f"{format_cell(x.gap.unpaired, 2)}; a line tells the two apart with {percent(x.gap.separable)} accuracy "
        f"({interval_text(low, high)}); images stand in a cone of {images.angle:.0f}°, "
        f"texts of {texts.angle:.0f}°."
    )
