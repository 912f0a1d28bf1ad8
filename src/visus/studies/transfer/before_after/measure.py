"""From several sets of weights of one architecture to how far every layer moved, and which mistakes changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visus.errors import DataError
from visus.features import extract
from visus.measures.cka import unbiased_cka
from visus.measures.compare import PairedDifference, paired_bootstrap
from visus.measures.confusion_change import ConfusionChange, confusion_changes
from visus.measures.maps import layer_maps
from visus.measures.procrustes import align, unit_radius
from visus.measures.separability import silhouette_cosine
from visus.models import Backbone
from visus.models.tap import Tap
from visus.progress import task
from visus.studies.common.comparisons import Comparison, compare, family
from visus.studies.common.labelled_images import LabelledImages
from visus.studies.common.proportion import Proportion, of_value
from visus.studies.common.remembered import remembered
from visus.studies.common.taps import tap_label
from visus.studies.transfer.evaluation import Layer, LayerScore, evaluate_layer
from visus.studies.transfer.inputs import vectors
from visus.studies.transfer.options import FeatureOptions, ProbeOptions

MAP_POINTS, MAP_COLUMNS = 1000, 4
Scores = Mapping[tuple[str, str], LayerScore]  # by (network, tap)


@dataclass(frozen=True)
class LayerNumbers:
    """One layer of one network on the test images. known: evaluated elsewhere, where its cautions are given."""

    probe: Proportion
    knn: Proportion
    knn_k: int
    silhouette: float
    scatter: float
    penalty: float
    at_edge: bool
    known: bool


@dataclass(frozen=True)
class Move:
    """One layer of one network against the same layer of the first: after minus before on the same test images.

    probe: accuracy of the linear probe, Holm's p over all moves. silhouette: mean over images. cka: unbiased linear CKA of the two, NaN
    where either is constant.
    """

    after: str
    tap: str
    label: str
    probe: Comparison
    silhouette: PairedDifference
    cka: float


@dataclass(frozen=True)
class Mistakes:
    """How the mistakes of one judge (a probe or the networks' own classifiers) changed, those that fell the most first."""

    judge: str
    before: str
    after: str
    changes: tuple[ConfusionChange, ...]


@dataclass(frozen=True)
class StateMap:
    """t-SNE of one layer of one network, turned onto that of the first. points: float32 [n, 2]."""

    state: str
    label: str
    points: np.ndarray
    trust: Mapping[str, float]


@dataclass(frozen=True)
class StateMaps:
    """labels: int64 [n], of the images shown; dims: of the PCA before; notes: of the maps; seed."""

    maps: tuple[StateMap, ...]
    labels: np.ndarray
    dims: tuple[str, ...]
    notes: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class FeatureChange:
    """All that was measured of one model. states: names of its networks, the one that all are compared with first; random: those with random
    weights. taps: (name, label, depth in 0..1), from the input. layers: by (network, tap name)."""

    model: str
    n: int
    classes: tuple[str, ...]
    states: tuple[str, ...]
    random: frozenset[str]
    taps: tuple[tuple[str, str, float], ...]
    layers: Mapping[tuple[str, str], LayerNumbers]
    moves: tuple[Move, ...]
    mistakes: tuple[Mistakes, ...]
    maps: StateMaps | None = None

    @property
    def before(self) -> str:
        return self.states[0]

    @property
    def after(self) -> str:
        """The network that findings speak of: the first trained one after the first, else the first of all others."""
        return next((s for s in self.states[1:] if s not in self.random), self.states[1])

    def of(self, state: str) -> list[Move]:
        """The moves of one network, in order of depth."""
        return [m for m in self.moves if m.after == state]


@dataclass(frozen=True)
class BeforeAfterMeasures:
    """One change a model. cautions: what could not be compared."""

    changes: tuple[FeatureChange, ...]
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What was measured elsewhere. scores: (network, tap name) -> a score made with the same settings, which is not made again. answers:
    name -> int64 [n_test], what the classifiers themselves answered on the test images, the earlier one first."""

    scores: Scores
    answers: Mapping[str, np.ndarray]


def measure_change(
    images: LabelledImages, states: Mapping[str, Backbone], features: FeatureOptions, probe: ProbeOptions, known: Known
) -> FeatureChange:
    """Compare the features of one architecture under several sets of weights, layer by layer, on the same test images.

    states: name -> network, two or more; all are compared with the first, such as {'pretrained': ..., 'fine-tuned': ...,
    'random': ...}. A network that has Backbone.random is taken for a control and no mistakes are set against it. features.taps: names or
    aliases of the first network. probe.maps: whether to draw maps.

    Features come from the store where it has them; their fingerprints are taken anew, so that weights trained in place are
    never mistaken for those before. Raises DataError when there are fewer than two networks, when two are one object,
    when their taps differ in name, kind or shape, or when one of the valid images could not be decoded; SpecError for unknown taps.
    """
    chosen = same_taps(states, features.taps or ("early", "middle", "late"))
    if len(known.answers) == 1:
        raise DataError("the answers of one classifier were given; give those of an earlier and a later one, or none")
    if len(images.y) != len(images.valid_indices):
        raise DataError(
            f"{len(images.y)} labels for {len(images.valid_indices)} images; give the label of every valid image"
        )
    first = next(iter(states.values()))
    labels = {tap.name: tap_label(first, tap.name) for tap in chosen}
    scores, seen = _evaluated(images, states, labels, (features, replace(probe, controls=False)), known)
    names, n, n_classes = tuple(states), len(images.test_y), len(images.classes)
    random = frozenset(name for name, network in states.items() if network.random)
    last = chosen[-1].name
    late = {s: scores[s, last].probe.predictions for s in names if s == names[0] or s not in random}
    return FeatureChange(
        model=first.spec,
        n=n,
        classes=images.classes,
        states=names,
        random=random,
        taps=tuple((tap.name, labels[tap.name], tap.depth) for tap in chosen),
        layers={key: _numbers(s, n, known=key in known.scores) for key, s in scores.items()},
        moves=_moves(names, labels, scores, seen, images.test_y, seed=probe.seed),
        mistakes=(
            *_mistakes("classifier", known.answers, images.test_y, n_classes=n_classes),
            *_mistakes(f"probe, {labels[last]}", late, images.test_y, n_classes=n_classes),
        ),
        maps=_maps(names, labels, seen, images.test_y, seed=probe.seed) if probe.maps else None,
    )


def same_taps(states: Mapping[str, Backbone], names: Sequence[str]) -> tuple[Tap, ...]:
    """The taps of the first network, in order of depth; every other must have the same ones."""
    if len(states) < 2:
        raise DataError(f"{len(states)} networks to compare; give one before and at least one after")
    (before, first), *others = states.items()
    chosen = first.resolve(names)
    seen = {id(first.module): before}
    for name, network in others:
        if id(network.module) in seen:
            raise DataError(
                f"{seen[id(network.module)]!r} and {name!r} are one network object; copy it before training, so that both remain"
            )
        seen[id(network.module)] = name
        own = {tap.name: tap for tap in network.taps}
        for tap in chosen:
            if tap.name not in own:
                raise DataError(f"{name!r} has no tap {tap.name}, which {before!r} has; compare one architecture")
            other = own[tap.name]
            if (tap.kind, tap.shape) != (other.kind, other.shape):
                raise DataError(
                    f"tap {tap.name} is {tap.kind} {list(tap.shape)} in {before!r} but {other.kind} {list(other.shape)} in {name!r}; "
                    "compare one architecture at one image size"
                )
    return chosen


def _evaluated(
    images: LabelledImages,
    states: Mapping[str, Backbone],
    labels: Mapping[str, str],
    options: tuple[FeatureOptions, ProbeOptions],
    known: Known,
) -> tuple[dict[tuple[str, str], LayerScore], dict[tuple[str, str], np.ndarray]]:
    """The score of every layer of every network, and its vectors for the test images (of the others no more is needed)."""
    how, probe = options
    scores: dict[tuple[str, str], LayerScore] = {}
    seen: dict[tuple[str, str], np.ndarray] = {}
    with task("before and after", len(states) * len(labels)) as progress:
        for name, network in states.items():
            found = extract(
                images.imageset, network, list(labels), pool=how.pool, precision=how.precision, engine=how.engine, device=how.device
            )  # fmt: skip
            if missing := len(np.setdiff1d(images.valid_indices, found.rows)):
                raise DataError(
                    f"{name!r}: {missing} of the images to compare could not be decoded; leave them out of all networks"
                )
            for tap, label in labels.items():
                x, key = vectors(found, tap, images, pool=how.pool, seed=probe.seed), (name, tap)
                if key in known.scores:
                    scores[key] = _checked(known.scores[key], len(images.splits.test), key)
                else:
                    scores[key] = evaluate_layer(x, images, Layer(name, tap, label), probe)
                seen[key] = np.asarray(x[images.splits.test])
                progress.advance()
    return scores, seen


def _checked(score: LayerScore, n: int, key: tuple[str, str]) -> LayerScore:
    if len(score.probe.predictions) != n:
        raise DataError(
            f"the known score of {key[0]!r}, {key[1]}, has {len(score.probe.predictions)} test images, this split has {n}; use one split"
        )
    return score


def _numbers(s: LayerScore, n: int, *, known: bool) -> LayerNumbers:
    probe, knn = of_value(float(s.probe.top1), n), of_value(s.knn_top1, n)
    return LayerNumbers(probe, knn, s.knn_k, s.silhouette, s.scatter, s.probe.lambda_, s.probe.at_edge, known)


def _moves(
    names: Sequence[str],
    labels: Mapping[str, str],
    scores: Scores,
    seen: Mapping[tuple[str, str], np.ndarray],
    test_y: np.ndarray,
    *,
    seed: int,
) -> tuple[Move, ...]:
    before, *others = names
    apart = {key: silhouette_cosine(x, test_y).samples for key, x in seen.items()}
    right = {key: score.probe.predictions == test_y for key, score in scores.items()}
    keys = [(after, tap) for after in others for tap in labels]
    probes = family([compare(right[a, tap], right[before, tap], names=(a, before), seed=seed) for a, tap in keys])
    return tuple(
        Move(
            after=after,
            tap=tap,
            label=labels[tap],
            probe=probe,
            silhouette=paired_bootstrap(apart[after, tap], apart[before, tap], seed=seed),
            cka=unbiased_cka(seen[before, tap], seen[after, tap]),
        )
        for (after, tap), probe in zip(keys, probes, strict=True)
    )


def _mistakes(
    judge: str, predictions: Mapping[str, np.ndarray], test_y: np.ndarray, *, n_classes: int
) -> list[Mistakes]:
    """Which mistakes of the first set of predictions the others make more or less often."""
    if not predictions:
        return []
    (before, early), *others = predictions.items()
    return [
        Mistakes(judge, before, after, tuple(confusion_changes(test_y, early, late, n_classes=n_classes)))
        for after, late in others
    ]


def map_taps(taps: Sequence[str]) -> tuple[str, ...]:
    """The layers that are drawn: all while they fit side by side, else the first, the middle one and the last."""
    if len(taps) <= MAP_COLUMNS:
        return tuple(taps)
    return tuple(taps[i] for i in (0, (len(taps) - 1) // 2, len(taps) - 1))


def _maps(
    names: Sequence[str],
    labels: Mapping[str, str],
    seen: Mapping[tuple[str, str], np.ndarray],
    test_y: np.ndarray,
    *,
    seed: int,
) -> StateMaps:
    """Maps of the same test images for every network, each layer's turned onto that of the first network."""
    n = len(test_y)
    rng = np.random.default_rng(seed)
    shown = np.arange(n) if n <= MAP_POINTS else np.sort(rng.choice(n, MAP_POINTS, replace=False))
    taps = map_taps(list(labels))
    maps: list[StateMap] = []
    notes: dict[str, None] = {}
    dims: set[int | float | str] = set()
    frames: dict[str, np.ndarray] = {}
    with task("drawing maps before and after", len(names) * len(taps)) as progress:
        for state in names:
            for tap in taps:
                # One thread: a thousand points gain nothing from more, and the map is then the same on every machine.
                drawn = remembered(layer_maps, seen[state, tap][shown], methods=["tsne"], seed=seed, threads=1)["tsne"]
                # The first network's map is the frame into which all maps of its layer are turned.
                frame = frames.setdefault(tap, unit_radius(drawn.z))
                trust = {}
                if drawn.trust is not None:
                    trust = {
                        "trustworthiness": drawn.trust.trustworthiness,
                        "neighbours_kept": drawn.trust.neighbours_kept,
                    }
                maps.append(StateMap(state, labels[tap], align(drawn.z, frame).astype(np.float32), trust))
                notes |= dict.fromkeys(drawn.notes)
                dims.add(drawn.settings["pca"])
                progress.advance()
    return StateMaps(tuple(maps), test_y[shown], tuple(map(str, sorted(dims, key=str))), tuple(notes), seed)
