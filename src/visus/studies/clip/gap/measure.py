"""The gap of a space beside random weights, both modalities in one map, and the sweep that moves them together and apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from visus import threads
from visus.images.thumbnails import thumbnails
from visus.measures.gap import modality_gap
from visus.measures.gap_shape import Cone, PairLoss, RawGap, cone_width, gap_shift, raw_gap
from visus.measures.maps import layer_maps
from visus.measures.retrieval import partner_ranks
from visus.measures.rows import unit_rows
from visus.studies.clip.gap.retrieval import Retrieval, measure_retrieval
from visus.studies.clip.pairs import PairedEmbeddings
from visus.studies.common.comparisons import Comparison, compare
from visus.studies.common.proportion import Proportion, of_value, proportion
from visus.studies.common.remembered import remembered

MAPPED = 750  # pairs on the maps, two points each
SIDE = 24
LOSS_PAIRS = 2000  # of which the sweep takes the loss, at most


@dataclass(frozen=True)
class SpaceGap:
    """One space, on unit vectors. centroid_distance: of the modalities, in [0, 2]. paired, unpaired: mean cosine of pairs and of others (NaN
    where all texts say the same). separable: share of held-out embeddings whose modality a linear classifier names. raw: without L2. n: pairs."""

    name: str
    centroid_distance: float
    paired: float
    unpaired: float
    separable: Proportion
    images: Cone
    texts: Cone
    raw: RawGap
    n: int


@dataclass(frozen=True)
class ShiftStep:
    """Both modalities moved by a share of the difference of their centroids. loss: contrastive, in nats. score: as `ShiftSweep` says."""

    shift: float
    centroid_distance: float
    loss: float
    score: Proportion


@dataclass(frozen=True)
class ShiftSweep:
    """score: what of ('zero-shot accuracy', or 'recall@1, image to text'). trained: the step that moves nothing; closed: the one that moves the
    centroids onto each other; change: of the score from one to the other. scale, sigmoid: of the loss; loss_pairs: over how many pairs."""

    score: str
    steps: tuple[ShiftStep, ...]
    trained: ShiftStep
    closed: ShiftStep
    change: Comparison
    scale: float
    sigmoid: bool
    loss_pairs: int


@dataclass(frozen=True)
class ModalityMap:
    """points: float32 [images + texts, 2] by one method. trust: how far to believe it, or {}."""

    method: str
    points: np.ndarray
    trust: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModalityMaps:
    """Images and texts together, each text once. labels: int64, 0 of an image and 1 of a text. sprite: uint8 [n, s, s, 3], or None."""

    maps: tuple[ModalityMap, ...]
    labels: np.ndarray
    ids: tuple[str, ...]
    sprite: np.ndarray | None
    images: int
    texts: int


@dataclass(frozen=True)
class GapMeasures:
    """control: the same network with random weights. retrieval: both ways, or () where texts are class names and labels say how well they are
    found."""

    space: SpaceGap
    control: SpaceGap | None
    retrieval: tuple[Retrieval, ...]
    sweep: ShiftSweep
    maps: ModalityMaps
    split: str
    seed: int

    @property
    def spaces(self) -> tuple[SpaceGap, ...]:
        """The space, and its control where there is one."""
        return (self.space,) if self.control is None else (self.space, self.control)


def measure(pairs: PairedEmbeddings, *, seed: int, control: PairedEmbeddings | None = None) -> GapMeasures:
    """control: the same with random weights."""
    named = pairs.texts_are_classes and bool(pairs.classifiers)
    return GapMeasures(
        space=measure_space(pairs, pairs.name, seed=seed),
        control=None if control is None else measure_space(control, "random weights", seed=seed),
        maps=measure_maps(pairs, seed=seed),
        sweep=measure_sweep(pairs, seed=seed),
        retrieval=() if named else measure_retrieval(pairs, control),
        split=pairs.split,
        seed=seed,
    )


def measure_space(pairs: PairedEmbeddings, name: str, *, seed: int) -> SpaceGap:
    """The gap after Liang et al. 2022, section 2; the classifier is fitted on other pairs than it is judged on."""
    gap = modality_gap(pairs.images, pairs.texts, keys=pairs.text_keys, image_keys=pairs.image_keys, seed=seed)
    at, first = pairs.first_pairs
    return SpaceGap(
        name,
        gap.centroid_distance,
        gap.paired,
        gap.unpaired,
        of_value(gap.separable, 2 * gap.held),
        cone_width(_each_once(pairs.images, at)),
        cone_width(_each_once(pairs.texts, first)),
        raw_gap(pairs.images, pairs.texts),
        gap.n,
    )


def _each_once(x: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The first row of every key; all rows where there is one key alone."""
    return x[np.sort(first)] if len(first) > 1 else x


def measure_maps(pairs: PairedEmbeddings, *, seed: int) -> ModalityMaps:
    """t-SNE and UMAP of a sample of images and of their texts, unit vectors."""
    once = np.sort(pairs.first_pairs[0])
    chosen = np.sort(once[np.random.default_rng(seed).permutation(len(once))[:MAPPED]])
    texts = chosen[np.sort(np.unique(pairs.text_keys[chosen], return_index=True)[1])]
    captions = [pairs.captions[int(i)] if pairs.captions else f"text {int(i)}" for i in texts]
    both = np.concatenate([unit_rows(pairs.images[chosen]), unit_rows(pairs.texts[texts])])
    made = remembered(layer_maps, both, seed=seed, threads=threads.count())
    maps = []
    for method, drawn in made.items():
        trust = (
            {"trustworthiness": drawn.trust.trustworthiness, "neighbours_kept": drawn.trust.neighbours_kept}
            if drawn.trust
            else {}
        )
        maps.append(ModalityMap(method, drawn.z, trust))
    return ModalityMaps(
        maps=tuple(maps),
        labels=np.repeat([0, 1], [len(chosen), len(texts)]),
        ids=(*(pairs.ids[int(i)] for i in chosen), *(f"text: {caption}" for caption in captions)),
        sprite=_sprite(pairs, chosen, len(texts)),
        images=len(chosen),
        texts=len(texts),
    )


def _sprite(pairs: PairedEmbeddings, chosen: np.ndarray, texts: int) -> np.ndarray | None:
    if pairs.imageset is None or pairs.rows is None:
        return None
    images = thumbnails(pairs.imageset, pairs.rows[chosen], SIDE)
    blank = np.full((texts, *images.shape[1:]), 255, np.uint8)
    blank[:, SIDE // 2 - 3 : SIDE // 2 + 3, 4:-4] = 60  # a dash stands for a text
    return np.concatenate([images, blank])


def measure_sweep(pairs: PairedEmbeddings, *, seed: int) -> ShiftSweep:
    """Both centroids moved together and apart: what becomes of accuracy and loss (Liang et al. 2022, figure 4)."""
    at, first = pairs.first_pairs
    classifier = pairs.classifier
    right: list[np.ndarray] = []

    def score(images: np.ndarray, texts: np.ndarray, along: Callable[[np.ndarray], np.ndarray]) -> float:
        if classifier is not None:
            right.append((images[at] @ along(classifier).T).argmax(1) == np.asarray(pairs.labels)[at])
        else:
            right.append(partner_ranks(images[at], texts[first], pairs.partners) < 1)
        return float(right[-1].mean())

    moved = gap_shift(
        pairs.images,
        pairs.texts,
        loss=PairLoss(pairs.scale, pairs.text_keys, pairs.image_keys, pairs.bias if pairs.sigmoid else None),
        score=score,
        most=LOSS_PAIRS,
        seed=seed,
    )
    steps = tuple(
        ShiftStep(step.shift, step.centroid_distance, step.loss, proportion(r))
        for step, r in zip(moved, right, strict=True)
    )
    trained, closed = (min(range(len(steps)), key=lambda i: abs(steps[i].shift - share)) for share in (0, 1))
    return ShiftSweep(
        score="recall@1, image to text" if classifier is None else "zero-shot accuracy",
        steps=steps,
        trained=steps[trained],
        closed=steps[closed],
        change=compare(right[closed], right[trained], names=("closed", "as trained"), seed=seed),
        scale=pairs.scale,
        sigmoid=pairs.sigmoid,
        loss_pairs=min(len(pairs), LOSS_PAIRS),
    )
